"""From a recipe to merged tensors, one at a time: reads the models' weights, calls the method, says where weights wait."""

import logging
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from functools import cached_property, partial
from math import prod
from typing import Any, TypeAlias, cast

import torch
from torch import Tensor

from evo_merge.calibration.record import check_statistics, kind_of
from evo_merge.calibration.stored import SourceStatistics
from evo_merge.errors import RecipeError, UnusableCandidateError
from evo_merge.methods.base import SHARES, AlignedTensors, MergeMethod, arguments, method_from_recipe, wrong_number_of_sources
from evo_merge.methods.entrywise import Entrywise, Form, form_of
from evo_merge.methods.magnitudes import ORDER_BYTES, MagnitudeOrder, SourceOrder, TaskVectors, Thresholds
from evo_merge.methods.model_magnitudes import ModelMagnitudes, ModelThresholds
from evo_merge.methods.noise import EntryNoise, entry_bits
from evo_merge.methods.parts import parts
from evo_merge.models.compatibility import refuse_unmixable
from evo_merge.models.engine import EntryEngine
from evo_merge.models.finite import greatest
from evo_merge.models.layer_path import HEAD
from evo_merge.models.pool import Pool
from evo_merge.models.prepared import prepared_bytes
from evo_merge.models.residency import Room, free_bytes, residency_of
from evo_merge.recipe import ModelReference, ParameterRule, ParameterSpaceRecipe, rule_of

log = logging.getLogger(__name__)
Values: TypeAlias = Mapping[str, tuple[float, ...] | float]
_LEFT = 0.4  # share of the memory free at first below which what methods found is let go of
_ORDERS = 0.5  # share of the free memory that the orders of magnitudes may take


def check_mixture(recipe: ParameterSpaceRecipe, allowed_code: tuple[str, ...] = ()) -> MergeMethod:
    """The recipe's method, after checking that the rest of the recipe fits it; raises ``RecipeError``."""
    method = method_from_recipe(recipe.method, recipe.options, allowed_code)
    if wrong := wrong_number_of_sources(method, len(recipe.sources)):
        raise RecipeError(f"'{recipe.method}' {wrong}")
    if method.needs_base and recipe.base is None:
        raise RecipeError(f"'{recipe.method}' needs a base to take task vectors against; name it under 'base'")
    for rule in recipe.parameters:
        _check_rule(rule, method, recipe)
    check_statistics(method, [source.name for source in recipe.sources])
    return method


def refuse_idle_rules(recipe: ParameterSpaceRecipe, tensors: Collection[str]) -> None:
    """Refuse what a person would not write on purpose, though a search may come upon it.

    Args:
        recipe: As a user gives it.
        tensors: Full names of the merge's tensors.

    Raises:
        RecipeError: A glob that no tensor's name matches.
    """
    for rule in recipe.parameters:
        for glob in rule.tensors:
            if glob != "*" and not any(fnmatchcase(name, glob) for name in (*tensors, HEAD)):  # tied embeddings are the head
                raise RecipeError(f"no tensor matches '{glob}' under 'parameters'; globs are for full names, as in *.mlp.*")


def dropped_sources(recipe: ParameterSpaceRecipe) -> list[str]:
    """Warnings about sources that a density of 0 leaves nothing of: a search may stop there, a person means a weight of 0."""
    warnings = []
    for rule in recipe.parameters:
        density = rule.values.get("density")
        for source, share in zip(recipe.sources, density if isinstance(density, tuple) else (), strict=False):
            if share == 0.0:
                tensors = ", ".join(rule.tensors)
                warnings.append(f"density 0 keeps nothing of '{source.name}' in {tensors}; weight 0 says so plainly")
    return warnings


class TensorMerger:
    """Merges tensors of the models of a pool.

    Args:
        pool: The models.
        device: Where the arithmetic runs.
        allowed_code: Dotted names of methods from elsewhere that may run.
        residency: Where the models wait between candidates, instead of what the pool says.
        compile: Whether merging is compiled, instead of what the pool says.

    Raises:
        IncompatibleModelsError: The models cannot be mixed; every difference is listed.
    """

    def __init__(
        self,
        pool: Pool,
        device: torch.device,
        allowed_code: tuple[str, ...] = (),
        residency: str | None = None,
        compile: str | None = None,
    ) -> None:
        refuse_unmixable(pool.base, pool.sources)
        self.device = device
        self._pool = pool
        self.engine = EntryEngine(device, compile or pool.compile)
        self._models = {model.reference: pool.open(model.name, model.reference, allowed_code) for model in pool.models}
        self._names = tuple(pool.leader.shapes)
        self._allowed_code = allowed_code
        self._room = Room.now(device)
        self._residency = residency or residency_of(pool, device, room=self._room).place
        self._is_chosen = residency is None and pool.residency == "auto"
        self._prepared: dict[tuple[MergeMethod, int], int] = {}  # bytes that a method keeps of so many sources
        self._resident: dict[tuple[ModelReference, str], Tensor] = {}
        self._states: dict[tuple[object, ...], Any] = {}
        self._orders: dict[tuple[object, ...], SourceOrder] = {}
        self._model_magnitudes: dict[tuple[object, ...], ModelMagnitudes] = {}
        self._keys: dict[tuple[object, ...], Tensor] = {}
        self._statistics: dict[tuple[object, ...], SourceStatistics] = {}
        log.debug("between candidates the models wait on: %s", self._residency)

    def of(self, recipe: ParameterSpaceRecipe) -> "MergedTensors":
        """The merged tensors of a recipe over this pool's models; raises ``RecipeError`` where it does not fit."""
        method = check_mixture(recipe, self._allowed_code)
        references = [source.reference for source in recipe.sources] + ([] if recipe.base is None else [recipe.base])
        if unknown := [reference for reference in references if reference not in self._models]:
            raise RecipeError(f"the recipe names '{unknown[0]}', which is not among the models of this run")
        self._make_room(recipe, method)
        return MergedTensors(self, recipe, method)

    def _make_room(self, recipe: ParameterSpaceRecipe, method: MergeMethod) -> None:
        """Choose anew where the models wait once a method comes that keeps more than those before it, as few runs have."""
        key = (method, len(recipe.sources))
        if not self._is_chosen or method.elementwise or key in self._prepared:
            return
        self._prepared[key] = prepared_bytes(self._pool, recipe)
        place = residency_of(self._pool, self.device, None, max(self._prepared.values()), self._room).place
        if place != self._residency:
            self.release()
            self._residency = place
            log.debug("with what '%s' keeps the models wait on: %s", recipe.method, place)

    def read(self, reference: ModelReference, name: str) -> Tensor:
        """A model's tensor, where it waits; raises ``ModelError`` where it is not finite."""
        key = (reference, name)
        if key in self._resident:
            return self._resident[key]
        tensor = self._models[reference].read(name)
        if self._residency == "device":
            tensor = tensor.to(self.device)
        if self._residency != "disk":
            self._resident[key] = tensor
        return tensor

    def statistics(self, method: MergeMethod, recipe: ParameterSpaceRecipe, name: str) -> tuple[Tensor, ...] | None:
        """Of each source what the method asks to know about a tensor, on the device; ``None`` where there is nothing."""
        if kind_of(method) is None:
            return None
        key = (method, recipe.sources)
        if key not in self._statistics:
            models = {source.name: self._models[source.reference] for source in recipe.sources}
            self._statistics[key] = SourceStatistics(method, models)
        found = self._statistics[key].read(name)
        return None if found is None else tuple(tensor.to(self.device) for tensor in found)

    def state(self, method: MergeMethod, recipe: ParameterSpaceRecipe, name: str, tensors: Callable[[], AlignedTensors]) -> Any:
        """What the method finds about a whole tensor once a run."""
        if self._residency == "disk":
            return method.prepare(tensors())  # it may be as large as the weights, and those did not fit
        key = (method, recipe.base, tuple(source.reference for source in recipe.sources), recipe.dtype, name)
        if key not in self._states:
            if free_bytes(torch.device("cpu")) < _LEFT * self._room.host:
                self._states.clear()  # searches that select sources come upon many sets of them
            self._states[key] = method.prepare(tensors())
        return self._states[key]

    def release(self) -> None:
        """Let go of what waits: others merge in another way now."""
        self._resident.clear()

    def order(self, recipe: ParameterSpaceRecipe, name: str) -> MagnitudeOrder:
        """Of the magnitudes of a tensor's task vectors; kept for all methods that ask, as far as there is room."""
        if self._residency == "disk" or not self._room_for_orders:
            return MagnitudeOrder()  # one that is asked once never sorts
        keys = [(recipe.base, source.reference, recipe.dtype, name) for source in recipe.sources]
        return MagnitudeOrder([self._orders.setdefault(key, SourceOrder()) for key in keys])

    def model_magnitudes(self, recipe: ParameterSpaceRecipe, source: ModelReference) -> ModelMagnitudes:
        """Of a source's task vector over all floating tensors; kept, for they are counts, which are small."""
        key = (recipe.base, source, recipe.dtype)
        return self._model_magnitudes.setdefault(
            key, ModelMagnitudes(partial(self._task_vectors, recipe, source), getattr(torch, recipe.dtype))
        )

    def _task_vectors(self, recipe: ParameterSpaceRecipe, source: ModelReference) -> Iterator[TaskVectors]:
        assert recipe.base is not None, "only methods with needs_base trim task vectors"
        for name in self._names:
            tensor, base = (self.read(reference, name).to(self.device).flatten() for reference in (source, recipe.base))
            if tensor.is_floating_point():
                yield TaskVectors((tensor,), base, getattr(torch, recipe.dtype))

    def keys(self, recipe: ParameterSpaceRecipe, name: str) -> Tensor:
        """Of the noise of a tensor, ``(n_models, 2)`` ``int32``."""
        key = (recipe.seed, tuple(source.name for source in recipe.sources), name)
        if key not in self._keys:
            noises = [EntryNoise(recipe.seed, source.name, name) for source in recipe.sources]
            self._keys[key] = torch.tensor([noise.keys for noise in noises], dtype=torch.int32)
        return self._keys[key]

    @cached_property
    def _room_for_orders(self) -> bool:
        entries = [prod(shape) for model in self._models.values() for shape in model.shapes.values()]
        return ORDER_BYTES * sum(entries) < _ORDERS * free_bytes(torch.device("cpu"))


@dataclass(frozen=True)
class MergedTensors:
    """The tensors of one candidate; each is merged when asked for, and comes out the same whenever that is."""

    merger: TensorMerger
    recipe: ParameterSpaceRecipe
    method: MergeMethod

    def __getitem__(self, name: str) -> Tensor:
        """The merged tensor of that name, in the recipe's ``out_dtype``, on the merger's device.

        Raises:
            UnusableCandidateError: It is not finite.
        """
        sources, base = self._read(name)
        if not sources[0].is_floating_point():
            return sources[0]
        merged = torch.empty(sources[0].shape, dtype=getattr(torch, self.recipe.out_dtype), device=self.merger.device)
        if not torch.isfinite(self._merge(name, sources, base, merged.view(-1))):
            raise UnusableCandidateError(f"weights are not finite: '{name}'")
        return merged

    def write(self, name: str, target: Tensor) -> Tensor | None:
        """Merge a tensor into one that is there.

        Args:
            name: Of the tensor.
            target: ``(*shape)``, on the merger's device.

        Returns:
            ``()``, finite only where the merged tensor is, so that many can be asked at once; ``None`` for whole numbers.
        """
        sources, base = self._read(name)
        if sources[0].is_floating_point() and target.is_contiguous() and target.dtype == getattr(torch, self.recipe.out_dtype):
            return self._merge(name, sources, base, target.view(-1))
        merged = self[name]
        target.copy_(merged)
        return greatest(merged) if merged.is_floating_point() else None

    def values(self, name: str) -> Values:
        """The recipe's numbers for one tensor: where these and ``but_for_values`` are equal, so is the tensor."""
        return rule_of(self.recipe, name).values

    @cached_property
    def but_for_values(self) -> ParameterSpaceRecipe:
        """All else that the recipe says."""
        return replace(self.recipe, parameters=(ParameterRule(("*",), {}),))

    def _read(self, name: str) -> tuple[list[Tensor], Tensor | None]:
        recipe, merger = self.recipe, self.merger
        sources = [merger.read(source.reference, name).to(merger.device) for source in recipe.sources]
        needs_base = recipe.base is not None and self.method.needs_base
        return sources, merger.read(recipe.base, name).to(merger.device) if needs_base and recipe.base is not None else None

    def _merge(self, name: str, sources: list[Tensor], base: Tensor | None, target: Tensor) -> Tensor:
        """Merge into ``(n,)``; returns a number that is finite only where all of it is."""
        if (form := form_of(self.method)) is not None:
            return self._merge_entries(form, name, sources, base, target)
        noises = [EntryNoise(self.recipe.seed, source.name, name) for source in self.recipe.sources]
        shape, device = sources[0].shape, self.merger.device
        n, in_parts = target.numel(), self.method.elementwise
        # An elementwise method must not depend on the parts, so it has no state.
        statistics = self.merger.statistics(self.method, self.recipe, name)
        whole = partial(self._aligned, sources, base, statistics, 0, n, shape)
        state = None if in_parts else self.merger.state(self.method, self.recipe, name, whole)
        parameters = self._parameters(name)
        for part in parts(n, device) if in_parts else [slice(0, n)]:
            start, stop = part.start, part.stop
            part_shape = (stop - start,) if in_parts else tuple(shape)

            def noise(source: int, start: int = start, stop: int = stop, shape: tuple[int, ...] = part_shape) -> Tensor:
                return noises[source](start, stop - start, device).reshape(shape)

            tensors = self._aligned(sources, base, statistics, start, stop, part_shape)
            target[start:stop] = self.method.merge(tensors, state, noise, **parameters).flatten()
        return greatest(target)

    def _merge_entries(self, form: Form, name: str, sources: list[Tensor], base: Tensor | None, target: Tensor) -> Tensor:
        dtype = getattr(torch, self.recipe.dtype)
        flat = [source.flatten() for source in sources]
        flat_base = base.flatten() if form.task_vectors and base is not None else None
        keys = self.merger.keys(self.recipe, name)

        def bits(source: int, index: Tensor) -> Tensor:
            return entry_bits(index, *keys[source].tolist())

        method = cast(Entrywise, self.method)
        vectors = TaskVectors(tuple(flat), flat_base, dtype)
        order: Thresholds = self._model_thresholds if method.over_model else self.merger.order(self.recipe, name)
        numbers = method.numbers(vectors, order, bits, **self._parameters(name))
        return self.merger.engine.merge(form, flat_base, flat, numbers, keys, dtype, target)

    @cached_property
    def _model_thresholds(self) -> ModelThresholds:
        recipe = self.recipe
        method, n = cast(Entrywise, self.method), len(recipe.sources)
        rules = [method.model_shares(**arguments(self.method, rule.values, n)) for rule in recipe.parameters]
        sources = [self.merger.model_magnitudes(recipe, source.reference) for source in recipe.sources]
        return ModelThresholds.of(sources, [set.union(*shares) for shares in zip(*rules, strict=True)])

    def _aligned(
        self,
        sources: list[Tensor],
        base: Tensor | None,
        statistics: tuple[Tensor, ...] | None,
        start: int,
        stop: int,
        shape: tuple[int, ...],
    ) -> AlignedTensors:
        dtype = getattr(torch, self.recipe.dtype)

        def cut(tensor: Tensor) -> Tensor:
            return tensor.flatten()[start:stop].to(dtype).reshape(shape)

        if statistics is not None and self.method.elementwise:
            statistics = tuple(tensor.flatten()[start:stop].reshape(shape) for tensor in statistics)
        return AlignedTensors(torch.stack([cut(source) for source in sources]), None if base is None else cut(base), statistics)

    def _parameters(self, name: str) -> dict[str, Tensor]:
        values = self.values(name)
        if id(values) not in self._arguments:  # one rule may be for hundreds of tensors
            self._arguments[id(values)] = arguments(self.method, values, len(self.recipe.sources))
        return self._arguments[id(values)]

    @cached_property
    def _arguments(self) -> dict[int, dict[str, Tensor]]:
        return {}


def _check_rule(rule: ParameterRule, method: MergeMethod, recipe: ParameterSpaceRecipe) -> None:
    known = {parameter.name: parameter for parameter in method.parameters}
    if unknown := [name for name in rule.values if name not in known]:
        raise RecipeError(f"'{recipe.method}' has no parameter '{unknown[0]}'; it has {', '.join(known)}")
    for name, parameter in known.items():
        if name not in rule.values:
            if parameter.optional:
                continue
            raise RecipeError(f"the entry for {', '.join(rule.tensors)} lacks '{name}', which '{recipe.method}' needs")
        value = rule.values[name]
        given = list(value) if isinstance(value, tuple) else [value]
        if parameter.per_source and (not isinstance(value, tuple) or len(given) != len(recipe.sources)):
            raise RecipeError(f"'{name}' must be a list with one number a source ({len(recipe.sources)}), got {value}")
        if not parameter.per_source and isinstance(value, tuple):
            raise RecipeError(f"'{name}' must be one number, got {list(value)}")
        if name in SHARES and not all(0.0 <= v <= 1.0 for v in given):
            raise RecipeError(f"'{name}' is a share from 0 to 1, got {given}")
        if name == "epsilon" and not all(v >= 0.0 for v in given):
            raise RecipeError(f"'epsilon' must be 0 or above, got {given}")
