"""What the settings of a mergekit YAML are for every tensor of the merge, checked."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from evo_merge.interchange.document import Place
from evo_merge.interchange.mergekit_config import MergekitConfig, Slice, SliceSource
from evo_merge.interchange.mergekit_methods import OF_SOURCE, OPTION, OPTIONAL_BASE, REQUIRED, Setting
from evo_merge.interchange.mergekit_settings import Lookup, filters
from evo_merge.interchange.mergekit_stacks import MergedTensor
from evo_merge.interchange.rules import Values
from evo_merge.methods.base import SHARES, MergeMethod, method_from_recipe, options_of, wrong_number_of_sources

_NO_SUM: Final = 1e-8
_HEAD: Final = "lm_head.weight"  # filters may name it where embeddings are tied


def method_of(
    config: MergekitConfig, slices: Sequence[Slice], columns: Sequence[object], base: Sequence[object] | None
) -> MergeMethod:
    """Our method with the file's options; ``RecipeError`` for one with several values, or a wrong number of sources."""
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
    if isinstance(setting.default, bool):
        return setting.to_ours(bool(value))
    try:
        return type(setting.default)(value)  # YAML 1.1 reads 1e-5 as text
    except (TypeError, ValueError) as error:
        raise config.document.error(place, f"'{setting.name}' must be a number, got {value!r}") from error


def values_of(
    config: MergekitConfig, method: MergeMethod, columns: Sequence[Sequence[SliceSource]], tensor: MergedTensor
) -> dict[str, tuple[float, ...] | float]:
    """The parameters of one tensor, by our names."""
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


def check_filters(config: MergekitConfig, tensors: Sequence[MergedTensor]) -> None:
    """Refuse a filter that is in no tensor's name; raises ``RecipeError`` with its line."""
    names = {_HEAD, *(tensor.name for tensor in tensors), *(name for tensor in tensors for name in tensor.names)}
    for text, place in _filters(config):
        if not any(text in name for name in names):
            raise config.document.error(
                place, f"the filter '{text}' matches no tensor; filters are parts of names, as in self_attn"
            )


def check_values(config: MergekitConfig, values: Mapping[str, Values]) -> None:
    """Refuse numbers outside of what the method takes; raises ``RecipeError``."""
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
    for number, column in enumerate(zip(*densities, strict=True), start=1):
        if not any(column):
            raise config.document.error(place, f"density 0 keeps nothing of source {number}; leave the model out")


def check_sums(config: MergekitConfig, method: MergeMethod, values: Mapping[str, Values]) -> None:
    """Refuse weights that cannot be normalised, where mergekit would divide by 0."""
    if config.method not in ("linear", "multislerp") or not options_of(method)["normalize"]:
        return
    for name, each in values.items():
        weights = each["weight"]
        if isinstance(weights, tuple) and abs(sum(weights)) < _NO_SUM:
            raise config.document.error(
                config.slices[0].place, f"the weights sum to 0 for '{name}', and '{config.method}' divides by their sum"
            )


def filter_texts(config: MergekitConfig) -> list[str]:
    """The parts of names that filters choose by."""
    return list(dict.fromkeys(text for text, _ in _filters(config)))


def _filters(config: MergekitConfig) -> list[tuple[str, tuple[str | int, ...]]]:
    scopes: list[tuple[Mapping[str, Any], Place]] = [(config.settings, ("parameters",))]
    for part in config.slices:
        scopes.append((part.settings, (*part.place, "parameters")))
        scopes += [(source.settings, (*source.place, "parameters")) for source in part.sources]
    return [found for settings, place in scopes for name, value in settings.items() for found in filters(value, (*place, name))]
