"""Candidates in memory, in place: each is one pass over the sources into the parameters of a model that is already there."""

from typing import Any

import torch

from evo_merge.errors import IncompatibleModelsError
from evo_merge.models.merging import TensorMerger
from evo_merge.models.pool import Pool
from evo_merge.models.skeleton import empty_model
from evo_merge.recipe import Recipe


class Assembler:
    """A model on the device whose weights become those of one recipe after another.

    Args:
        pool: The models that recipes mix.
        device: Where the model sits and candidates are merged.
        allowed_code: Dotted names of merge methods from elsewhere that may run.

    Attributes:
        model: The transformers model, in the pool's ``out_dtype``.
    """

    def __init__(self, pool: Pool, device: torch.device, allowed_code: tuple[str, ...] = ()) -> None:
        self._merger = TensorMerger(pool, device, allowed_code)  # first: it looks how much memory is free
        with device:
            self.model: Any = empty_model(pool.leader.config, getattr(torch, pool.out_dtype))
        self.model.generation_config = pool.generation_config
        self._parameters = dict(self.model.named_parameters())  # tied ones once
        if lacking := [name for name in self._parameters if name not in pool.leader.shapes]:
            raise IncompatibleModelsError(
                f"'{pool.leader.name}' has no tensor '{lacking[0]}', which its architecture needs; its files are incomplete, "
                "or named in a way that cannot be merged"
            )

    def read_all(self) -> None:
        """Read every model once, so that a broken one shows now; raises ``ModelError``."""
        self._merger.read_all()

    def assemble(self, recipe: Recipe) -> None:
        """Make the model that of the recipe.

        Raises:
            UnusableCandidateError: Its weights are not finite; the model is then left half written, for the next recipe.
            RecipeError: The recipe does not fit the pool.
        """
        merged = self._merger.of(recipe)
        with torch.no_grad():
            for name, parameter in self._parameters.items():
                parameter.copy_(merged[name])
