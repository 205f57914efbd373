"""Candidates in memory: weights mixed in place, or a path through layers that are shared."""

from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any

import torch
from torch import Tensor

from evo_merge.errors import IncompatibleModelsError, UnusableCandidateError
from evo_merge.models.adapter_space import AdapterSpace
from evo_merge.models.building import path_models
from evo_merge.models.checks.kinds import REARRANGED
from evo_merge.models.compatibility import refuse_unroutable
from evo_merge.models.layer_path import check_path, refuse_unfoldable
from evo_merge.models.merging import TensorMerger, Values
from evo_merge.models.pool import Pool
from evo_merge.models.shared_layers import SharedLayers
from evo_merge.models.skeleton import are_views, as_in_files, empty_model, refuse_lacking
from evo_merge.recipe import DataFlowRecipe, ModelReference, ParameterSpaceRecipe, Recipe


class Assembler:
    """Makes one recipe after another a model on the device.

    What is resident serves one kind of recipes at a time, and is let go when the next recipe is of the other kind.

    Args:
        pool: The models that recipes mix; paths may also run through models that are recipes themselves.
        device: Where candidates are made.
        allowed_code: Dotted names of merge methods from elsewhere that may run.
    """

    def __init__(self, pool: Pool, device: torch.device, allowed_code: tuple[str, ...] = ()) -> None:
        self.pool = pool
        self._device, self._allowed_code = device, allowed_code
        self._mixed: MixedModel | None = None
        self._shared: SharedLayers | None = None
        self._checked: set[tuple[ModelReference, ...]] = set()

    @property
    def shared(self) -> SharedLayers:
        """The layers that paths run through; raises ``RuntimeError`` where none is resident."""
        if self._shared is None:
            raise RuntimeError("no layers are resident; assemble a data-flow recipe first")
        return self._shared

    def assemble(self, recipe: Recipe) -> Any:
        """The transformers model of the recipe; of the former recipe's nothing is left.

        Raises:
            UnusableCandidateError: Its weights are not finite.
            RecipeError: The recipe does not fit the pool.
            ModelError: A model is broken.
        """
        if isinstance(recipe, DataFlowRecipe):
            self._mixed = None
            self._check(recipe)
            self._shared = self._shared or SharedLayers(partial(self.pool.open, allowed_code=self._allowed_code), self._device)
            model = self._shared.model(recipe)
        else:
            self._shared = None
            self._mixed = self._mixed or MixedModel(self.pool, self._device, self._allowed_code)
            model = self._mixed.assemble(recipe)
        model.generation_config = self.pool.generation_config
        return model

    def tensors(self, recipe: Recipe) -> Iterator[tuple[str, Tensor]]:
        """The weights of the recipe that was assembled last, by their names in its checkpoint, a path's scales folded in."""
        if isinstance(recipe, DataFlowRecipe):
            return self.shared.folded(recipe)
        assert self._mixed is not None, "assemble made it"
        return self._mixed.tensors()

    def release(self) -> None:
        """Let everything go that is resident."""
        self._mixed = self._shared = None

    def _check(self, recipe: DataFlowRecipe) -> None:
        """Whether the layers are there, for every path; whether the models fit each other, which takes longer, once."""
        models = path_models(recipe, self.pool, self._allowed_code)
        configs = {name: model.config for name, model in models.items()}
        refuse_unfoldable(recipe, configs)
        check_path(recipe, configs)
        references = tuple(source.reference for source in recipe.models)
        if references not in self._checked:
            refuse_unroutable(list(models.values()))
            self._checked.add(references)


class MixedModel:
    """One model on the device, whose weights become those of one recipe after another, in place.

    Each candidate is one pass over the sources into parameters that are already there.

    Args:
        pool: The models that recipes mix.
        device: Where the model sits and candidates are merged.
        allowed_code: Dotted names of merge methods from elsewhere that may run.

    Raises:
        IncompatibleModelsError: The models cannot be mixed or written in place, or lack a tensor of their architecture.
    """

    def __init__(self, pool: Pool, device: torch.device, allowed_code: tuple[str, ...]) -> None:
        self._pool = pool
        self._merger = TensorMerger(pool, device, allowed_code)  # first: it looks how much memory is free
        self._adapters = AdapterSpace(pool, device, allowed_code)
        with device:
            self._model: Any = empty_model(pool.leader.config, getattr(torch, pool.out_dtype))
        self._parameters = as_in_files(self._model)
        if not are_views(self._parameters.values(), self._model):
            raise IncompatibleModelsError(
                f"transformers rearranges weights of '{pool.leader.config.model_type}' when it loads them; {REARRANGED.mend}"
            )
        refuse_lacking(self._parameters, pool.leader)
        # What the weights were made from: what the last recipe says of all tensors, and of each its numbers.
        self._made_like: ParameterSpaceRecipe | None = None
        self._made_from: dict[str, Values] = {}

    def assemble(self, recipe: ParameterSpaceRecipe) -> Any:
        """The model, with the recipe's weights; raises ``UnusableCandidateError`` and leaves it with weights of no use.

        Only the tensors are made whose numbers are not those of the recipe before.
        """
        self._pool.refuse_other_tokens(recipe)
        merged = self._merger.of(recipe)
        if (adapters := self._adapters.of(recipe)) is not None:
            self._made_from.clear()
            self._merger.release()
            self._adapters.fill(adapters, self._parameters)
            return self._model
        self._adapters.release()
        if merged.but_for_values != self._made_like:
            self._made_from.clear()
            self._made_like = merged.but_for_values
        sums: dict[str, Tensor] = {}
        made: dict[str, Values] = {}
        with torch.no_grad():
            for name, parameter in self._parameters.items():
                values = merged.values(name)
                if self._made_from.pop(name, None) != values and (total := merged.write(name, parameter)) is not None:
                    sums[name] = total
                made[name] = values
        self._refuse_not_finite(sums)
        self._made_from = made  # only now: what an error left half way is made again
        return self._model

    def _refuse_not_finite(self, sums: Mapping[str, Tensor]) -> None:
        """All are asked at once: a GPU is waited for once a candidate."""
        if sums and not (finite := torch.isfinite(torch.stack(list(sums.values())))).all():
            broken = next(name for name, fine in zip(sums, finite.tolist(), strict=True) if not fine)
            raise UnusableCandidateError(f"weights are not finite: '{broken}'")

    def tensors(self) -> Iterator[tuple[str, Tensor]]:
        """The weights as they are, by their names in files, tied ones once."""
        yield from self._parameters.items()
