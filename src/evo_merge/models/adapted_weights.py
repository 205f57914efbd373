"""Weights of a model with a LoRA or DoRA adapter on it, each formed when its turn comes."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from typing import TYPE_CHECKING

import torch

from evo_merge.models.adapters import Adapter, read_adapter
from evo_merge.models.description import read_config
from evo_merge.models.reference import ModelFiles

if TYPE_CHECKING:
    from torch import Tensor

    from evo_merge.models.weights import Weights


class AdaptedWeights:
    """An adapter on a model: each tensor is the model's with the adapter's change, formed when it is read.

    Attributes:
        base: The model's weights.
    """

    def __init__(self, base: Weights, files: ModelFiles) -> None:
        assert files.adapter is not None
        self.base, self._files, self._folder = base, files, files.adapter

    @property
    def shapes(self) -> Mapping[str, tuple[int, ...]]:
        """As the model's."""
        return self.base.shapes

    @property
    def dtypes(self) -> Mapping[str, torch.dtype]:
        """Float32 where the adapter changes something, else as the model's."""
        changed = self.adapter.names
        return {name: torch.float32 if name in changed else dtype for name, dtype in self.base.dtypes.items()}

    def read(self, name: str) -> Tensor:
        """The model's tensor as the adapter changes it, in float32."""
        return self.adapter.applied(name, self.base.read(name))

    def forget(self) -> None:
        """Let go of the adapter, and of what the model holds."""
        self.__dict__.pop("adapter", None)
        self.base.forget()

    @cached_property
    def adapter(self) -> Adapter:
        """What the adapter changes; raises ``ModelError`` where it cannot be merged into the model's weights."""
        return read_adapter(self._folder, read_config(self._files.without_adapter), self.base.shapes, str(self._files.folder))
