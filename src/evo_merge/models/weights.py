"""The tensors of a stored model, each read when it is asked for: from safetensors or GGUF files, with an adapter's change."""

from collections.abc import Mapping
from typing import Protocol

import torch
from torch import Tensor

from evo_merge.models.adapted_weights import AdaptedWeights
from evo_merge.models.gguf_weights import GgufWeights
from evo_merge.models.reference import ModelFiles
from evo_merge.models.safetensors_weights import HubHeaders, SafetensorsWeights


class Weights(Protocol):
    """The tensors of one model. Shapes and dtypes are known without reading any."""

    @property
    def shapes(self) -> Mapping[str, tuple[int, ...]]:
        """Shape of every tensor, by full name."""

    @property
    def dtypes(self) -> Mapping[str, torch.dtype]:
        """Stored dtype of every tensor."""

    def read(self, name: str) -> Tensor:
        """One tensor on the CPU; for stored floats in their own dtype. It may be a view of the file: do not change it."""

    def forget(self) -> None:
        """Let go of what is held in memory only to be read from; it is made again where it is needed again."""


def open_weights(files: ModelFiles, opened: dict[ModelFiles, Weights] | None = None) -> Weights:
    """Open a model's weights; raises ``ModelError`` where there are none that can be trusted.

    Args:
        files: Where the model lies.
        opened: Models already open, added to: adapters on one base share it.
    """
    opened = {} if opened is None else opened
    plain = files.without_adapter
    if plain not in opened:
        opened[plain] = _open_plain(plain)
    if files not in opened:
        opened[files] = AdaptedWeights(opened[plain], files)
    return opened[files]


def _open_plain(files: ModelFiles) -> Weights:
    if files.hub is not None:
        return HubHeaders(*files.hub)
    return SafetensorsWeights(files.folder) if files.gguf is None else GgufWeights(files.folder, files.gguf)
