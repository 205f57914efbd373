"""What every command that asks models sets up: Lightning's trainer, the evaluator, and how many threads pay."""

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from math import prod
from typing import Any

import torch
from hydra.errors import InstantiationException
from hydra.utils import get_class, instantiate
from omegaconf import DictConfig

from evo_merge.errors import ConfigError, UnusableCandidateError
from evo_merge.evaluation.evaluator import Evaluator
from evo_merge.evaluation.generator import Generator, LoadsWeights
from evo_merge.evaluation.module import silence_lightning
from evo_merge.models.assemble import Assembler
from evo_merge.models.compatibility import refuse_with_the_rest
from evo_merge.models.pool import Pool, UnreadableModelsError
from evo_merge.recipe import Recipe
from evo_merge.spaces.data_flow import DataFlowSpace
from evo_merge.stages import Hybrid
from evo_merge.tasks.base import Split, Task

_SMALL = 5_000_000  # weights


def new_pool(config: DictConfig, *, headers_only: bool = False) -> Pool:
    """The models of a run's config: those that paths run through where ``merge`` is nothing but paths, else all."""
    are_paths = get_class(config.merge._target_) is DataFlowSpace
    try:
        pool: Pool = instantiate(config.models, headers_only=headers_only, _convert_="all")
    except InstantiationException as error:
        if isinstance(error.__cause__, UnreadableModelsError) and get_class(config.merge._target_) is not Hybrid:
            refuse_with_the_rest(error.__cause__, on_paths=are_paths)
        raise
    return pool.for_paths() if are_paths else pool


def new_evaluator(
    assembler: Assembler,
    task: Task,
    generator: Generator,
    trainer: Any,
    splits: Sequence[Split],
    recipes: Sequence[Recipe],
) -> Evaluator:
    """What scores recipes; the given ones have been assembled once, so that a broken model shows now."""
    pool = assembler.pool
    for recipe in recipes:
        with suppress(UnusableCandidateError):
            assembler.assemble(recipe)
    limits = [getattr(pool.leader.config.get_text_config(), "max_position_embeddings", None)]
    if isinstance(generator, LoadsWeights):
        limits.append(generator.window)
    window = min((limit for limit in limits if limit is not None), default=None)
    return Evaluator(assembler, pool.tokenizer, task, generator, trainer, splits, window)


def new_trainer(config: DictConfig) -> Any:
    """Lightning's trainer, without its notices."""
    silence_lightning()
    with warnings.catch_warnings(action="ignore"):
        try:
            trainer: Any = instantiate(config.trainer, _convert_="all")
        except InstantiationException as error:
            raise ConfigError(f"trainer: {error.__cause__ or error}") from error
    if trainer.precision != "32-true":
        raise ConfigError(
            "trainer.precision must be null: weights keep the dtype of models.out_dtype, so what is scored is what is saved"
        )
    if trainer.world_size != 1:
        raise ConfigError(f"trainer.devices must be 1, got {trainer.world_size}; one candidate runs on one device")
    return trainer


@contextmanager
def few_threads(pool: Pool) -> Iterator[None]:
    """One thread for models so small that the threads of an operation wait for each other longer than they compute.

    An embedded model answers no slower with one thread on an idle machine, and ten times faster where another program holds one
    of two cores.
    """
    before = torch.get_num_threads()
    if sum(prod(shape) for shape in pool.leader.shapes.values()) < _SMALL:
        torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
