"""Nine mergekit YAMLs of the usual kinds over the models of ``real_shapes.py``, and for each the merge of a tensor by hand."""

import textwrap
from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from torch import Tensor

import merged_by_hand as by_hand
from evo_merge.methods.noise import EntryNoise
from real_shapes import N_LAYERS, Shape

Tensors = Mapping[str, Tensor]

YAMLS = {
    "ties_with_filters": """
        merge_method: ties
        base_model: base
        models:
          - model: a
            parameters:
              density: [{filter: ATTENTION, value: 0.3}, {filter: MLP, value: 0.7}, {value: 0.5}]
              weight: 0.6
          - model: b
            parameters:
              density: 0.4
              weight: [{filter: MLP, value: 1.2}, {value: 0.5}]
        """,
    "gradient_slerp": """
        merge_method: slerp
        base_model: a
        slices:
          - sources:
              - {model: a, layer_range: [0, 4]}
              - {model: b, layer_range: [0, 4]}
        parameters:
          t:
            - {filter: ATTENTION, value: [0, 0.5, 0.3, 0.7, 1]}
            - {filter: MLP, value: [1, 0.5, 0.7, 0.3, 0]}
            - {value: 0.5}
        """,
    "stack": """
        merge_method: passthrough
        slices:
          - sources: [{model: a, layer_range: [0, 3]}]
          - sources: [{model: b, layer_range: [1, 4]}]
        """,
    "dare_ties_of_three": """
        merge_method: dare_ties
        base_model: base
        models:
          - {model: base}
          - {model: a, parameters: {weight: 0.4, density: 0.6}}
          - {model: b, parameters: {weight: 0.5, density: 0.5}}
          - {model: c, parameters: {weight: 0.3, density: 0.9}}
        """,
    "model_stock": """
        merge_method: model_stock
        base_model: base
        models: [{model: a}, {model: b}, {model: c}]
        """,
    "negative_task_arithmetic": """
        merge_method: task_arithmetic
        base_model: base
        models:
          - {model: a, parameters: {weight: 0.8}}
          - {model: b, parameters: {weight: -0.4}}
        parameters: {lambda: 1.1}
        """,
    "linear_by_slices": """
        merge_method: linear
        slices:
          - sources:
              - {model: a, layer_range: [0, 2], parameters: {weight: 0.7}}
              - {model: b, layer_range: [0, 2], parameters: {weight: 0.3}}
          - sources:
              - {model: a, layer_range: [2, 4], parameters: {weight: 0.2}}
              - {model: b, layer_range: [2, 4], parameters: {weight: 0.6}}
        """,
    "breadcrumbs": """
        merge_method: breadcrumbs
        base_model: base
        models:
          - {model: a, parameters: {weight: 0.7, density: 0.8, gamma: 0.05}}
          - {model: b, parameters: {weight: 0.6, density: 0.6, gamma: 0.1}}
        """,
    "della": """
        merge_method: della
        base_model: base
        models:
          - {model: a, parameters: {weight: 0.7, density: 0.6, epsilon: 0.2}}
          - {model: b, parameters: {weight: 0.6, density: 0.5, epsilon: 0.1}}
        """,
}


def gradient(values: list[float], layer: int) -> float:
    """mergekit's: evenly over the layers."""
    place = layer / (N_LAYERS - 1) * (len(values) - 1)
    lower = min(int(place), len(values) - 2)
    return values[lower] + (place - lower) * (values[lower + 1] - values[lower])


def layer_of(name: str, shape: Shape) -> int | None:
    return int(name.removeprefix(shape.layers).split(".")[0]) if name.startswith(shape.layers) else None


def ties_with_filters(name: str, shape: Shape, base: Tensor, a: Tensor, b: Tensor, _: Tensor) -> Tensor:
    density = 0.3 if shape.attention in name else 0.7 if shape.mlp in name else 0.5
    weights = (0.6, 1.2 if shape.mlp in name else 0.5)
    return base + by_hand.voted([by_hand.trimmed(a - base, density), by_hand.trimmed(b - base, 0.4)], weights, normalize=True)


def gradient_slerp(name: str, shape: Shape, _: Tensor, a: Tensor, b: Tensor, __: Tensor) -> Tensor:
    layer = layer_of(name, shape) or 0
    rises, falls = ([0, 0.5, 0.3, 0.7, 1], [1, 0.5, 0.7, 0.3, 0])
    t = gradient(rises, layer) if shape.attention in name else gradient(falls, layer) if shape.mlp in name else 0.5
    return by_hand.arc(a, b, t)


def chance(name: str, source: str, like: Tensor) -> Tensor:
    """The noise that the documents promise, since chance is ours and no formula's."""
    return EntryNoise(0, source, name)(0, like.numel(), torch.device("cpu")).view(like.shape)


def dare_ties_of_three(name: str, _: Shape, base: Tensor, a: Tensor, b: Tensor, c: Tensor) -> Tensor:
    densities = {"a": 0.6, "b": 0.5, "c": 0.9}
    vectors = [
        by_hand.dropped(source - base, chance(name, key, base), densities[key])
        for key, source in zip("abc", (a, b, c), strict=True)
    ]
    return base + by_hand.voted(vectors, (0.4, 0.5, 0.3), normalize=False)


def model_stock(_: str, __: Shape, base: Tensor, a: Tensor, b: Tensor, c: Tensor) -> Tensor:
    return by_hand.stock(base, (a, b, c))


def negative_task_arithmetic(_: str, __: Shape, base: Tensor, a: Tensor, b: Tensor, ___: Tensor) -> Tensor:
    return base + 1.1 * by_hand.added((0.8, -0.4), (a - base, b - base))


def linear_by_slices(name: str, shape: Shape, _: Tensor, a: Tensor, b: Tensor, __: Tensor) -> Tensor:
    # What stands before the layers has the weights of the first slice, what comes after them those of the last.
    layer = layer_of(name, shape)
    is_first = is_before_the_layers(name) if layer is None else layer < 2
    return by_hand.average((a, b), (0.7, 0.3) if is_first else (0.2, 0.6))


def breadcrumbs(_: str, __: Shape, base: Tensor, a: Tensor, b: Tensor, ___: Tensor) -> Tensor:
    return base + by_hand.added(
        (0.7, 0.6), (by_hand.without_ends(a - base, 0.8, 0.05), by_hand.without_ends(b - base, 0.6, 0.1))
    )


def della(name: str, _: Shape, base: Tensor, a: Tensor, b: Tensor, __: Tensor) -> Tensor:
    vectors = [
        by_hand.dropped(delta, chance(name, key, base), by_hand.probabilities_by_rank(delta, density, epsilon))
        for key, delta, density, epsilon in (("a", a - base, 0.6, 0.2), ("b", b - base, 0.5, 0.1))
    ]
    return base + by_hand.voted(vectors, (0.7, 0.6), normalize=True)


BY_HAND: dict[str, Callable[..., Tensor]] = {
    each.__name__: each
    for each in (
        ties_with_filters,
        gradient_slerp,
        dare_ties_of_three,
        model_stock,
        negative_task_arithmetic,
        linear_by_slices,
        breadcrumbs,
        della,
    )
}


def is_before_the_layers(name: str) -> bool:
    return any(part in name for part in ("embed_tokens", "embed_in", "word_embeddings", "wte", "wpe"))


def stacked(shape: Shape, a: Tensors, b: Tensors) -> dict[str, Tensor]:
    """Layers 0 to 2 of a, then 1 to 3 of b; a's embeddings, b's final norm and head."""
    made = {name: (a if is_before_the_layers(name) else b)[name] for name in a if layer_of(name, shape) is None}
    for place, (source, layer) in enumerate([(a, 0), (a, 1), (a, 2), (b, 1), (b, 2), (b, 3)]):
        stem = f"{shape.layers}{layer}."
        made |= {f"{shape.layers}{place}.{name.removeprefix(stem)}": source[name] for name in source if name.startswith(stem)}
    return made


def write_yaml(kind: str, shape: Shape, folder: Path) -> Path:
    """The YAML in the folder of its models, where they are looked for."""
    path = folder / f"{kind}.yml"
    path.write_text(textwrap.dedent(YAMLS[kind]).replace("ATTENTION", shape.attention).replace("MLP", shape.mlp))
    return path
