"""What the searches of a run are, a single one or those of a hybrid (``stages.py``), and what they have in common."""

import math
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Protocol

from evo_merge.baselines import start_of
from evo_merge.optimizers.base import Optimizer
from evo_merge.racing.race import Race
from evo_merge.recipe import Recipe
from evo_merge.recorded import Recorded
from evo_merge.search import Budget, Run, Search, Stage
from evo_merge.spaces.base import MergeSpace
from evo_merge.spaces.data_flow import DataFlowSpace
from evo_merge.study_records import Entrant
from evo_merge.tasks.base import Portion, Task
from evo_merge.trackers.base import Candidate


@dataclass(frozen=True)
class Conditions:
    """What the stages of a run have in common.

    Attributes:
        run: Study and trackers.
        evaluator: Scores recipes on the run's task.
        evaluator_of: The evaluator of a stage's own task.
        portion: What the candidates of a generation are asked.
        objectives: Names of what the run's optimizers are told.
        budget: The run's.
        choose: The best candidate of some stages that were asked the run's task, by what the run chooses by.
        race: How generations are scored, where not in full.
    """

    run: Run
    evaluator: Recorded
    evaluator_of: Callable[[str, Task], Recorded]
    portion: Callable[[int], Portion]
    objectives: tuple[str, ...]
    budget: Budget
    choose: Callable[[Collection[str]], Candidate | None]
    race: Race | None = None

    def stage(self, name: str, space: MergeSpace, optimizer: Optimizer) -> Stage:
        """A search for what the run's task asks."""
        return Stage(name, space, optimizer, self.evaluator, self.portion, self.objectives, self.race)


class Program(Protocol):
    """The searches of a run.

    Attributes:
        spaces: The boxes by stage, as far as they are known before the run.
    """

    spaces: Mapping[str, MergeSpace]

    @property
    def tasks(self) -> Mapping[str, Task]:
        """Tasks of stages that have one of their own."""

    @property
    def final_stages(self) -> list[str]:
        """The stages among whose candidates the best is chosen."""

    @property
    def early_stages(self) -> list[str]:
        """The stages that others build on."""

    @property
    def optimizers(self) -> Mapping[str, Optimizer]:
        """Those of the stages, as they begin."""

    @property
    def routes(self) -> list[tuple[str, ...]]:
        """Names of the models, sources or stages, whose layers run in one path; empty where there are no paths."""

    def most_candidates(self, budget: Budget) -> int | None:
        """About how many candidates a budget lets through, the last generation whole; ``None`` where nothing counts them.

        Repeats are free, so there may be more; where generations grow the last may be larger than is known here.
        """

    def conduct(self, conditions: Conditions) -> list[Entrant]:
        """Run all searches; everything found is in the study.

        Returns:
            The best of each earlier stage, to be compared with the best of all.
        """


class SingleSearch:
    """One search in one space."""

    def __init__(self, space: MergeSpace, optimizer: Optimizer) -> None:
        self.spaces: Mapping[str, MergeSpace] = {"": space}
        self.tasks: Mapping[str, Task] = {}
        self._space, self._optimizer = space, optimizer

    @property
    def final_stages(self) -> list[str]:
        """The only one."""
        return [""]

    @property
    def early_stages(self) -> list[str]:
        """There is none."""
        return []

    @property
    def optimizers(self) -> Mapping[str, Optimizer]:
        """The only one."""
        return {"": self._optimizer}

    @property
    def routes(self) -> list[tuple[str, ...]]:
        """All models of the one space, where it is one of paths."""
        return [tuple(self._space.singles())] if isinstance(self._space, DataFlowSpace) else []

    def most_candidates(self, budget: Budget) -> int | None:
        """As the budget says."""
        return most_candidates_of(budget, self._optimizer)

    def conduct(self, conditions: Conditions) -> list[Entrant]:
        """Run the search."""
        Search(conditions.stage("", self._space, self._optimizer), conditions.run).advance(conditions.budget)
        return []


def starts(program: Program) -> Iterator[Recipe]:
    """The recipe with every gene at its start, of every space that is known before the run."""
    return (start_of(space) for space in program.spaces.values())


def most_candidates_of(budget: Budget, optimizer: Optimizer) -> int | None:
    """About how many candidates one search proposes, the last generation whole; ``None`` where nothing counts them."""
    # The first generation of an optimizer that goes no further, a plan's; some say that the later ones are others.
    size = getattr(optimizer, "generation_size", len(optimizer.ask()))
    if size is None:
        return budget.evaluations
    counts = [] if budget.evaluations is None else [size * math.ceil(budget.evaluations / size)]
    if budget.generations is not None:
        counts.append(budget.generations * size)
    return min(counts, default=None)
