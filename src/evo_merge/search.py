"""The loop: ask, decode, evaluate, tell, record. Resuming is the same loop, which finds in the study what is known already."""

import itertools
import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any

from threadpoolctl import threadpool_limits

from evo_merge.archive import record_archive
from evo_merge.errors import ConfigError
from evo_merge.optimizers.base import Optimizer
from evo_merge.pareto import Front
from evo_merge.racing.race import Race, in_full, told
from evo_merge.ranking import count_evaluated, free_recipes, front_candidates
from evo_merge.recipe import recipe_hash
from evo_merge.recorded import Recorded
from evo_merge.spaces.base import MergeSpace
from evo_merge.study import Study
from evo_merge.study_records import Proposal
from evo_merge.tasks.base import Portion
from evo_merge.trackers.base import Candidate, Generation, SearchStart, Tracker

log = logging.getLogger(__name__)
_LOGGED = "logged_generations"  # of each stage
_MAX_IDLE = 100  # generations in a row without a new recipe; free as they are, no other limit would ever end them


@dataclass(frozen=True, slots=True)
class Budget:
    """When a search ends: at the first of these that is reached, between generations. ``None`` is no limit.

    Attributes:
        evaluations: Candidates proposed and evaluated; repeats of a known recipe are free.
        generations: Rounds of ask and tell.
        minutes: Time spent on the run, over all its sessions.
        patience: Generations without a better candidate; of several objectives, without one that none dominates.
    """

    evaluations: int | None = None
    generations: int | None = None
    minutes: float | None = None
    patience: int | None = None

    def __post_init__(self) -> None:
        limits = {name: getattr(self, name) for name in ("evaluations", "generations", "minutes", "patience")}
        for name, value in limits.items():
            if value is not None and not value > 0:
                raise ConfigError(f"budget.{name} must be above 0 or null, got {value}")
        if all(value is None for value in limits.values()):
            raise ConfigError(
                "the budget has no limit; set budget.evaluations, budget.generations, budget.minutes or budget.patience"
            )


@dataclass(frozen=True)
class Run:
    """What the searches of a run share.

    Attributes:
        study: The run's memory.
        trackers: Who hears of every candidate.
        start: What trackers are told before each search, but for what is the search's own.
        rounds: Counts the generations of all searches.
    """

    study: Study
    trackers: Sequence[Tracker]
    start: Callable[..., SearchStart]
    rounds: Iterator[int] = field(default_factory=itertools.count)


@dataclass(frozen=True)
class Stage:
    """One search of a run: which box, who proposes, who scores.

    Attributes:
        name: Empty where the run has only one.
        space: The box.
        optimizer: Proposes genomes of it.
        evaluator: Scores the recipes.
        portion: What the candidates of a generation are asked, by its number.
        objectives: Names of what the optimizer is told.
        race: Stops the candidates that are out of the best of their generation; ``None`` asks all of them everything.
    """

    name: str
    space: MergeSpace
    optimizer: Optimizer
    evaluator: Recorded
    portion: Callable[[int], Portion]
    objectives: tuple[str, ...]
    race: Race | None = None


class Search:
    """The loop of one stage, which may be left and entered again.

    Attributes:
        stage: What it searches.
        front: The best candidates so far: one, or those that none dominates where there are several objectives.
    """

    def __init__(self, stage: Stage, run: Run) -> None:
        self.stage, self._run = stage, run
        self.front: Front[Candidate] = Front()
        self._number = 0  # of the next generation
        self._best_generation = 0
        self._n_evaluated = 0
        self._n_idle = 0  # generations in a row without a new recipe
        proposals = run.study.proposals()
        self._recorded = {proposal.generation for proposal in proposals if proposal.stage == stage.name}
        self._n_told = _n_told(proposals, is_raced=stage.race is not None)
        self._known = {(digest, "search") for digest in free_recipes(run.study)}  # they were asked the whole split

    def advance(self, budget: Budget) -> None:
        """Run generations until the budget of the stage is spent; everything found is in the study.

        Raises:
            Interrupted: The user asked to stop.
            StudyError: A resumed run does not propose what it proposed before.
        """
        self._begin(budget.evaluations)
        self._repeat()  # a generation that was begun before a resume is always finished, whatever the budget says now
        while not self._spent(budget):
            if self._n_idle >= _MAX_IDLE:
                log.warning("the search ends: the last %d generations proposed nothing new", self._n_idle)
                break
            self._generation()
        record_archive(self._run.study, self.stage.optimizer, self.stage.name)

    def advance_to(self, generations: int) -> None:
        """Run generations until there are so many, and no further where a resumed run has more: others have their turn.

        Raises:
            Interrupted: The user asked to stop.
            StudyError: A resumed run does not propose what it proposed before.
        """
        self._begin(None)
        while self._number < generations:
            self._generation()

    def replay(self) -> None:
        """Run the generations that the study holds already, and no new one: a later stage builds on what they found.

        Raises:
            Interrupted: The user asked to stop.
            StudyError: A resumed run does not propose what it proposed before.
        """
        self._begin(None)
        self._repeat()

    def _repeat(self) -> None:
        while self._number in self._recorded:
            self._generation()

    def _begin(self, evaluations: int | None) -> None:
        study, stage = self._run.study, self.stage
        begin = self._run.start(
            stage=stage.name,
            objectives=stage.objectives,
            genes=stage.space.genes,
            evaluations=evaluations,
            evaluated=count_evaluated(study, stage.name),
            seconds=study.seconds,
            front=tuple(front_candidates(study, [stage.name])),
        )
        for tracker in self._run.trackers:
            tracker.start(begin)

    def _generation(self) -> None:
        study, trackers, stage, number = self._run.study, self._run.trackers, self.stage, self._number
        logged, count = f"{_LOGGED}/{stage.name}", next(self._run.rounds)
        portion = stage.portion(number)
        with _one_thread():
            genomes = stage.optimizer.ask()
            recipes = [stage.space.decode(genome) for genome in genomes]
        numbers = study.record_generation(stage.name, number, portion, list(genomes), recipes)
        if stage.race is None:
            outcomes = in_full(stage.evaluator, recipes, portion)
        else:
            outcomes = stage.race.outcomes(stage.evaluator, recipes, portion, numbers[0])
        candidates, heard = [], []
        for index, genome, recipe, outcome in zip(numbers, genomes, recipes, outcomes, strict=True):
            heard.append(outcome)
            if outcome.asked is not None:
                study.record_stop(index, outcome.asked)
            is_stopped = outcome.asked is not None and outcome.evaluation.failure is None
            key = (recipe_hash(recipe), portion.key)
            candidate = Candidate(
                number=index,
                stage=stage.name,
                generation=number,
                round=count,
                genome=genome,
                recipe=recipe,
                evaluation=outcome.evaluation,
                repeated=key in self._known,
                is_stopped=is_stopped,
            )
            self._n_evaluated += not candidate.repeated
            self._known.add(key)
            candidates.append(candidate)
            if index >= self._n_told:
                for tracker in trackers:
                    tracker.candidate(candidate)
            if not is_stopped and self.front.add(candidate, outcome.evaluation.fitness, outcome.evaluation.violation):
                self._best_generation = number
        with _one_thread():
            stage.optimizer.tell(genomes, told(heard))
        if number >= int(study.get(logged) or 0):
            for tracker in trackers:
                tracker.generation(Generation(number, count, candidates))
            study.set(logged, str(number + 1))
        self._n_idle = self._n_idle + 1 if all(candidate.repeated for candidate in candidates) else 0
        self._number += 1

    def _spent(self, budget: Budget) -> bool:
        return (
            (budget.evaluations is not None and self._n_evaluated >= budget.evaluations)
            or (budget.generations is not None and self._number >= budget.generations)
            or (budget.minutes is not None and self._run.study.seconds >= 60 * budget.minutes)
            or (budget.patience is not None and self._number - self._best_generation > budget.patience)
        )


def _one_thread() -> AbstractContextManager[Any]:
    """Linear algebra on one thread: several add up in another order, and a run would depend on how many there are."""
    return threadpool_limits(limits=1, user_api="blas")  # type: ignore[no-any-return]


def _n_told(proposals: Sequence[Proposal], *, is_raced: bool) -> int:
    """Number of the first candidate that the trackers have not heard of.

    Candidates are told of in order as they end, so that is the first that has not; those of a race end together.
    """
    first = next((proposal for proposal in proposals if not proposal.is_evaluated), None)
    if first is None:
        return len(proposals)
    if not is_raced:
        return first.number
    return next(p.number for p in proposals if (p.stage, p.generation) == (first.stage, first.generation))
