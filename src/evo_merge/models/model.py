"""One model of a pool: what it says about itself, and its weights."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol

import torch
from torch import Tensor

from evo_merge.errors import ModelError
from evo_merge.fingerprints import add_ends, with_settings
from evo_merge.licences import StatedLicence
from evo_merge.models.adapters import ADAPTER_CONFIG
from evo_merge.models.description import read_config, read_generation_config, read_tokenizer
from evo_merge.models.finite import is_finite
from evo_merge.models.pool_licences import licences_in
from evo_merge.models.reference import ModelFiles
from evo_merge.models.weights import Weights
from evo_merge.recipe import ModelReference

_TIED_COPY = "lm_head.weight"
_COMPUTED = ".rotary_emb.inv_freq"  # older transformers stored it


class Model(Weights, Protocol):
    """One model of a pool: its description is read when asked for, its weights tensor by tensor.

    Of its tensors, second copies of tied ones and tables that are computed anew are left out, and ``read`` raises
    ``ModelError`` where one is not finite.
    """

    @property
    def name(self) -> str:
        """What genes, tables and figures call it."""

    @property
    def reference(self) -> ModelReference:
        """Where it is found."""

    @property
    def config(self) -> Any:
        """The transformers config."""

    @property
    def tokenizer(self) -> Any | None:
        """The tokenizer, or ``None``."""

    @property
    def generation_config(self) -> Any | None:
        """The generation config, or ``None``."""

    @property
    def licences(self) -> tuple[StatedLicence, ...]:
        """What the model states, or the models that it is made of; all of it applies."""

    @property
    def fingerprint(self) -> str:
        """Tells the weights from others without reading all of them."""


@dataclass(frozen=True)
class StoredModel:
    """A model that lies in files; see ``Model``."""

    name: str
    reference: ModelReference
    files: ModelFiles
    weights: Weights
    licence: str | None = None  # where its card does not say

    @cached_property
    def config(self) -> Any:
        """The transformers config."""
        return read_config(self.files.without_adapter)

    @cached_property
    def shapes(self) -> Mapping[str, tuple[int, ...]]:
        """Shape of every tensor, by full name."""
        copied = _TIED_COPY if getattr(self.config, "tie_word_embeddings", False) else None
        shapes = self.weights.shapes
        return {name: shape for name, shape in shapes.items() if name != copied and not name.endswith(_COMPUTED)}

    @property
    def dtypes(self) -> Mapping[str, torch.dtype]:
        """Stored dtype of every tensor."""
        return self.weights.dtypes

    def read(self, name: str) -> Tensor:
        """One tensor on the CPU; whether it is finite is looked at once."""
        tensor = self.weights.read(name)
        if name not in self._checked:
            if not is_finite(tensor):
                raise ModelError(f"'{self.name}' ({self.reference}) has a NaN or an infinity in '{name}'; it cannot be merged")
            self._checked.add(name)
        return tensor

    def forget(self) -> None:
        """Let go of what is held in memory only to be read from."""
        self.weights.forget()

    @cached_property
    def tokenizer(self) -> Any | None:
        """The tokenizer, or ``None``."""
        return read_tokenizer(self.files.without_adapter)

    @cached_property
    def generation_config(self) -> Any | None:
        """The generation config, or ``None``."""
        return read_generation_config(self.files.without_adapter)

    @cached_property
    def licences(self) -> tuple[StatedLicence, ...]:
        """What the model card states, of an adapter also what that of its base does."""
        return licences_in(self.files, self.licence)

    @property
    def fingerprint(self) -> str:
        """A digest of each file's size, beginning and end; of an adapter with that of its settings."""
        files = self.files
        patterns = [(files.folder, files.gguf or "*.safetensors")]
        if files.adapter is not None:
            patterns.append((files.adapter, "*.safetensors"))
        digest = hashlib.sha256()
        for path in (path for folder, pattern in patterns for path in sorted(folder.glob(pattern))):
            digest.update(f"{path.name} ".encode())
            add_ends(digest, path)
        weights = digest.hexdigest()
        return weights if files.adapter is None else with_settings(weights, files.adapter / ADAPTER_CONFIG)

    @cached_property
    def _checked(self) -> set[str]:
        return set()
