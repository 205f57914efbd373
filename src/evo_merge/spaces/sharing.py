"""Genes spread over a model: by depth and by filters, as steps or as a gradient. What ``merge.granularity`` says as a mapping.

The words are those of mergekit-evolve (https://github.com/arcee-ai/mergekit/blob/main/docs/evolve.md), whose
``layer_granularity`` is ``layers`` here. What stands before the layers goes with the first of them, what comes after them with
the last; in a gradient all of it has the first number. So it is in mergekit.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from glob import escape
from itertools import pairwise
from typing import Any, TypeAlias

from evo_merge.command_line import nearest
from evo_merge.errors import ConfigError
from evo_merge.interchange.rules import shortened
from evo_merge.models.layer_path import is_before_layers
from evo_merge.spaces.granularity import layer_stems, numbered_layers, tensor_groups

_KEYS = ("layers", "groups", "smooth", "filters")
_RULE = "rule"
_Shares: TypeAlias = tuple[tuple[int, float], ...]  # places of sets of genes and how much each counts; they sum to 1


@dataclass(frozen=True, slots=True)
class SharedRule:
    """Tensors whose parameters come of the same genes.

    Attributes:
        globs: ``fnmatch`` globs on full names; the first rule that matches takes a tensor.
        shares: Places of sets of genes and how much each counts.
    """

    globs: tuple[str, ...]
    shares: _Shares


@dataclass(frozen=True, slots=True)
class Sharing:
    """Which tensors share genes.

    Attributes:
        names: Of the sets of genes; of a whole model it is empty.
        rules: For all tensors.
    """

    names: tuple[str, ...]
    rules: tuple[SharedRule, ...]


def sharing(granularity: str | int | Mapping[str, Any], tensors: Sequence[str]) -> Sharing:
    """Spread genes over a model's tensors.

    Args:
        granularity: What ``tensor_groups`` takes, or a mapping: ``layers``, so many consecutive layers have one set of genes,
            or ``groups``, so many sets there are; ``smooth``, the sets are points of a gradient over the depth, and the layers
            between them have what lies between; ``filters``, parts of names, of which the first that is in a name gives the
            tensor a set of its own, and what has none of them shares one more.
        tensors: Full names of the model's tensors.

    Raises:
        ConfigError: No such granularity, or one that the model cannot have.
    """
    if not isinstance(granularity, Mapping):
        groups = tensor_groups(granularity, tensors)
        rules = tuple(SharedRule(group.globs, ((place, 1.0),)) for place, group in enumerate(groups))
        return Sharing(tuple(group.name for group in groups), rules)
    _check(granularity)
    depths, depth_of = _depths(granularity, tensors)
    filters = list(granularity.get("filters") or ())
    parts = [*filters, "rest"] if filters else [""]
    part_of = {name: next((i for i, each in enumerate(filters) if each in name), len(parts) - 1) for name in tensors}
    for number, text in enumerate(filters):
        if number not in part_of.values():
            raise ConfigError(f"merge.granularity.filters: no tensor is left for '{text}'; filters are parts of names")
    used = sorted({(depth, part_of[name]) for name in tensors for depth, _ in depth_of[name]})
    sets = {pair: place for place, pair in enumerate(used)}
    shares = {name: tuple((sets[depth, part_of[name]], share) for depth, share in depth_of[name]) for name in tensors}
    return Sharing(
        tuple(".".join(filter(None, (depths[d], parts[p]))) for d, p in used), _rules(shares, part_of, filters, tensors)
    )


def _rules(
    shares: Mapping[str, _Shares], part_of: Mapping[str, int], filters: Sequence[str], tensors: Sequence[str]
) -> tuple[SharedRule, ...]:
    """Globs that give every tensor its shares: a layer's name and a filter, or where that would say something else, few."""
    found = _by_layers_and_filters(shares, part_of, filters, tensors)
    if all(_shares_by(found, name) == each for name, each in shares.items()):
        return found
    # A filter such as "layers.1." is a part of what stands before it in these globs.
    kinds = list(dict.fromkeys(shares.values()))
    numbered = {name: {_RULE: float(kinds.index(each))} for name, each in shares.items()}
    stems = [glob.removesuffix("*") for _, glob in numbered_layers(tensors)]
    rules = shortened(numbered, filters, stems)
    return tuple(SharedRule(rule.tensors, kinds[int(rule.values[_RULE])]) for rule in rules)  # type: ignore[arg-type]


def _shares_by(rules: Sequence[SharedRule], name: str) -> _Shares | None:
    """What the first rule that matches says."""
    return next((rule.shares for rule in rules if any(fnmatchcase(name, glob) for glob in rule.globs)), None)


def _by_layers_and_filters(
    shares: Mapping[str, _Shares], part_of: Mapping[str, int], filters: Sequence[str], tensors: Sequence[str]
) -> tuple[SharedRule, ...]:
    if len(set(shares.values())) == 1:
        return (SharedRule(("*",), shares[tensors[0]]),)
    stem_of = layer_stems(tensors)
    globs: dict[tuple[int, _Shares], dict[str, None]] = {}
    for name in sorted(tensors, key=lambda name: part_of[name]):  # the first filter counts, and the rest is what none takes
        part = part_of[name]
        text = f"*{escape(filters[part])}*" if part < len(filters) else "*"
        glob = f"{stem_of[name]}{text}" if name in stem_of else escape(name)
        globs.setdefault((part, shares[name]), {})[glob] = None
    return tuple(SharedRule(tuple(own), each) for (_, each), own in globs.items())


def _depths(granularity: Mapping[str, Any], tensors: Sequence[str]) -> tuple[list[str], dict[str, _Shares]]:
    """Names of the sets by depth, and for each tensor which it has and how much of each."""
    layers = numbered_layers(tensors)
    n_layers = len(layers)
    bounds = _bounds(granularity, n_layers)
    n_sets = len(bounds) - 1
    if n_sets == 1:
        return [""], dict.fromkeys(tensors, ((0, 1.0),))
    places = {glob.removesuffix("*"): place for place, (_, glob) in enumerate(layers)}
    layer_of = {name: places[stem] for name, stem in layer_stems(tensors).items()}
    if granularity.get("smooth"):
        along = [_between(layer, n_layers, n_sets) for layer in range(n_layers)]
        return [f"depth{i}" for i in range(n_sets)], {name: along[layer_of.get(name, 0)] for name in tensors}
    names = [layers[a][0] if b - a == 1 else f"{layers[a][0]}-{layers[b - 1][0]}" for a, b in pairwise(bounds)]
    steps = [((place, 1.0),) for place, (a, b) in enumerate(pairwise(bounds)) for _ in range(a, b)]
    outside = {name: 0 if is_before_layers(name) else n_layers - 1 for name in tensors}
    return names, {name: steps[layer_of.get(name, outside[name])] for name in tensors}


def _bounds(granularity: Mapping[str, Any], n_layers: int) -> list[int]:
    """Where each set of layers begins, and the end."""
    if (size := granularity.get("layers")) is not None:
        if n_layers % size:
            raise ConfigError(
                f"merge.granularity.layers: {n_layers} layers cannot be cut into groups of {size}; name a divisor"
            )
        return list(range(0, n_layers + 1, size))
    n_sets = granularity.get("groups") or 1
    if n_sets > n_layers:
        raise ConfigError(f"merge.granularity.groups: {n_sets} groups, but there are {n_layers} layers")
    return [round(i * n_layers / n_sets) for i in range(n_sets + 1)]


def _between(layer: int, n_layers: int, n_sets: int) -> _Shares:
    """The two points of a gradient that a layer lies between, and the share of each."""
    depth = layer * (n_sets - 1) / (n_layers - 1)
    lower = min(int(depth), n_sets - 2)
    upper = depth - lower
    return tuple((place, share) for place, share in ((lower, 1.0 - upper), (lower + 1, upper)) if share > 0.0)


def _check(granularity: Mapping[str, Any]) -> None:
    """Refuse keys that there are not, and values that cannot be."""
    where = "merge.granularity"
    if unknown := [key for key in granularity if key not in _KEYS]:
        raise ConfigError(f"{where}: there is no '{unknown[0]}'; {nearest(str(unknown[0]), _KEYS)}")
    if granularity.get("layers") is not None and granularity.get("groups") is not None:
        raise ConfigError(f"{where} has both layers and groups; name one of them")
    for key in ("layers", "groups"):
        value = granularity.get(key)
        if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < 1):
            raise ConfigError(f"{where}.{key} must be a whole number of at least 1, got {value!r}")
    if not isinstance(granularity.get("smooth") or False, bool):
        raise ConfigError(f"{where}.smooth must be true or false, got {granularity['smooth']!r}")
    if granularity.get("smooth") and granularity.get("layers") is None and granularity.get("groups") is None:
        raise ConfigError(
            f"{where}: smooth needs points to go through; say how many with groups, or every how many with layers"
        )
    filters = granularity.get("filters")
    filters = () if filters is None else filters
    is_list = isinstance(filters, Sequence) and not isinstance(filters, str)
    if not is_list or not all(isinstance(each, str) and each for each in filters):
        raise ConfigError(f"{where}.filters must be a list of parts of names, as [self_attn, mlp], got {filters!r}")
    if len(set(filters)) < len(filters):
        raise ConfigError(f"{where}.filters names one twice; name each once")
