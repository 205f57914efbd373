"""What the check knows of one model before any weight is read, gathered without giving up at the first thing that is wrong."""

import json
from collections.abc import Callable, Mapping
from copy import deepcopy
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeVar

import torch

from evo_merge.errors import EvoMergeError, ModelError
from evo_merge.findings import Finding
from evo_merge.models.checks import kinds
from evo_merge.models.checks.tokens import TokenizerFacts, tokenizer_facts
from evo_merge.models.model import Model, StoredModel
from evo_merge.models.skeleton import are_views, as_in_files

_T = TypeVar("_T")


@dataclass(frozen=True)
class Facts:
    """One model as its headers, config and tokenizer describe it; ``None`` stands for what cannot be read.

    Attributes:
        model: What they were gathered from.
        config: Settings of its language model, as transformers understands them.
        shapes: Shape of every tensor that takes part, by full name.
        dtypes: Stored dtype of every tensor.
        expected: Shape of every tensor that its config asks for; ``None`` where transformers cannot say.
        tokenizer: Its tokenizer.
        is_mute: Whether it has no tokenizer; one that cannot be read is another thing.
    """

    model: Model
    config: Mapping[str, Any] | None
    shapes: Mapping[str, tuple[int, ...]] | None
    dtypes: Mapping[str, torch.dtype] | None
    expected: Mapping[str, tuple[int, ...]] | None
    tokenizer: TokenizerFacts | None
    is_mute: bool

    @property
    def name(self) -> str:
        """What the pool calls it."""
        return self.model.name

    @property
    def label(self) -> str:
        """How sentences call it."""
        return f"'{self.model.name}' ({self.model.reference})"

    @property
    def stored(self) -> StoredModel | None:
        """The model, where it lies in files."""
        return self.model if isinstance(self.model, StoredModel) else None

    @property
    def adapter(self) -> Path | None:
        """The folder of its adapter, where it has one."""
        return None if self.stored is None else self.stored.files.adapter

    @property
    def is_gguf(self) -> bool:
        """Whether its weights come from a GGUF file."""
        return self.stored is not None and self.stored.files.gguf is not None

    @property
    def can_be_read(self) -> bool:
        """Whether its weights are on this machine; for a plan they may be left on the hub."""
        return self.stored is None or self.stored.files.hub is None

    @property
    def is_rearranged(self) -> bool:
        """Whether transformers rearranges its weights when it loads them, so that they cannot be written in place."""
        built = None if self.expected is None else _built(_Keyed.of(self.model.config))
        return built is not None and not built.in_place

    def lacking(self) -> list[str]:
        """Tensors that its config asks for and its files do not have."""
        if self.expected is None or self.shapes is None:
            return []
        return [name for name in self.expected if name not in self.shapes]


def facts_of(model: Model, tokenizers: dict[str, TokenizerFacts]) -> tuple[Facts, list[Finding]]:
    """Describe a model, with what kept parts of it from being read.

    Args:
        model: Of a pool.
        tokenizers: Those of equal files that were read before, added to.
    """
    found: list[Finding] = []

    def tried(read: Callable[[], _T]) -> _T | None:
        try:
            return read()
        except ModelError as error:
            found.append(kinds.of_error(error, model.name))
        except EvoMergeError as error:
            found.append(kinds.UNREADABLE.found(str(error), model.name, mend=""))
        return None

    config = tried(lambda: model.config)
    # Which tensors take part depends on the config, so that without one there is nothing to compare.
    shapes = None if config is None else tried(lambda: model.shapes)
    dtypes = None if shapes is None else tried(lambda: model.dtypes)
    n_found = len(found)
    tokenizer = tried(lambda: tokenizer_facts(model, tokenizers))
    is_mute = tokenizer is None and len(found) == n_found
    settings = None if config is None else dict(config.get_text_config().to_dict())
    expected = None if config is None else tried(lambda: expected_shapes(config))
    return Facts(model, settings, shapes, dtypes, expected, tokenizer, is_mute), list(dict.fromkeys(found))


def expected_shapes(config: Any) -> Mapping[str, tuple[int, ...]] | None:
    """Shapes of the tensors that a checkpoint of that config has, by the names that are written to files.

    Args:
        config: Of transformers.

    Returns:
        ``None`` where transformers has no language model of that config.

    Raises:
        ModelError: The config asks for a model that cannot be.
    """
    built = _built(_Keyed.of(config))
    return None if built is None else built.shapes


def vocabulary_tensors(config: Any) -> frozenset[str]:
    """Tensors that have a row a token: those whose first size follows the config's ``vocab_size``; raises ``ModelError``."""
    larger = deepcopy(config)
    larger.get_text_config().vocab_size += 1
    shapes, grown = expected_shapes(config) or {}, expected_shapes(larger) or {}
    return frozenset(name for name, shape in shapes.items() if grown.get(name, shape)[:1] != shape[:1])


def writes_text(config: Any) -> bool:
    """Whether transformers has a language model of that config."""
    from transformers import AutoModelForCausalLM

    return type(config) in AutoModelForCausalLM._model_mapping


@dataclass(frozen=True)
class _Keyed:
    key: str
    config: Any

    @classmethod
    def of(cls, config: Any) -> "_Keyed":
        said = {key: value for key, value in config.to_dict().items() if key != "_name_or_path"}
        return cls(json.dumps(said, sort_keys=True, default=str), config)

    def __hash__(self) -> int:
        return hash(self.key)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Keyed) and self.key == other.key


@dataclass(frozen=True)
class _Built:
    shapes: Mapping[str, tuple[int, ...]]
    in_place: bool


@lru_cache(maxsize=64)
def _built(keyed: _Keyed) -> _Built | None:
    from transformers import AutoModelForCausalLM

    config = keyed.config
    if not writes_text(config):
        return None
    try:
        with torch.device("meta"):
            model = AutoModelForCausalLM.from_config(config)
    except Exception as error:  # whatever an architecture makes of a setting that cannot be
        reason = " ".join(str(error).split()) or type(error).__name__
        raise ModelError(
            f"the config of type '{config.model_type}' asks for a model that cannot be: {reason}",
            "mend config.json",
            finding="unreadable_config",
        ) from error
    model.tie_weights()
    tensors = as_in_files(model)
    return _Built({name: tuple(tensor.shape) for name, tensor in tensors.items()}, are_views(tensors.values(), model))
