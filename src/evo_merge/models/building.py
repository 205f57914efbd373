"""What a recipe builds, as an ordinary model: its config, and its tensors one at a time."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from math import prod
from typing import Any

import torch
from torch import Tensor

from evo_merge.errors import RecipeError, UnusableCandidateError
from evo_merge.licences import StatedLicence
from evo_merge.methods.base import MergeMethod
from evo_merge.methods.entrywise import form_of
from evo_merge.models.adapter_space import AdapterSpace
from evo_merge.models.compatibility import refuse_unmixable, refuse_unroutable
from evo_merge.models.finite import is_finite
from evo_merge.models.identity import weights_told
from evo_merge.models.layer_path import check_path, check_scales, path_config, pieces, refuse_unfoldable
from evo_merge.models.merging import TensorMerger, check_mixture
from evo_merge.models.model import Model
from evo_merge.models.pool import Pool
from evo_merge.models.pool_licences import with_own
from evo_merge.models.reference import pinned_recipe
from evo_merge.recipe import DataFlowRecipe, ModelReference, ParameterSpaceRecipe, Recipe


@dataclass(frozen=True)
class Built:
    """The model of a recipe.

    Attributes:
        config: The transformers config.
        shapes: Shape of every tensor, by full name.
        dtype: Of every floating tensor.
        dtypes: Dtype of every tensor.
        read: One tensor by its name, on the CPU, the same whenever it is asked for; raises ``UnusableCandidateError``
            where it is not finite. From several threads at once, once one tensor was read.
        n_held: How many copies of a tensor in float32 there are at most while it is made; 0 where it is made in small pieces.
        n_products: How many matrices of the square of a tensor's columns there are in float64 besides.
    """

    config: Any
    shapes: Mapping[str, tuple[int, ...]]
    dtype: torch.dtype
    dtypes: Mapping[str, torch.dtype]
    read: Callable[[str], Tensor]
    n_held: int
    n_products: int = 0

    @property
    def n_bytes(self) -> int:
        """Of all tensors."""
        return sum(map(self.tensor_bytes, self.shapes))

    def tensor_bytes(self, name: str) -> int:
        """Of one tensor."""
        return prod(self.shapes[name]) * self.dtypes[name].itemsize

    def working_bytes(self, name: str) -> int:
        """Of memory that making one tensor takes at most, about."""
        shape = self.shapes[name]
        products = self.n_products * shape[1] ** 2 * torch.float64.itemsize if len(shape) == 2 else 0
        return self.tensor_bytes(name) + self.n_held * prod(shape) * torch.float32.itemsize + products


def check_buildable(recipe: Recipe, pool: Pool, allowed_code: tuple[str, ...] = ()) -> list[str]:
    """Find out from configs and headers whether a recipe can be built and run; no weight is read.

    Returns:
        Warnings: differences between the models that can be lived with.

    Raises:
        RecipeError: The recipe does not fit itself or its models.
        IncompatibleModelsError: The models do not fit each other; every difference is listed.
    """
    if isinstance(recipe, ParameterSpaceRecipe):
        return _check_mixture(recipe, pool, allowed_code)
    models = path_models(recipe, pool, allowed_code)
    refuse_unfoldable(recipe, {name: model.config for name, model in models.items()})
    return _check_path(recipe, models)


def _check_mixture(recipe: ParameterSpaceRecipe, pool: Pool, allowed_code: tuple[str, ...]) -> list[str]:
    check_mixture(recipe, allowed_code)
    pool.refuse_other_tokens(recipe)
    return refuse_unmixable(pool.base, pool.sources)


def _check_path(recipe: DataFlowRecipe, models: Mapping[str, Model]) -> list[str]:
    check_path(recipe, {name: model.config for name, model in models.items()})
    check_scales(recipe)
    return refuse_unroutable(list(models.values()))


def built(recipe: Recipe, pool: Pool, allowed_code: tuple[str, ...] = ()) -> Built:
    """The model of a recipe over a pool's models.

    Layers without scales may also be of architectures that cannot be run before they are built.

    Raises:
        EvoMergeError: As ``check_buildable``.
    """
    if isinstance(recipe, ParameterSpaceRecipe):
        _check_mixture(recipe, pool, allowed_code)
        return _mixture(recipe, pool, allowed_code)
    models = path_models(recipe, pool, allowed_code)
    _check_path(recipe, models)
    return _path(recipe, models)


def path_models(recipe: DataFlowRecipe, pool: Pool, allowed_code: tuple[str, ...] = ()) -> dict[str, Model]:
    """The models of a path, by the names that the recipe gives them."""
    return {source.name: pool.open(source.name, source.reference, allowed_code) for source in recipe.models}


def _mixture(recipe: ParameterSpaceRecipe, pool: Pool, allowed_code: tuple[str, ...]) -> Built:
    device = torch.device("cpu")
    adapters = AdapterSpace(pool, device, allowed_code, residency="disk").of(recipe)  # as in memory, for the same bits
    # A build merges everything once, and must not wait for a compiler.
    merged = adapters or TensorMerger(pool, device, allowed_code, residency="disk", compile="never").of(recipe)
    dtype, shapes = getattr(torch, recipe.out_dtype), pool.leader.shapes
    first = recipe.sources[0]
    stored = pool.open(first.name, first.reference, allowed_code).dtypes
    dtypes = {name: dtype if stored[name].is_floating_point else stored[name] for name in shapes}
    n_sources = len(recipe.sources)
    n_held = 0 if adapters is not None else _n_held(merged.method, n_sources)
    n_products = 2 * n_sources + 3 if getattr(merged.method, "makes_products", False) else 0
    return Built(pool.leader.config, shapes, dtype, dtypes, merged.__getitem__, n_held, n_products)


def _n_held(method: MergeMethod, n_sources: int) -> int:
    """How many copies of a tensor in float32 a method holds at most."""
    if method.elementwise or form_of(method) is not None:
        return 0
    return 3 * (n_sources + 1)  # the models' tensors, what the method makes of them, and what it compares


def _path(recipe: DataFlowRecipe, models: Mapping[str, Model]) -> Built:
    configs = {name: model.config for name, model in models.items()}
    made = pieces(recipe, configs, {name: list(model.shapes) for name, model in models.items()})
    dtype = getattr(torch, recipe.out_dtype)

    def read(name: str) -> Tensor:
        piece = made[name]
        tensor = models[piece.model].read(piece.tensor)
        if piece.factor != 1.0:
            tensor = tensor.to(torch.float32) * piece.factor
        tensor = tensor.to(dtype)
        if not is_finite(tensor):
            raise UnusableCandidateError(f"weights are not finite in {recipe.out_dtype}: '{name}'")
        return tensor

    shapes = {name: models[piece.model].shapes[piece.tensor] for name, piece in made.items()}
    return Built(path_config(recipe, configs), shapes, dtype, dict.fromkeys(shapes, dtype), read, n_held=1)


@dataclass(frozen=True)
class BuiltModel:
    """A model that is a recipe, built tensor by tensor whenever one is read; see ``evo_merge.models.model.Model``."""

    name: str
    reference: ModelReference
    allowed_code: tuple[str, ...] = ()
    licence: str | None = None  # where the cards of its models do not say

    @cached_property
    def _recipe(self) -> Recipe:
        assert self.reference.recipe is not None
        return pinned_recipe(self.reference.recipe)

    @cached_property
    def _pool(self) -> Pool:
        return Pool.of_recipe(self._recipe)

    @cached_property
    def _built(self) -> Built:
        return built(self._recipe, self._pool, self.allowed_code)

    @property
    def config(self) -> Any:
        """The transformers config."""
        return self._built.config

    @property
    def shapes(self) -> Mapping[str, tuple[int, ...]]:
        """Shape of every tensor, by full name."""
        return self._built.shapes

    @property
    def dtypes(self) -> Mapping[str, torch.dtype]:
        """The recipe's ``out_dtype`` for every floating tensor."""
        return self._built.dtypes

    def read(self, name: str) -> Tensor:
        """One tensor on the CPU."""
        try:
            return self._built.read(name)
        except UnusableCandidateError as error:
            raise RecipeError(f"'{self.name}' ({self.reference}) cannot be built: {error}") from error

    def forget(self) -> None:
        """Let go of what its models hold."""
        for model in self._pool.models:
            model.forget()

    @property
    def tokenizer(self) -> Any | None:
        """The first tokenizer among its models."""
        return next((model.tokenizer for model in self._pool.models if model.tokenizer is not None), None)

    @property
    def generation_config(self) -> Any | None:
        """That of its models."""
        return self._pool.generation_config

    @property
    def licences(self) -> tuple[StatedLicence, ...]:
        """Those of all its models."""
        return with_own(dict.fromkeys(each for model in self._pool.models for each in model.licences), self.licence)

    @property
    def fingerprint(self) -> str:
        """Those of its models, and of what else its weights are made from."""
        models = (*self._pool.models, *self._pool.givers)
        return " ".join(weights_told(self._recipe, models, self.allowed_code))
