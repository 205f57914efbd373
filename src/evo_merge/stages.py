"""The searches of a run: a single one, or those of a hybrid, in parameter space first and then through layers.

The paper's hybrid (Akiba et al. 2024, section 3.3): merge in parameter space, put the result back among the models, search
paths through ordered pairs of them, keep the best.
"""

import itertools
import logging
import math
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np

from evo_merge.baselines import start_of
from evo_merge.errors import ConfigError
from evo_merge.genome import Gene
from evo_merge.optimizers.base import Optimizer
from evo_merge.pareto import knee
from evo_merge.racing.race import Race
from evo_merge.recipe import ModelReference, Recipe, Source
from evo_merge.search import Budget, Recorded, Run, Search, Stage
from evo_merge.seeds import child_seed
from evo_merge.spaces.base import Ingredients, MergeSpace
from evo_merge.spaces.data_flow import DataFlowSpace
from evo_merge.study import Entrant
from evo_merge.tasks.base import Portion, Task
from evo_merge.trackers.base import Candidate

log = logging.getLogger(__name__)
NewOptimizer = Callable[[Sequence[Gene], int], Optimizer]
NewSpace = Callable[[Ingredients, int], MergeSpace]
_CLEAR = 2.0  # standard errors by which a pair is behind when it is dropped


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
        return _most_candidates(budget, self._optimizer)

    def conduct(self, conditions: Conditions) -> list[Entrant]:
        """Run the search."""
        parts = (conditions.evaluator, conditions.portion, conditions.objectives, conditions.race)
        stage = Stage("", self._space, self._optimizer, *parts)
        Search(stage, conditions.run).advance(conditions.budget)
        return []


@dataclass(frozen=True)
class ParameterStage:
    """One search in parameter space, as a hybrid's config composes it; ``None`` is what the run itself has."""

    space: NewSpace
    optimizer: NewOptimizer | None
    task: Task | None
    budget: Budget | None


class Hybrid:
    """Searches in parameter space, then through the layers of ordered pairs of the sources and of what they found.

    Args:
        ingredients: The models.
        seed: Of the stages.
        new_optimizer: Makes the run's optimizer, for stages that name no other.
        parameter: The stages in parameter space by name: ``space`` and, each perhaps null, ``optimizer``, ``task``, ``budget``.
            A task of its own makes a stage search for what that task asks.
        data_flow: ``space`` and ``optimizer`` of the search through layers.
        pairs: Ordered pairs of names of sources and stages, model A first; ``None`` is all of them.
        trial: Generations after which pairs are dropped whose best is two standard errors below the leading pair's best.
        budget: Of each pair that is not dropped.
    """

    def __init__(
        self,
        ingredients: Ingredients,
        seed: int,
        new_optimizer: NewOptimizer,
        *,
        parameter: Mapping[str, Mapping[str, Any]],
        data_flow: Mapping[str, Any],
        pairs: Sequence[Sequence[str]] | None,
        trial: int,
        budget: Mapping[str, Any],
    ) -> None:
        if not parameter:
            raise ConfigError("merge.parameter is empty; a hybrid needs at least one stage in parameter space")
        if trial < 1:
            raise ConfigError(f"merge.trial must be at least 1, got {trial}")
        names = [source.name for source in ingredients.sources]
        if taken := [name for name in parameter if name in names or ">" in name or "/" in name]:
            raise ConfigError(f"merge.parameter: a stage cannot be called '{taken[0]}'; choose a name that no source has")
        self._ingredients, self._seed, self._new_optimizer = ingredients, seed, new_optimizer
        self._parameter = {name: _stage(name, options) for name, options in parameter.items()}
        self._data_flow = {
            "space": _part(data_flow.get("space"), "merge.data_flow.space", "merge"),
            "optimizer": _part(data_flow.get("optimizer"), "merge.data_flow.optimizer", "optimizer"),
        }
        self._trial = trial
        self._budget = _budget("merge.budget", budget)
        self._pairs = _checked_pairs(pairs, [*self._parameter, *names])
        self.spaces: Mapping[str, MergeSpace] = {
            name: stage.space(ingredients, child_seed(seed, f"merge/{name}")) for name, stage in self._parameter.items()
        }
        # What a pair's space is made of depends on no result but its name.
        self.spaces |= {_pair_name(*pair): self._pair_space(*pair, {}) for pair in self._pairs}
        # Whatever an optimizer refuses is refused now, not after the first stage.
        self.optimizers: Mapping[str, Optimizer] = {name: self._optimizer(name, space) for name, space in self.spaces.items()}

    @property
    def tasks(self) -> Mapping[str, Task]:
        """Tasks of stages that have one of their own."""
        return {name: stage.task for name, stage in self._parameter.items() if stage.task is not None}

    @property
    def final_stages(self) -> list[str]:
        """All that were searched on the run's task."""
        return [name for name in self.spaces if name not in self.tasks]

    @property
    def early_stages(self) -> list[str]:
        """Those in parameter space."""
        return list(self._parameter)

    @property
    def routes(self) -> list[tuple[str, ...]]:
        """The pairs."""
        return [*self._pairs]

    def most_candidates(self, budget: Budget) -> int | None:
        """As the budgets say, if no pair is dropped."""
        budgets = {name: stage.budget or budget for name, stage in self._parameter.items()}
        counts = [
            _most_candidates(budgets.get(name, self._budget), self._optimizer(name, space))
            for name, space in self.spaces.items()
        ]
        return None if None in counts else sum(count or 0 for count in counts)

    def conduct(self, conditions: Conditions) -> list[Entrant]:
        """Run the stages in parameter space, then the pairs."""
        results = {name: self._search_parameters(name, conditions) for name in self._parameter}
        searches = [self._pair_search(pair, results, conditions) for pair in self._pairs]
        for search in searches:
            search.advance_to(self._trial)
        hopeful = _hopeful(searches)
        for tracker in conditions.run.trackers:
            left = ", ".join(search.stage.name for search in hopeful)
            tracker.stage(f"{len(searches) - len(hopeful)} of {len(searches)} pairs dropped; left: {left}")
        for search in hopeful:
            search.advance(replace(self._budget, minutes=conditions.budget.minutes))  # which are those of the whole run
        return [Entrant("stage", f"{name}, parameter space alone", recipe) for name, recipe in results.items()]

    def _search_parameters(self, name: str, conditions: Conditions) -> Recipe:
        stage, space = self._parameter[name], self.spaces[name]
        optimizer = self._optimizer(name, space)
        evaluator = conditions.evaluator if stage.task is None else conditions.evaluator_of(name, stage.task)

        def portion(generation: int) -> Portion:
            # A task of its own has other problems, and so few stages of them that all are asked.
            return conditions.portion(generation) if stage.task is None else Portion("search", stage=name)

        own = None if stage.task is None else tuple(f"{name}/{each}" for each in stage.task.objectives)
        told = own or conditions.objectives
        search = Search(Stage(name, space, optimizer, evaluator, portion, told, conditions.race), conditions.run)
        if conditions.run.study.stages() - set(self._parameter):
            search.replay()  # paths run through its result, so that it has to stay what it was
        else:
            search.advance(replace(stage.budget or conditions.budget, minutes=conditions.budget.minutes))
        found = conditions.choose([name]) if stage.task is None else _knee_of(search.front.members)
        if found is None:
            raise ConfigError(f"no candidate of stage '{name}' could be built and scored; the reasons are in evo_merge.log")
        log.info("stage %s found %s", name, ModelReference(recipe=found.recipe))
        return found.recipe

    def _pair_search(self, pair: tuple[str, str], results: Mapping[str, Recipe], conditions: Conditions) -> Search:
        name, space = _pair_name(*pair), self._pair_space(*pair, results)
        optimizer = self._optimizer(name, space)
        parts = (conditions.evaluator, conditions.portion, conditions.objectives, conditions.race)
        stage = Stage(name, space, optimizer, *parts)
        return Search(stage, conditions.run)

    def _optimizer(self, name: str, space: MergeSpace) -> Optimizer:
        stage = self._parameter.get(name)
        new: NewOptimizer = self._data_flow["optimizer"] if stage is None else stage.optimizer or self._new_optimizer
        return new(space.genes, child_seed(self._seed, f"optimizer/{name}"))

    def _pair_space(self, a: str, b: str, results: Mapping[str, Recipe]) -> MergeSpace:
        known = {source.name: source for source in self._ingredients.sources}
        layers = dict(zip(known, self._ingredients.n_layers, strict=True))

        def source(name: str) -> Source:
            # A result has the shape of the models that were mixed, so before it is known any of them stands for it.
            place = ModelReference(recipe=results[name]) if name in results else next(iter(known.values())).reference
            return known.get(name) or Source(name, place)

        counts = tuple(layers.get(name, next(iter(layers.values()))) for name in (a, b))
        ingredients = Ingredients(None, (source(a), source(b)), (), self._ingredients.out_dtype, counts)
        space: MergeSpace = self._data_flow["space"](ingredients, child_seed(self._seed, f"merge/{_pair_name(a, b)}"))
        return space


def starts(program: Program) -> Iterator[Recipe]:
    """The recipe with every gene at its start, of every space that is known before the run."""
    return (start_of(space) for space in program.spaces.values())


def _hopeful(searches: Sequence[Search]) -> list[Search]:
    """Those whose best is not clearly below the best of all, in one objective at least.

    Where a pair has found what keeps to the constraints, those are dropped that have not.
    """
    # Not the study's candidates: of a resumed run that has what came after the trial too.
    fronts = {search.stage.name: search.front.members for search in searches}
    kept = {name for name, members in fronts.items() if members and members[0].evaluation.violation == 0}
    fronts = {name: members for name, members in fronts.items() if name in kept or not kept}
    objectives = next((members[0].evaluation.n_objectives for members in fronts.values() if members), 1)
    hopeful: set[str] = set()
    for objective in range(objectives):
        scores = {name: _best_score(members, objective) for name, members in fronts.items()}
        best, best_error = max(scores.values())
        hopeful |= {name for name, (score, error) in scores.items() if score + _CLEAR * math.hypot(error, best_error) >= best}
    for search in searches:
        if search.stage.name not in hopeful:
            log.info("pair %s is dropped: it is clearly behind the leading pair", search.stage.name)
    return [search for search in searches if search.stage.name in hopeful]


def _knee_of(members: Sequence[Candidate]) -> Candidate | None:
    """The best of a search; of several objectives the knee of its front."""
    if not members:
        return None
    fitness = np.stack([member.evaluation.fitness for member in members])
    return members[knee(fitness, fitness)]


def _best_score(members: Sequence[Candidate], objective: int) -> tuple[float, float]:
    """Greatest mean of an objective, and its standard error."""
    found = [(-math.inf, 0.0)]
    for member in members:
        column = member.evaluation.column(member.evaluation.metrics[objective])
        error = float(column.std(ddof=1) / math.sqrt(len(column))) if len(column) > 1 else 0.0
        found.append((float(column.mean()), error))
    return max(found)


def _most_candidates(budget: Budget, optimizer: Optimizer) -> int | None:
    # The first generation of an optimizer that goes no further, a plan's; some say that the later ones are others.
    size = getattr(optimizer, "generation_size", len(optimizer.ask()))
    if size is None:
        return budget.evaluations
    counts = [] if budget.evaluations is None else [size * math.ceil(budget.evaluations / size)]
    if budget.generations is not None:
        counts.append(budget.generations * size)
    return min(counts, default=None)


def _stage(name: str, options: Any) -> ParameterStage:
    where = f"merge.parameter.{name}"
    if not isinstance(options, Mapping):
        raise ConfigError(f"{where} must have options such as {where}.budget.evaluations=50, got {options!r}; leave it out")
    known = ("space", "optimizer", "task", "budget")
    if unknown := [key for key in options if key not in known]:
        raise ConfigError(f"merge.parameter.{name}: there is no option '{unknown[0]}'; there are {', '.join(known)}")
    if "space" not in options:
        raise ConfigError(f"merge.parameter.{name}.space is missing: +merge@merge.parameter.{name}.space=dare_ties")
    budget, task = options.get("budget"), options.get("task")
    if task is not None and not hasattr(task, "examples"):
        raise ConfigError(f"{where}.task must be a task: +task@{where}.task=question_answer; got {task!r}")
    return ParameterStage(
        space=_part(options["space"], f"{where}.space", "merge"),
        optimizer=None if options.get("optimizer") is None else _part(options["optimizer"], f"{where}.optimizer", "optimizer"),
        task=task,
        budget=None if budget is None else _budget(f"merge.parameter.{name}.budget", budget),
    )


def _part(value: Any, where: str, group: str) -> Any:
    """A part that the config composes and the program finishes; raises ``ConfigError`` for anything else."""
    if not callable(value):
        raise ConfigError(
            f"{where} must be one of the choices of {group}=, with {where}._partial_=true: "
            f"{group}@{where}=<choice> (with + before it where there is none yet); got {value!r}"
        )
    return value


def _budget(where: str, limits: Any) -> Budget:
    if not isinstance(limits, Mapping):
        raise ConfigError(f"{where} must have limits such as {where}.evaluations=50, got {limits!r}")
    known = ("evaluations", "generations", "patience")
    if "minutes" in limits:
        raise ConfigError(f"{where} takes no minutes; budget.minutes is for the whole run")
    if unknown := [key for key in limits if key not in known]:
        raise ConfigError(f"{where}: there is no limit '{unknown[0]}'; there are {', '.join(known)}")
    if odd := [key for key, value in limits.items() if value is not None and not _is_count(value)]:
        raise ConfigError(f"{where}.{odd[0]} must be a whole number above 0 or null, got {limits[odd[0]]!r}")
    try:
        return Budget(**limits)
    except ConfigError as error:
        raise ConfigError(f"{where}: {error}") from error


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0


def _checked_pairs(pairs: Sequence[Sequence[str]] | None, names: Sequence[str]) -> list[tuple[str, str]]:
    if pairs is None:
        return list(itertools.permutations(names, 2))
    checked = []
    for pair in pairs:
        if not isinstance(pair, list | tuple) or len(pair) != 2 or pair[0] == pair[1]:
            raise ConfigError(f"merge.pairs: a pair is two different names, [a, b], got {pair}")
        if unknown := [name for name in pair if name not in names]:
            raise ConfigError(f"merge.pairs: there is no model '{unknown[0]}'; there are {', '.join(names)}")
        checked.append((str(pair[0]), str(pair[1])))
    if not checked or len(set(checked)) != len(checked):
        raise ConfigError("merge.pairs must name at least one pair, and none twice; null is all of them")
    return checked


def _pair_name(a: str, b: str) -> str:
    return f"{a}>{b}"
