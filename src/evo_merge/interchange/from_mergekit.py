"""A mergekit YAML (https://github.com/arcee-ai/mergekit) as a recipe, with mergekit's own defaults, so that the numbers are its.

Every source of the merge is a stack of layers: the n-th models of all slices, or where that is one whole model, that model.
Stacks are data-flow recipes of their own. What filters and gradients make of the settings is worked out for every tensor, and
written as rules.
"""

import logging
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from evo_merge.interchange.document import Document
from evo_merge.interchange.mergekit_config import MergekitConfig, Slice, SliceSource, parse
from evo_merge.interchange.mergekit_methods import (
    BASE,
    FIRST_BASE,
    NO_BASE,
    OF_SOURCE,
    OPTION,
    OPTIONAL_BASE,
    REQUIRED,
    Setting,
)
from evo_merge.interchange.mergekit_settings import Lookup, filters
from evo_merge.interchange.rules import shortened
from evo_merge.methods.base import SHARES, MergeMethod, method_from_recipe, options_of, wrong_number_of_sources
from evo_merge.recipe import DataFlowRecipe, ModelReference, ParameterSpaceRecipe, Recipe, Source, Step

log = logging.getLogger(__name__)
_LAYER: Final = re.compile(r"^(?P<stem>(?:\w+\.)*?\w+\.)(?P<number>\d+)\.(?P<rest>.+)$")
_NO_SUM: Final = 1e-8
_HEAD: Final = "lm_head.weight"  # filters may name it where embeddings are tied


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
class _Tensor:
    """A tensor of the merge: its name, the slice it is of, how deep it lies there, and its name in each source."""

    name: str
    part: Slice
    t: float
    names: tuple[str, ...]


def from_mergekit(
    text: str, origin: str, describe: Callable[[ModelReference], Shape], folder: Path | None = None, seed: int = 0
) -> Recipe:
    """The recipe of a mergekit YAML.

    Args:
        text: The file.
        origin: What messages call it.
        describe: Says what a model looks like.
        folder: Where relative folders are looked for that do not exist in the working directory.
        seed: Of the method's chance.

    Raises:
        RecipeError: With file and line, what is wrong in it, or what we do not build.
        ModelError: A model cannot be found.
    """
    config = parse(Document.read(text, origin), folder)
    shapes = {model: describe(model) for model in dict.fromkeys(_models(config))}
    slices = [_filled(config, part, shapes) for part in config.slices]
    columns, base = _columns(config, slices)
    leader = slices[0].sources[0].model if config.base is None else config.base
    dtype = config.dtype or shapes[leader].dtype
    out_dtype = config.out_dtype or dtype
    method = _method(config, slices, columns, base)
    tensors = _tensors(columns, slices, shapes)
    _check_filters(config, tensors)
    values = {tensor.name: _values(config, method, columns, tensor) for tensor in tensors}
    _check_values(config, values)
    _check_sums(config, method, values)
    names = _source_names([column[0].model for column in columns])
    is_plain = config.method == "passthrough" and dtype == out_dtype and all(each["scale"] == 1.0 for each in values.values())
    if is_plain and (stack := _reference(columns[0], shapes, out_dtype)).recipe is not None:
        return stack.recipe
    sources = tuple(Source(name, _reference(column, shapes, dtype)) for name, column in zip(names, columns, strict=True))
    base_reference = _reference(base, shapes, dtype) if base is not None else config.base
    return ParameterSpaceRecipe(
        # A base that only lends its config is left out where that is the first source's.
        base=None if base is None and base_reference == sources[0].reference else base_reference,
        sources=sources,
        method=config.method,
        options=options_of(method),
        parameters=shortened(values, _filter_texts(config), _stems(tensors)),
        seed=seed,
        dtype=dtype,
        out_dtype=out_dtype,
    )


def _models(config: MergekitConfig) -> list[ModelReference]:
    named = [source.model for part in config.slices for source in part.sources]
    return named + [base for base in (config.base, *(part.base for part in config.slices)) if base is not None]


def _filled(config: MergekitConfig, part: Slice, shapes: Mapping[ModelReference, Shape]) -> Slice:
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
        raise config.document.error(part.place, "these models have different numbers of layers; name layers with slices")
    takes_base = config.peer.base in (BASE, FIRST_BASE, OPTIONAL_BASE) and part.base is not None
    if takes_base and part.base not in [source.model for source in sources]:
        if config.slices[0].place != ("models",):
            raise config.document.error(part.place, f"'{config.method}' needs the base_model '{part.base}' among the sources")
        assert part.base is not None
        sources += (SliceSource(part.base, (0, shapes[part.base].n_layers), {}, part.place),)
    return replace(part, sources=sources)


def _columns(config: MergekitConfig, slices: Sequence[Slice]) -> tuple[list[list[SliceSource]], list[SliceSource] | None]:
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


def _method(
    config: MergekitConfig, slices: Sequence[Slice], columns: Sequence[object], base: Sequence[object] | None
) -> MergeMethod:
    options = dict(config.peer.fixed)
    if config.peer.base == OPTIONAL_BASE:
        options["task_vectors"] = base is not None
    for setting in config.peer.of_kind(OPTION):
        options[setting.our_name] = _option(config, slices, setting)
    method = method_from_recipe(config.method, options)
    if wrong := wrong_number_of_sources(method, len(columns)):
        hint = "; base_model is not one of them" if base is not None else ""
        raise config.document.error(slices[0].place, f"'{config.method}' {wrong}{hint}")
    return method


def _option(config: MergekitConfig, slices: Sequence[Slice], setting: Setting) -> Any:
    found = []
    for part in slices:
        for scope, place in ((part.settings, (*part.place, "parameters")), (config.settings, ("parameters",))):
            value = scope.get(setting.name)
            if isinstance(value, list | dict):
                raise config.document.error(
                    (*place, setting.name), f"'{setting.name}' must be one value for all tensors, not a list or filters"
                )
            if value is not None:
                found.append((value, (*place, setting.name)))
                break
        else:
            found.append((setting.default, ()))
    value, place = found[-1]
    if any(other != value for other, _ in found):
        raise config.document.error(place, f"'{setting.name}' must be one value for all slices")
    if isinstance(setting.default, bool) and not isinstance(value, bool | int):
        raise config.document.error(place, f"'{setting.name}' must be true or false, got {value!r}")
    return setting.to_ours(bool(value) if isinstance(setting.default, bool) else type(setting.default)(value))


def _tensors(
    columns: Sequence[Sequence[SliceSource]], slices: Sequence[Slice], shapes: Mapping[ModelReference, Shape]
) -> list[_Tensor]:
    """All tensors of the merge: those before the layers, the layers' in their new order, those after."""
    made: list[_Tensor] = []

    def outside(place: int, *, before: bool) -> None:
        models = [column[place].model for column in columns]
        names = dict.fromkeys(name for model in models for name in shapes[model].tensors if not _LAYER.match(name))
        made.extend(
            # At depth 0 also those after the layers; so does mergekit since it knows models of several parts.
            _Tensor(name, slices[place], 0.0, (name,) * len(columns))
            for name in names
            if ("embed" in name) == before
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
                    made.append(_Tensor(f"{match['stem']}{layer}.{match['rest']}", part, t, names))
            layer += 1
    outside(-1, before=False)
    return made


def _values(
    config: MergekitConfig, method: MergeMethod, columns: Sequence[Sequence[SliceSource]], tensor: _Tensor
) -> dict[str, tuple[float, ...] | float]:
    whole = [(tensor.part.settings, (*tensor.part.place, "parameters")), (config.settings, ("parameters",))]
    sources = [next(source for source in column if source in tensor.part.sources) for column in columns]
    values: dict[str, tuple[float, ...] | float] = {}
    per_source = {parameter.name: parameter.per_source for parameter in method.parameters}
    for setting in config.peer.settings:
        if setting.kind == OPTION:
            continue
        if setting.kind != OF_SOURCE:
            lookup = Lookup(config.document, whole)
            values[setting.our_name] = _number(
                config, setting, lookup.value(setting.name, tensor.name, tensor.t), tensor.part.place
            )
            continue
        numbers = []
        for source, name in zip(sources, tensor.names, strict=True):
            own = (source.settings, (*source.place, "parameters"))
            found = Lookup(config.document, [own, *whole]).value(setting.name, name, tensor.t)
            numbers.append(_number(config, setting, found, source.place))
        values[setting.our_name] = tuple(numbers) if per_source[setting.our_name] else numbers[0]
    return values


def _number(config: MergekitConfig, setting: Setting, found: Any, place: tuple[str | int, ...]) -> float:
    if found is None and setting.default is REQUIRED:
        raise config.document.error(place, f"'{setting.name}' is missing, and '{config.method}' needs it")
    return float(setting.default if found is None else found)


def _check_filters(config: MergekitConfig, tensors: Sequence[_Tensor]) -> None:
    names = {_HEAD, *(tensor.name for tensor in tensors), *(name for tensor in tensors for name in tensor.names)}
    for text, place in _filters(config):
        if not any(text in name for name in names):
            raise config.document.error(
                place, f"the filter '{text}' matches no tensor; filters are parts of names, as in self_attn"
            )


def _check_values(config: MergekitConfig, values: Mapping[str, Mapping[str, tuple[float, ...] | float]]) -> None:
    place = config.slices[0].place
    for name, each in values.items():
        numbers = {key: value if isinstance(value, tuple) else (value,) for key, value in each.items()}
        for key in SHARES:
            if bad := [value for value in numbers.get(key, ()) if not 0.0 <= value <= 1.0]:
                raise config.document.error(place, f"'{key}' is a share from 0 to 1, got {bad[0]:g} for '{name}'")
        if config.method.startswith("della"):
            for density, epsilon in zip(numbers["density"], numbers["epsilon"], strict=True):
                if density < 1.0 and not epsilon < density < 1.0 - epsilon:
                    raise config.document.error(
                        place,
                        f"density - epsilon and density + epsilon must lie between 0 and 1, got {density:g} and {epsilon:g}",
                    )
    densities = [each["density"] for each in values.values() if "density" in each]
    for number, column in enumerate(zip(*densities, strict=True), start=1):  # type: ignore[arg-type]
        if not any(column):
            raise config.document.error(place, f"density 0 keeps nothing of source {number}; leave the model out")


def _check_sums(
    config: MergekitConfig, method: MergeMethod, values: Mapping[str, Mapping[str, tuple[float, ...] | float]]
) -> None:
    """Refuse weights that cannot be normalised, where mergekit would divide by 0."""
    if config.method not in ("linear", "multislerp") or not options_of(method)["normalize"]:
        return
    for name, each in values.items():
        weights = each["weight"]
        if isinstance(weights, tuple) and abs(sum(weights)) < _NO_SUM:
            raise config.document.error(
                config.slices[0].place, f"the weights sum to 0 for '{name}', and '{config.method}' divides by their sum"
            )


def _filters(config: MergekitConfig) -> list[tuple[str, tuple[str | int, ...]]]:
    scopes = [(config.settings, ("parameters",))]
    for part in config.slices:
        scopes.append((part.settings, (*part.place, "parameters")))
        scopes += [(source.settings, (*source.place, "parameters")) for source in part.sources]
    return [found for settings, place in scopes for name, value in settings.items() for found in filters(value, (*place, name))]


def _filter_texts(config: MergekitConfig) -> list[str]:
    return list(dict.fromkeys(text for text, _ in _filters(config)))


def _stems(tensors: Sequence[_Tensor]) -> list[str]:
    matches = [match for tensor in tensors if (match := _LAYER.match(tensor.name))]
    return list(dict.fromkeys(f"{match['stem']}{match['number']}." for match in matches))


def _reference(column: Sequence[SliceSource], shapes: Mapping[ModelReference, Shape], dtype: str) -> ModelReference:
    """The model that is a whole column, or the stack that it is."""
    hops = [(source.model, layer) for source in column for layer in range(_begin(source), _begin(source) + _length(source))]
    first = column[0].model
    if hops == [(first, layer) for layer in range(shapes[first].n_layers)]:
        return first
    models = list(dict.fromkeys(source.model for source in column))
    names = dict(zip(models, _source_names(models), strict=True))
    path = tuple(Step(names[model], layer) for model, layer in hops)
    last = names[column[-1].model]
    sources = tuple(Source(name, model) for model, name in names.items())
    return ModelReference(recipe=DataFlowRecipe(sources, path, "residual", dtype, None if last == names[first] else last))


def _source_names(models: Sequence[ModelReference]) -> list[str]:
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
