"""Which tensors share genes: the whole model, groups of layers, each layer, or modules of one kind.

A group is a name and the ``fnmatch`` globs that a recipe writes for it; the first group that matches a tensor takes it. The
embeddings in and out count as layers: the first and the last.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from itertools import pairwise
from typing import Any, Literal, TypeAlias

from evo_merge.errors import ConfigError
from evo_merge.models.layer_path import is_before_layers

MODEL, LAYER, MODULE = "model", "layer", "module"
Granularity: TypeAlias = Literal["model", "layer", "module"] | int | Mapping[str, Any]  # see ``ParameterSpace``
_NUMBERED = re.compile(r"^(?P<stem>(?:\w+\.)*?\w+)\.(?P<number>\d+)\.")
# Layer norms named after the block that they stand before ("post_attention_layernorm") are not part of it.
_MODULES = (
    ("norm", ("*layernorm*", "*model.norm.*", "*.ln_*")),
    ("attention", ("*attn*", "*attention*")),
    ("mlp", ("*mlp*", "*feed_forward*")),
    ("embedding", ("*embed*", "*lm_head*", "*wte*", "*wpe*")),
)


@dataclass(frozen=True, slots=True)
class TensorGroup:
    """Tensors that share genes."""

    name: str
    globs: tuple[str, ...]


def tensor_groups(granularity: str | int, tensors: Sequence[str]) -> tuple[TensorGroup, ...]:
    """Cut a model's tensors into groups.

    Args:
        granularity: ``model``, ``layer``, ``module``, or a number of groups of consecutive layers.
        tensors: Full names of the model's tensors.

    Raises:
        ConfigError: No such granularity, or more groups than layers.
    """
    if granularity == MODEL or (granularity == 1 and granularity is not True):
        return (TensorGroup("", ("*",)),)
    if granularity == MODULE:
        return _by_module(tensors)
    layers = _layers(tensors)
    if granularity == LAYER:
        return _consecutive(layers, len(layers))
    if isinstance(granularity, int) and not isinstance(granularity, bool) and granularity > 1:
        if granularity > len(layers):
            raise ConfigError(
                f"merge.granularity: {granularity} groups, but there are {len(layers)} layers, embeddings included"
            )
        return _consecutive(layers, granularity)
    raise ConfigError(f"merge.granularity must be model, layer, module or a number of layer groups, got '{granularity}'")


def numbered_layers(tensors: Sequence[str]) -> list[tuple[str, str]]:
    """Name and glob of every numbered layer; raises ``ConfigError`` where one number does not tell them apart."""
    matches = [match for match in map(_NUMBERED.match, tensors) if match]
    stems = sorted({match["stem"] for match in matches})
    if len(stems) != 1:
        raise ConfigError(
            f"merge.granularity: layers are not told apart by one number in the tensors' names ({', '.join(stems) or 'none'})"
        )
    return [(f"layer{number}", f"{stems[0]}.{number}.*") for number in sorted({int(match["number"]) for match in matches})]


def layer_stems(tensors: Sequence[str]) -> dict[str, str]:
    """For each tensor of a numbered layer what its name begins with, the layer's number included."""
    return {name: match[0] for name in tensors if (match := _NUMBERED.match(name))}


def _layers(tensors: Sequence[str]) -> list[tuple[str, tuple[str, ...]]]:
    """Name and globs of every layer: what comes before the numbered ones, these, and what comes after."""
    numbered = numbered_layers(tensors)
    plain = [name for name in tensors if not _NUMBERED.match(name)]
    before = tuple(name for name in plain if is_before_layers(name))
    after = tuple(name for name in plain if name not in before)
    layers = [(name, (glob,)) for name, glob in numbered]
    return [("embedding", before)] * bool(before) + layers + [("head", after)] * bool(after)


def _consecutive(layers: Sequence[tuple[str, tuple[str, ...]]], n_groups: int) -> tuple[TensorGroup, ...]:
    bounds = [round(i * len(layers) / n_groups) for i in range(n_groups + 1)]
    groups = []
    for start, stop in pairwise(bounds):
        part = layers[start:stop]
        name = part[0][0] if len(part) == 1 else f"{part[0][0]}-{part[-1][0]}"
        groups.append(TensorGroup(name, tuple(glob for _, globs in part for glob in globs)))
    return tuple(groups)


def _by_module(tensors: Sequence[str]) -> tuple[TensorGroup, ...]:
    left = list(tensors)
    groups = []
    for name, globs in _MODULES:
        used = tuple(glob for glob in globs if any(fnmatchcase(tensor, glob) for tensor in left))
        if used:
            groups.append(TensorGroup(name, used))
            left = [tensor for tensor in left if not any(fnmatchcase(tensor, glob) for glob in used)]
    return (*groups, TensorGroup("rest", ("*",))) if left else tuple(groups)
