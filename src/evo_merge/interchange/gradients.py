"""From one number for every tensor to what says the same in a few lines of mergekit's YAML: gradients and filters."""

import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, Final, TypeAlias

from evo_merge.interchange.mergekit_settings import between
from evo_merge.interchange.rules import shortened

_LAYER: Final = re.compile(r"^(?P<stem>(?:\w+\.)*?\w+\.)(?P<number>\d+)(?P<rest>\..+)$")
_FEWEST, _MOST = 2, 9  # numbers of a gradient as people write them
_DIGITS: Final = 9
_NEARBY: Final = 4  # last places
_SWEEPS: Final = 3
_VECTOR: Final = "vector"
_Vector: TypeAlias = tuple[float, ...]  # of every layer


def as_gradients(numbers: Mapping[str, float]) -> Any | None:
    """A setting's value that gives every tensor its number, or ``None`` where gradients do not say it.

    Args:
        numbers: By full name; what lies outside the layers has a gradient's first number.

    Returns:
        A number, a gradient, or a list of filters with numbers and gradients.
    """
    layer_of = {name: int(match["number"]) for name in numbers if (match := _LAYER.match(name))}
    kinds: dict[str, dict[int, float]] = {}  # the tensors of all layers that have one name there
    for name, layer in layer_of.items():
        kinds.setdefault(_kind(name), {})[layer] = numbers[name]
    n_layers = len(set(layer_of.values()))
    vectors = _vectors(kinds, n_layers)
    if vectors is None:
        return None
    common = [vector for vector, _ in Counter(vectors.values()).most_common()]
    values = {}
    for name, number in numbers.items():
        own = vectors[_kind(name)] if name in layer_of else next((v for v in common if v[0] == number), (number,) * n_layers)
        values[name] = {_VECTOR: own}
    rests = {_kind(name).partition("#")[2] for name in layer_of}
    words = dict.fromkeys(word for rest in rests for word in rest.split(".") if len(word) > 1)
    conditions: list[dict[str, Any]] = []
    for rule in shortened(values, [*words, *sorted(rests)], ()):
        vector = rule.values[_VECTOR]
        assert isinstance(vector, tuple), "it was one"
        value = gradient(vector)
        if value is None:
            return None
        conditions += [({"filter": part} if (part := glob.strip("*")) else {}) | {"value": value} for glob in rule.tensors]
    return conditions[0]["value"] if len(conditions) == 1 else conditions


def gradient(vector: _Vector) -> float | list[float] | None:
    """The shortest gradient found that gives every layer its very number; a number where they are alike."""
    if len(set(vector)) == 1:
        return vector[0]
    for n_points in range(_FEWEST, min(_MOST, len(vector) - 1) + 1):
        points = _points(vector, n_points)
        if points is not None and _is_exact(points, vector):
            return points
    return _one_a_layer(vector)


def _vectors(kinds: Mapping[str, Mapping[int, float]], n_layers: int) -> dict[str, _Vector] | None:
    """The numbers of every kind of tensor by layer; those that not all layers have go with one that all have."""
    layers = range(n_layers)
    full = {kind: tuple(own[i] for i in layers) for kind, own in kinds.items() if own.keys() == set(layers)}
    vectors = dict(full)
    for kind, own in kinds.items():
        fitting = (v for v in full.values() if all(i in layers and v[i] == value for i, value in own.items()))
        if kind not in vectors:
            if (vector := next(fitting, None)) is None:
                return None
            vectors[kind] = vector
    return vectors or None


def _points(vector: _Vector, n_points: int) -> list[float] | None:
    """Points of a gradient through the layers, each found from the layers of a piece beside it and rounded."""
    last = len(vector) - 1
    points = []
    for point in range(n_points):
        depth = point * last / (n_points - 1)
        if depth.is_integer():
            points.append(vector[int(depth)])
            continue
        pieces = [(piece * last / (n_points - 1), (piece + 1) * last / (n_points - 1)) for piece in (point - 1, point)]
        inside = [(math.ceil(begin), math.floor(end)) for begin, end in pieces]
        first, other = max(inside, key=lambda piece: piece[1] - piece[0])
        if first >= other:
            return None
        slope = (vector[other] - vector[first]) / (other - first)
        points.append(float(f"{vector[first] + slope * (depth - first):.{_DIGITS}g}"))
    return points


def _one_a_layer(vector: _Vector) -> list[float] | None:
    """A point for each layer, moved by last places where ``t * (n - 1)`` comes out just beside a layer's number."""
    points, last = list(vector), len(vector) - 1
    for _ in range(_SWEEPS):
        for layer, value in enumerate(vector):
            depth = layer / last * last
            other = layer - 1 if depth < layer else layer + 1
            if between(points, layer / last) == value or other > last:
                continue
            share = 1 - abs(depth - layer)  # of this point; the rest is of the other
            point = (value - (1 - share) * points[other]) / share
            for steps in range(-_NEARBY, _NEARBY + 1):
                points[layer] = point + steps * math.ulp(point)
                if between(points, layer / last) == value:
                    break
        if _is_exact(points, vector):
            return points
    return None


def _is_exact(points: Sequence[float], vector: _Vector) -> bool:
    return all(between(points, layer / (len(vector) - 1)) == value for layer, value in enumerate(vector))


def _kind(name: str) -> str:
    match = _LAYER.match(name)
    return name if match is None else f"{match['stem']}#{match['rest']}"
