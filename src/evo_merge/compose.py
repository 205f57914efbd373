"""From a composed config to the parts of a run, checked against each other before any weight is read."""

import logging
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from hydra.utils import get_class, instantiate
from numpy.typing import NDArray
from omegaconf import DictConfig

from evo_merge.baselines import entrants
from evo_merge.config import RunSettings
from evo_merge.errors import ConfigError
from evo_merge.evaluation.generator import Generator, LoadsWeights
from evo_merge.evaluation.setup import new_pool, new_trainer
from evo_merge.findings import refusals, refuse, warnings
from evo_merge.genome import Gene
from evo_merge.models.building import check_buildable
from evo_merge.models.checks import kinds
from evo_merge.models.compatibility import NOT_MIXABLE, describe, for_mixing, in_memory, in_values, refuse_unroutable
from evo_merge.models.pool import Pool
from evo_merge.objectives import Aim, aim_of
from evo_merge.optimizers.base import Expects, Optimizer
from evo_merge.plan import Needs, needs_of
from evo_merge.portions import OfGeneration, disagreement_portion, fixed_portion, search_portion
from evo_merge.program import Program, SingleSearch, starts
from evo_merge.racing.race import Race
from evo_merge.recipe import ParameterSpaceRecipe, methods_of
from evo_merge.search import Budget
from evo_merge.seeds import child_seed
from evo_merge.spaces.base import Ingredients, MergeSpace
from evo_merge.stages import Hybrid
from evo_merge.study_records import Entrant
from evo_merge.tasks.base import SPLITS, Split, Task
from evo_merge.tasks.several import Several

log = logging.getLogger(__name__)
# A run that mixes weights reads all of them before its search, and says these things of the whole and not of a sample.
_MEASURED = frozenset(
    kind.name for kind in (kinds.SAME_AS_BASE, kinds.NOT_DESCENDED, kinds.FAR_FROM_BASE, kinds.NO_COMMON_ANCESTOR)
)
TAKE_SEVERAL = ("nsga2", "nsga3", "map_elites", "natural_niches", "random", "sobol")  # a test holds it against conf/


@dataclass(frozen=True)
class Parts:
    """What a config composes: everything that a run and its plan need, before any weight is read.

    Attributes:
        entrants: Who is scored beside the search.
    """

    settings: RunSettings
    budget: Budget
    task: Task
    aim: Aim
    pool: Pool
    ingredients: Ingredients
    program: Program
    entrants: tuple[Entrant, ...]
    generator: Generator
    trainer: Any

    @property
    def allowed_code(self) -> tuple[str, ...]:
        """Dotted names of methods from elsewhere that may run: those that the user allowed, and the config's own."""
        return (*self.settings.allow_code, *(name for recipe in starts(self.program) for name in methods_of(recipe)))

    @property
    def are_mixed(self) -> bool:
        """Whether the weights of the sources are mixed, so that it matters what they have in common."""
        return any(isinstance(recipe, ParameterSpaceRecipe) for recipe in starts(self.program))

    @property
    def needs(self) -> Needs:
        """What the run takes of the machine."""
        device = self.trainer.strategy.root_device
        needs = needs_of(self.pool, self.program.spaces.values(), self.task, self.generator.batch_size, device)
        return needs.with_engine(self.generator.cache_bytes) if isinstance(self.generator, LoadsWeights) else needs

    def portion(self, scores: Callable[[], NDArray[np.float64]]) -> OfGeneration:
        """What the candidates of a generation are asked.

        Args:
            scores: What the models beside the search scored on the search split, ``(n_models, n_examples)``; asked for where
                that decides.
        """
        evaluation, sizes = self.settings.evaluation, _sizes(self.task)
        seed = child_seed(self.settings.seed, "batches")
        if evaluation.batch is None or evaluation.subset == "fresh":
            return search_portion(sizes, evaluation.batch, seed)
        if evaluation.subset == "fixed":
            return fixed_portion(sizes, evaluation.batch, seed)
        return disagreement_portion(sizes, evaluation.batch, seed, scores)

    @property
    def n_asked(self) -> int:
        """Problems that a candidate is asked."""
        batch, whole = self.settings.evaluation.batch, sum(_sizes(self.task))
        return whole if batch is None else min(batch, whole)

    @property
    def race(self) -> Race | None:
        """How generations are scored, where not in full."""
        rules = self.settings.evaluation.race
        if rules is None:
            return None
        sizes = {stage: _sizes(task) for stage, task in self.program.tasks.items()} | {"": _sizes(self.task)}
        return Race(rules, sizes, child_seed(self.settings.seed, "races"))

    @property
    def splits(self) -> tuple[Split, ...]:
        """Those that the run needs."""
        return needed_splits(self.settings)


def compose_parts(config: DictConfig, settings: RunSettings) -> Parts:
    """Build the parts of a run and check that they fit each other.

    Raises:
        EvoMergeError: Something the user can mend; no weight has been read.
    """
    task: Task = instantiate(config.task, _convert_="all")
    for split in needed_splits(settings):
        if not task.examples(split):
            raise ConfigError(
                f"task '{task.name}' has no examples for the '{split}' split; name them with task.files.{split}=FILE, "
                f"or of task=lm_eval with task.share.{split}=0.3"
            )
    pool = new_pool(config, headers_only=settings.plan)
    ingredients = _ingredients(pool)
    program = _program(config, settings, ingredients)
    _refuse_alone(pool, program)
    beside = _entrants(program, pool, ingredients, settings.seed)
    parts = Parts(
        settings=settings,
        budget=Budget(**asdict(settings.budget)),
        task=task,
        aim=_aim(config, settings, task, program, beside, len(ingredients.sources)),
        pool=pool,
        ingredients=ingredients,
        program=program,
        entrants=tuple(beside),
        generator=instantiate(config.generator, _convert_="all"),
        trainer=new_trainer(config),
    )
    for warning in _checked(parts):
        log.warning("%s", warning)
    return parts


def needed_splits(settings: RunSettings) -> tuple[Split, ...]:
    """The splits that a run asks."""
    return SPLITS if settings.selection == "validation" else ("search", "test")


def _refuse_alone(pool: Pool, program: Program) -> None:
    """A source that licences leave alone, in a merge without a base, is itself whatever its weight."""
    has_base = any(not isinstance(recipe, ParameterSpaceRecipe) or recipe.base is not None for recipe in starts(program))
    if pool.left_out and len(pool.sources) == 1 and not has_base:
        raise ConfigError(
            f"models.licences=permissive leaves '{pool.sources[0].name}' alone (left out: {', '.join(pool.left_out)}), and "
            "without a base there is nothing to merge it with; name more sources, or a method with a base such as merge=ties"
        )


def _sizes(task: Task) -> list[int]:
    """Examples of each part of the search split."""
    return list(task.sizes("search")) if isinstance(task, Several) else [len(task.examples("search"))]


def _ingredients(pool: Pool) -> Ingredients:
    described = describe(pool.base, pool.sources)
    found = for_mixing(described)
    if any(facts.shapes is None for facts in described.models):  # of whom nothing can be made, mixed or not
        refuse(found, NOT_MIXABLE)
    return Ingredients(
        base=None if pool.base is None else pool.base.reference,
        sources=pool.recipe_sources,
        tensors=tuple(pool.leader.shapes),
        out_dtype=pool.out_dtype,
        n_layers=tuple(int(getattr(model.config, "num_hidden_layers", 0)) for model in pool.sources),
        are_mixable=not refusals(found),
        tokenizer=pool.tokenizer_rule,
    )


def _program(config: DictConfig, settings: RunSettings, ingredients: Ingredients) -> Program:
    def new_optimizer(genes: Sequence[Gene], seed: int) -> Optimizer:
        optimizer: Optimizer = instantiate(config.optimizer, genes, seed, _convert_="all")
        return optimizer

    seed = child_seed(settings.seed, "merge")
    if get_class(config.merge._target_) is Hybrid:
        hybrid: Hybrid = instantiate(config.merge, ingredients, seed, new_optimizer, _convert_="all")
        return hybrid
    space: MergeSpace = instantiate(config.merge, ingredients, seed, _convert_="all")
    return SingleSearch(space, new_optimizer(space.genes, child_seed(settings.seed, "optimizer")))


def _entrants(program: Program, pool: Pool, ingredients: Ingredients, seed: int) -> list[Entrant]:
    """Who is scored beside the search; without models that do not know all tokens of the first, which all are asked in."""
    found = entrants(next(iter(program.spaces.values())), ingredients, child_seed(seed, "merge"))
    mute = _mute(pool)
    return [entrant for entrant in found if not (entrant.role == "source" and entrant.name in mute)]


def _mute(pool: Pool) -> list[str]:
    """Sources whose embeddings lack tokens of the first model's vocabulary, so that they cannot be asked by themselves."""
    return [model.name for model in pool.sources if model.config.vocab_size < pool.leader.config.vocab_size]


def _aim(
    config: DictConfig, settings: RunSettings, task: Task, program: Program, beside: Sequence[Entrant], n_sources: int
) -> Aim:
    aim = aim_of(
        task.metrics,
        task.objectives,
        settings.objectives,
        settings.constraints or {},
        instantiate(config.scalarize, _convert_="all") if "_target_" in config.get("scalarize", {}) else None,
        [entrant.name for entrant in beside if entrant.role == "source"],
        n_sources,
        list(starts(program)),
    )
    for stage, optimizer in program.optimizers.items():
        names = program.tasks[stage].objectives if stage in program.tasks else aim.fitness_names
        if len(names) > 1 and not getattr(optimizer, "takes_several", False):
            raise ConfigError(_refusal(program, stage, optimizer, names))
        if isinstance(optimizer, Expects):
            optimizer.expect(len(names), is_batched=settings.evaluation.batch is not None)
    if settings.evaluation.race is not None:
        _refuse_racing(program, aim)
    return aim


def _refuse_racing(program: Program, aim: Aim) -> None:
    """Raise ``ConfigError`` where a race would mislead: it holds one objective's right answers against each other."""
    set_null = "set evaluation.racing=null"
    if aim.constraints:
        raise ConfigError(
            "evaluation.racing stops candidates by one objective, and whether they keep to constraints is known only of all "
            f"problems; {set_null}, or leave the constraints out"
        )
    for stage, optimizer in program.optimizers.items():
        of = f" of stage '{stage}'" if stage else ""
        objectives = program.tasks[stage].objectives if stage in program.tasks else aim.objectives
        if len(objectives) > 1:
            raise ConfigError(
                f"evaluation.racing takes one objective, and there are {len(objectives)}{of} ({', '.join(objectives)}); "
                f"{set_null}, or name one objective"
            )
        if not getattr(optimizer, "takes_races", False):
            raise ConfigError(
                f"{type(optimizer).__name__}{of} holds scores of different generations against each other, and those of "
                f"candidates that evaluation.racing stopped are about fewer problems; {set_null}, or choose an optimizer of "
                "the cmaes family, random or sobol"
            )


def _refusal(program: Program, stage: str, optimizer: Optimizer, names: Sequence[str]) -> str:
    """What is said of an optimizer that takes one objective and was given several."""
    option = "optimizer="
    if stage:
        option = f"optimizer@merge.parameter.{stage}.optimizer=" if stage in program.early_stages else ""
        option = option or "optimizer@merge.data_flow.optimizer="
    said = (
        f"{type(optimizer).__name__}{f' of stage {stage!r}' if stage else ''} takes one objective, and there are {len(names)} "
        f"({', '.join(names)}); choose {option}<one that takes several> ({', '.join(TAKE_SEVERAL)})"
    )
    if stage in program.tasks:
        return said
    return (
        f"{said}, one of them with 'objectives=[{names[0]}]', or how they become one number: scalarize=weighted_sum or "
        "scalarize=chebyshev"
    )


def _checked(parts: Parts) -> list[str]:
    """Warnings about the models; raises ``IncompatibleModelsError`` with everything that keeps them from being merged."""
    pool, program = parts.pool, parts.program
    if parts.are_mixed:
        described = describe(pool.base, pool.sources)
        found = for_mixing(described) + in_memory(described)
        found += in_values(described, found)
        refuse(found, NOT_MIXABLE)
        unsaid = frozenset() if parts.settings.plan else _MEASURED
        said = {finding.sentence for finding in warnings(found) if finding.name not in unsaid}
    else:
        said = set()
    for recipe in starts(program):
        said |= set(check_buildable(recipe, pool, parts.allowed_code))
    by_name = {model.name: model for model in pool.sources}
    for route in program.routes:  # what a stage finds has the shape of the models that it mixes
        said |= set(refuse_unroutable([by_name.get(name, pool.leader) for name in route]))
    said |= {f"'{name}' by itself is not scored: it knows fewer tokens than '{pool.leader.name}'" for name in _mute(pool)}
    return sorted(said)
