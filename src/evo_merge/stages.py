"""A hybrid: searches in parameter space first and then through layers.

The paper's hybrid (Akiba et al. 2024, section 3.3): merge in parameter space, put the result back among the models, search
paths through ordered pairs of them, keep the best.
"""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from evo_merge.errors import ConfigError
from evo_merge.hybrid_options import NewOptimizer, checked_pairs, own_budget, parameter_stage, part
from evo_merge.optimizers.base import Optimizer
from evo_merge.pairs import hopeful
from evo_merge.pareto import knee
from evo_merge.program import Conditions, most_candidates_of
from evo_merge.recipe import ModelReference, Recipe, Source
from evo_merge.search import Budget, Search, Stage
from evo_merge.seeds import child_seed
from evo_merge.spaces.base import Ingredients, MergeSpace
from evo_merge.study_records import Entrant
from evo_merge.tasks.base import Portion, Task
from evo_merge.trackers.base import Candidate

log = logging.getLogger(__name__)


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
        if ingredients.tokenizer is not None:
            raise ConfigError(
                "merge=hybrid runs layers of all models in one path, which is not possible yet with models.tokenizer; "
                "leave models.tokenizer=null, or search mixtures alone"
            )
        names = [source.name for source in ingredients.sources]
        if taken := [name for name in parameter if name in names or ">" in name or "/" in name]:
            raise ConfigError(f"merge.parameter: a stage cannot be called '{taken[0]}'; choose a name that no source has")
        self._ingredients, self._seed, self._new_optimizer = ingredients, seed, new_optimizer
        self._parameter = {name: parameter_stage(name, options) for name, options in parameter.items()}
        self._data_flow = {
            "space": part(data_flow.get("space"), "merge.data_flow.space", "merge"),
            "optimizer": part(data_flow.get("optimizer"), "merge.data_flow.optimizer", "optimizer"),
        }
        self._trial = trial
        self._budget = own_budget("merge.budget", budget)
        self._pairs = checked_pairs(pairs, [*self._parameter, *names])
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
            most_candidates_of(budgets.get(name, self._budget), self._optimizer(name, space))
            for name, space in self.spaces.items()
        ]
        return None if None in counts else sum(count or 0 for count in counts)

    def conduct(self, conditions: Conditions) -> list[Entrant]:
        """Run the stages in parameter space, then the pairs."""
        results = {name: self._search_parameters(name, conditions) for name in self._parameter}
        searches = [self._pair_search(pair, results, conditions) for pair in self._pairs]
        for search in searches:
            search.advance_to(self._trial)
        left = hopeful(searches)
        for tracker in conditions.run.trackers:
            names = ", ".join(search.stage.name for search in left)
            tracker.stage(f"{len(searches) - len(left)} of {len(searches)} pairs dropped; left: {names}")
        for search in left:
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
        return Search(conditions.stage(name, space, optimizer), conditions.run)

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


def _knee_of(members: Sequence[Candidate]) -> Candidate | None:
    """The best of a search; of several objectives the knee of its front."""
    if not members:
        return None
    fitness = np.stack([member.evaluation.fitness for member in members])
    return members[knee(fitness, fitness)]


def _pair_name(a: str, b: str) -> str:
    return f"{a}>{b}"
