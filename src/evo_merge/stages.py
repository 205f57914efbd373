"""The searches of a run: a single one, or those of a hybrid, in parameter space first and then through layers.

The paper's hybrid (Akiba et al. 2024, section 3.3): merge in parameter space, put the result back among the models, search
paths through ordered pairs of them, keep the best.
"""

import itertools
import logging
import math
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from evo_merge.baselines import start_of
from evo_merge.errors import ConfigError
from evo_merge.genome import Gene
from evo_merge.optimizers.base import Optimizer
from evo_merge.recipe import ModelReference, Recipe, Source
from evo_merge.search import Budget, Recorded, Run, Search, Stage
from evo_merge.seeds import child_seed
from evo_merge.spaces.base import Ingredients, MergeSpace
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
        budget: The run's.
        choose: The best candidate of some stages that were asked the run's task, by what the run chooses by.
    """

    run: Run
    evaluator: Recorded
    evaluator_of: Callable[[str, Task], Recorded]
    portion: Callable[[int], Portion]
    budget: Budget
    choose: Callable[[Collection[str]], Candidate | None]


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

    def conduct(self, conditions: Conditions) -> list[Entrant]:
        """Run the search."""
        stage = Stage("", self._space, self._optimizer, conditions.evaluator, conditions.portion)
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
        self._ingredients, self._seed, self._new_optimizer = ingredients, seed, new_optimizer
        self._parameter = {name: _stage(name, options) for name, options in parameter.items()}
        self._data_flow = data_flow
        self._trial = trial
        self._budget = _budget("merge.budget", budget)
        names = [source.name for source in ingredients.sources]
        if taken := [name for name in self._parameter if name in names or ">" in name or "/" in name]:
            raise ConfigError(f"merge.parameter: a stage cannot be called '{taken[0]}'; choose a name that no source has")
        self._pairs = _checked_pairs(pairs, [*self._parameter, *names])
        self.spaces: Mapping[str, MergeSpace] = {
            name: stage.space(ingredients, child_seed(seed, f"merge/{name}")) for name, stage in self._parameter.items()
        }
        # What a pair's space is made of depends on no result but its name.
        self.spaces |= {_pair_name(*pair): self._pair_space(*pair, {}) for pair in self._pairs}
        for name, space in self.spaces.items():
            self._optimizer(name, space)  # what it refuses is refused now, not after the first stage

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

    def conduct(self, conditions: Conditions) -> list[Entrant]:
        """Run the stages in parameter space, then the pairs."""
        results = {name: self._search_parameters(name, conditions) for name in self._parameter}
        searches = [self._pair_search(pair, results, conditions) for pair in self._pairs]
        for search in searches:
            search.advance_to(self._trial)
        for search in _hopeful(searches):
            search.advance(self._budget)
        return [Entrant("stage", f"{name}, parameter space alone", recipe) for name, recipe in results.items()]

    def _search_parameters(self, name: str, conditions: Conditions) -> Recipe:
        stage, space = self._parameter[name], self.spaces[name]
        optimizer = self._optimizer(name, space)
        evaluator = conditions.evaluator if stage.task is None else conditions.evaluator_of(name, stage.task)

        def portion(generation: int) -> Portion:
            # A task of its own has other problems, and so few stages of them that all are asked.
            return conditions.portion(generation) if stage.task is None else Portion("search", stage=name)

        search = Search(Stage(name, space, optimizer, evaluator, portion), conditions.run)
        search.advance(stage.budget or conditions.budget)
        found = conditions.choose([name]) if stage.task is None else search.leader
        if found is None:
            raise ConfigError(f"no candidate of stage '{name}' could be built and scored; the reasons are in evo_merge.log")
        log.info("stage %s found %s", name, ModelReference(recipe=found.recipe))
        return found.recipe

    def _pair_search(self, pair: tuple[str, str], results: Mapping[str, Recipe], conditions: Conditions) -> Search:
        name, space = _pair_name(*pair), self._pair_space(*pair, results)
        stage = Stage(name, space, self._optimizer(name, space), conditions.evaluator, conditions.portion)
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


def search_portion(n_examples: int, batch: int | None, seed: int) -> Callable[[int], Portion]:
    """What the candidates of a generation are asked: the search split, or as many of its examples, drawn anew each time."""
    if batch is None or batch >= n_examples:
        return lambda generation: Portion("search")

    def portion(generation: int) -> Portion:
        drawn = np.random.default_rng([seed, generation]).choice(n_examples, size=batch, replace=False)
        return Portion("search", tuple(sorted(drawn.tolist())))

    return portion


def starts(program: Program) -> Iterator[Recipe]:
    """The recipe with every gene at its start, of every space that is known before the run."""
    return (start_of(space) for space in program.spaces.values())


def _hopeful(searches: Sequence[Search]) -> list[Search]:
    """Those whose best is not clearly below the best of all."""
    scores = {}
    for search in searches:
        # Not the study's: of a resumed run that has what came after the trial too.
        column = np.asarray([-math.inf]) if search.leader is None else search.leader.evaluation.scores[:, 0]
        error = float(column.std(ddof=1) / math.sqrt(len(column))) if len(column) > 1 else 0.0
        scores[search.stage.name] = (float(column.mean()), error)
    best, best_error = max(scores.values())
    kept = []
    for search in searches:
        score, error = scores[search.stage.name]
        if score + _CLEAR * math.hypot(error, best_error) >= best:
            kept.append(search)
        else:
            log.info("pair %s is dropped: %.3f, and the leading pair has %.3f", search.stage.name, score, best)
    return kept


def _stage(name: str, options: Mapping[str, Any]) -> ParameterStage:
    known = ("space", "optimizer", "task", "budget")
    if unknown := [key for key in options if key not in known]:
        raise ConfigError(f"merge.parameter.{name}: there is no option '{unknown[0]}'; there are {', '.join(known)}")
    if "space" not in options:
        raise ConfigError(f"merge.parameter.{name}.space is missing: +merge@merge.parameter.{name}.space=dare_ties")
    budget = options.get("budget")
    return ParameterStage(
        space=options["space"],
        optimizer=options.get("optimizer"),
        task=options.get("task"),
        budget=None if budget is None else _budget(f"merge.parameter.{name}.budget", budget),
    )


def _budget(where: str, limits: Mapping[str, Any]) -> Budget:
    known = ("evaluations", "generations", "minutes", "patience")
    if unknown := [key for key in limits if key not in known]:
        raise ConfigError(f"{where}: there is no limit '{unknown[0]}'; there are {', '.join(known)}")
    try:
        return Budget(**limits)
    except ConfigError as error:
        raise ConfigError(f"{where}: {error}") from error


def _checked_pairs(pairs: Sequence[Sequence[str]] | None, names: Sequence[str]) -> list[tuple[str, str]]:
    if pairs is None:
        return list(itertools.permutations(names, 2))
    checked = []
    for pair in pairs:
        if isinstance(pair, str) or len(pair) != 2 or pair[0] == pair[1]:
            raise ConfigError(f"merge.pairs: a pair is two different names, [a, b], got {pair}")
        if unknown := [name for name in pair if name not in names]:
            raise ConfigError(f"merge.pairs: there is no model '{unknown[0]}'; there are {', '.join(names)}")
        checked.append((str(pair[0]), str(pair[1])))
    if not checked or len(set(checked)) != len(checked):
        raise ConfigError("merge.pairs must name at least one pair, and none twice; null is all of them")
    return checked


def _pair_name(a: str, b: str) -> str:
    return f"{a}>{b}"
