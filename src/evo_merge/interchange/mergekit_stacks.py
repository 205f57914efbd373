"""What a mergekit YAML stacks: the sources of a merge, each a model or layers of several, and the tensors that come of it."""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from evo_merge.interchange.mergekit_config import MergekitConfig, Slice, SliceSource
from evo_merge.interchange.mergekit_methods import BASE, FIRST_BASE, NO_BASE, OPTIONAL_BASE
from evo_merge.models.layer_path import is_before_layers
from evo_merge.recipe import DataFlowRecipe, ModelReference, Source, Step

_LAYER: Final = re.compile(r"^(?P<stem>(?:\w+\.)*?\w+\.)(?P<number>\d+)\.(?P<rest>.+)$")


@dataclass(frozen=True, slots=True)
class Shape:
    """What has to be known of a model.

    Attributes:
        n_layers: How many it has.
        tensors: Full names.
        dtype: What most of it is stored in.
    """

    n_layers: int
    tensors: Sequence[str]
    dtype: str


@dataclass(frozen=True, slots=True)
class MergedTensor:
    """A tensor of the merge: its name, the slice it is of, how deep it lies there, and its name in each source."""

    name: str
    part: Slice
    t: float
    names: tuple[str, ...]


def filled(config: MergekitConfig, part: Slice, shapes: Mapping[ModelReference, Shape]) -> Slice:
    """The slice with every range of layers written out, and with the base among its sources where the method takes one."""
    sources = tuple(
        source if source.layers is not None else replace(source, layers=(0, shapes[source.model].n_layers))
        for source in part.sources
    )
    for source in sources:
        n_layers = shapes[source.model].n_layers
        if source.layers is not None and source.layers[1] > n_layers:
            raise config.document.error(
                (*source.place, "layer_range"),
                f"'{source.model}' has {n_layers} layers, and layer_range ends at {source.layers[1]}",
            )
    if len({_length(source) for source in sources}) > 1:
        counts = ", ".join(f"'{source.model}' has {_length(source)}" for source in sources)
        raise config.document.error(
            part.place, f"these models have different numbers of layers ({counts}); name layers with slices"
        )
    takes_base = config.peer.base in (BASE, FIRST_BASE, OPTIONAL_BASE) and part.base is not None
    if takes_base and part.base not in [source.model for source in sources]:
        if config.slices[0].place != ("models",):
            raise config.document.error(part.place, f"'{config.method}' needs the base_model '{part.base}' among the sources")
        assert part.base is not None
        sources += (SliceSource(part.base, (0, shapes[part.base].n_layers), {}, part.place),)
    return replace(part, sources=sources)


def columns_of(config: MergekitConfig, slices: Sequence[Slice]) -> tuple[list[list[SliceSource]], list[SliceSource] | None]:
    """The sources of the merge, each as what it takes from every slice, and the base where the method takes one."""
    rows, bases = [], []
    for part in slices:
        base = [source for source in part.sources if source.model == part.base and config.peer.base != NO_BASE]
        others = [source for source in part.sources if source not in base]
        rows.append(base + others if config.peer.base == FIRST_BASE else others)
        bases += base
    places = {source.model: place for place, source in enumerate(rows[0])}
    if all(places.keys() == {source.model for source in row} for row in rows):
        rows = [sorted(row, key=lambda source: places[source.model]) for row in rows]
    if len({len(row) for row in rows}) > 1:
        counts = ", ".join(str(len(row)) for row in rows)
        raise config.document.error(("slices",), f"every slice must have as many sources, without the base; there are {counts}")
    columns = [list(column) for column in zip(*rows, strict=True)]
    return columns, bases if bases and config.peer.base in (BASE, OPTIONAL_BASE) else None


def tensors_of(
    columns: Sequence[Sequence[SliceSource]], slices: Sequence[Slice], shapes: Mapping[ModelReference, Shape]
) -> list[MergedTensor]:
    """All tensors of the merge: those before the layers, the layers' in their new order, those after."""
    made: list[MergedTensor] = []

    def outside(place: int, *, before: bool) -> None:
        models = [column[place].model for column in columns]
        names = dict.fromkeys(name for model in models for name in shapes[model].tensors if not _LAYER.match(name))
        made.extend(
            # At depth 0 also those after the layers; so does mergekit since it knows models of several parts.
            MergedTensor(name, slices[place], 0.0, (name,) * len(columns))
            for name in names
            if is_before_layers(name) == before
        )

    outside(0, before=True)
    layer = 0
    for place, part in enumerate(slices):
        first = columns[0][place]
        length = _length(first)
        for offset in range(length):
            t = offset / (length - 1) if length > 1 else 1.0
            numbers = [_begin(column[place]) + offset for column in columns]
            for name in shapes[first.model].tensors:
                match = _LAYER.match(name)
                if match and int(match["number"]) == numbers[0]:
                    names = tuple(f"{match['stem']}{number}.{match['rest']}" for number in numbers)
                    made.append(MergedTensor(f"{match['stem']}{layer}.{match['rest']}", part, t, names))
            layer += 1
    outside(-1, before=False)
    return made


def layer_stems(tensors: Sequence[MergedTensor]) -> list[str]:
    """What the names of a layer's tensors begin with, for each layer of the merge."""
    matches = [match for tensor in tensors if (match := _LAYER.match(tensor.name))]
    return list(dict.fromkeys(f"{match['stem']}{match['number']}." for match in matches))


def reference_of(column: Sequence[SliceSource], shapes: Mapping[ModelReference, Shape], dtype: str) -> ModelReference:
    """The model that is a whole column, or the stack that it is."""
    hops = [(source.model, layer) for source in column for layer in range(_begin(source), _begin(source) + _length(source))]
    first = column[0].model
    if hops == [(first, layer) for layer in range(shapes[first].n_layers)]:
        return first
    models = list(dict.fromkeys(source.model for source in column))
    names = dict(zip(models, source_names(models), strict=True))
    path = tuple(Step(names[model], layer) for model, layer in hops)
    last = names[column[-1].model]
    sources = tuple(Source(name, model) for model, name in names.items())
    return ModelReference(recipe=DataFlowRecipe(sources, path, "residual", dtype, None if last == names[first] else last))


def source_names(models: Sequence[ModelReference]) -> list[str]:
    """A short name for each: its folder's, numbered where several have it."""
    short = [Path(model.adapter or model.model).name for model in models]
    seen: Counter[str] = Counter()
    names = []
    for name in short:
        seen[name] += 1
        names.append(name if short.count(name) == 1 else f"{name}_{seen[name]}")
    return names


def _begin(source: SliceSource) -> int:
    assert source.layers is not None, "ranges are written out"
    return source.layers[0]


def _length(source: SliceSource) -> int:
    return 0 if source.layers is None else source.layers[1] - source.layers[0]
