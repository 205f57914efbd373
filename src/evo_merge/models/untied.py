"""A model whose embeddings are also its head, beside models that have a head of their own: it has both, alike."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from evo_merge.errors import EvoMergeError
from evo_merge.licences import StatedLicence
from evo_merge.models.aligned import own_rows
from evo_merge.models.layer_path import EMBEDDING, HEAD
from evo_merge.models.model import Model
from evo_merge.recipe import ModelReference


@dataclass(frozen=True)
class UntiedModel:
    """A model with tied embeddings, whose head is read as a tensor of its own; see ``evo_merge.models.model.Model``."""

    tied: Model

    @cached_property
    def config(self) -> Any:
        """The transformers config, which says that the head is apart."""
        config = type(self.tied.config).from_dict(self.tied.config.to_dict() | {"tie_word_embeddings": False})
        config._attn_implementation = self.tied.config._attn_implementation  # what a config is not asked to save
        return config

    @cached_property
    def shapes(self) -> Mapping[str, tuple[int, ...]]:
        """Shape of every tensor, with that of the head."""
        return {**self.tied.shapes, HEAD: self.tied.shapes[EMBEDDING]}

    @property
    def dtypes(self) -> Mapping[str, torch.dtype]:
        """Stored dtype of every tensor."""
        return {**self.tied.dtypes, HEAD: self.tied.dtypes[EMBEDDING]}

    def read(self, name: str) -> Tensor:
        """One tensor on the CPU."""
        return self.tied.read(EMBEDDING if name == HEAD else name)

    def forget(self) -> None:
        """Let go of what is held in memory only to be read from."""
        self.tied.forget()

    @property
    def name(self) -> str:
        """As in the tied model."""
        return self.tied.name

    @property
    def reference(self) -> ModelReference:
        """As in the tied model."""
        return self.tied.reference

    @property
    def tokenizer(self) -> Any | None:
        """As in the tied model."""
        return self.tied.tokenizer

    @property
    def generation_config(self) -> Any | None:
        """As in the tied model."""
        return self.tied.generation_config

    @property
    def licences(self) -> tuple[StatedLicence, ...]:
        """As in the tied model."""
        return self.tied.licences

    @property
    def fingerprint(self) -> str:
        """As in the tied model."""
        return self.tied.fingerprint


def tied_alike(models: Sequence[Model]) -> list[Model]:
    """The models, those with tied embeddings untied where others have a head of their own, so that they can be mixed.

    Models that are recipes are left as they are, as one may not be allowed, which is said where it is needed.
    """
    stored = [model for model in models if hasattr(model, "weights")]
    tied = [model for model in stored if len(stored) > 1 and _is_tied(model)]
    if not tied or len(tied) == len(stored):
        return list(models)
    return [UntiedModel(model) if model in tied else model for model in models]


def as_stored(model: Model) -> Model:
    """The model as its files have it."""
    model = own_rows(model)
    return model.tied if isinstance(model, UntiedModel) else model


def _is_tied(model: Model) -> bool:
    try:
        return bool(getattr(model.config, "tie_word_embeddings", False)) and EMBEDDING in model.shapes
    except EvoMergeError:
        return False  # what is wrong with its config is said where it is needed
