"""What the settings of a mergekit YAML are for every tensor of the merge, checked."""

from collections.abc import Mapping, Sequence
from typing import Any, Final, TypeAlias

from evo_merge.interchange.document import Place
from evo_merge.interchange.mergekit_config import MergekitConfig, Slice, SliceSource
from evo_merge.interchange.mergekit_early import missing, no_sum, nothing_kept
from evo_merge.interchange.mergekit_methods import OF_SOURCE, OPTION, OPTIONAL_BASE, REQUIRED, Setting
from evo_merge.interchange.mergekit_settings import Found, Lookup, filters
from evo_merge.interchange.mergekit_stacks import MergedTensor
from evo_merge.interchange.rules import Values
from evo_merge.methods.base import MergeMethod, method_from_recipe, options_of, wrong_number_of_sources

_NO_SUM: Final = 1e-8
_HEAD: Final = "lm_head.weight"  # filters may name it where embeddings are tied
FoundValues: TypeAlias = Mapping[str, tuple[Found, ...] | Found]  # the parameters of one tensor, by our names


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
        number = float(value)  # YAML 1.1 reads 1e-5 as text
    except (TypeError, ValueError) as error:
        raise config.document.error(place, f"'{setting.name}' must be a number, got {value!r}") from error
    if isinstance(setting.default, int) and not number.is_integer():
        raise config.document.error(place, f"'{setting.name}' must be a whole number, got {value!r}")
    return type(setting.default)(number)


def values_of(
    config: MergekitConfig, method: MergeMethod, columns: Sequence[Sequence[SliceSource]], tensor: MergedTensor
) -> FoundValues:
    """The parameters of one tensor, and where they stand."""
    whole = [(tensor.part.settings, (*tensor.part.place, "parameters")), (config.settings, ("parameters",))]
    sources = [next(source for source in column if source in tensor.part.sources) for column in columns]
    values: dict[str, tuple[Found, ...] | Found] = {}
    per_source = {parameter.name: parameter.per_source for parameter in method.parameters}
    for setting in config.peer.settings:
        if setting.kind == OPTION:
            continue
        if setting.kind != OF_SOURCE:
            lookup = Lookup(config.document, whole)
            values[setting.our_name] = _given(
                config, setting, lookup.value(setting.name, tensor.name, tensor.t), tensor.part.place
            )
            continue
        numbers = []
        for source, name in zip(sources, tensor.names, strict=True):
            own = (source.settings, (*source.place, "parameters"))
            found = Lookup(config.document, [own, *whole]).value(setting.name, name, tensor.t)
            numbers.append(_given(config, setting, found, source.place))
        values[setting.our_name] = tuple(numbers) if per_source[setting.our_name] else numbers[0]
    return values


def _given(config: MergekitConfig, setting: Setting, found: Found | None, place: Place) -> Found:
    if found is None and setting.default is REQUIRED:
        raise missing(config, setting, place)
    return found or Found(float(setting.default))


def numbers_of(values: FoundValues) -> Values:
    """The parameters of one tensor without their places."""
    return {key: tuple(f.value for f in each) if isinstance(each, tuple) else each.value for key, each in values.items()}


def check_filters(config: MergekitConfig, tensors: Sequence[MergedTensor]) -> None:
    """Refuse a filter that is in no tensor's name; raises ``RecipeError`` with its line."""
    names = {_HEAD, *(tensor.name for tensor in tensors), *(name for tensor in tensors for name in tensor.names)}
    for text, place in _filters(config):
        if not any(text in name for name in names):
            raise config.document.error(
                place, f"the filter '{text}' matches no tensor; filters are parts of names, as in self_attn"
            )


def check_values(config: MergekitConfig, columns: Sequence[Sequence[SliceSource]], values: Mapping[str, FoundValues]) -> None:
    """Refuse numbers that the method does not take together; raises ``RecipeError`` with the line of one."""
    for each in values.values():
        found = {key: value if isinstance(value, tuple) else (value,) for key, value in each.items()}
        if config.method.startswith("della"):
            for density, epsilon in zip(found["density"], found["epsilon"], strict=True):
                if density.value < 1.0 and not epsilon.value < density.value < 1.0 - epsilon.value:
                    raise config.document.error(
                        density.place,
                        "density - epsilon and density + epsilon must lie between 0 and 1, "
                        f"got {density.value:g} and {epsilon.value:g}",
                    )
    densities = [each["density"] for each in values.values() if "density" in each]
    for column, found_ones in zip(columns, zip(*densities, strict=True), strict=False):
        if not any(found.value for found in found_ones):
            raise nothing_kept(config, found_ones[0].place, column[0])


def check_sums(config: MergekitConfig, method: MergeMethod, values: Mapping[str, FoundValues]) -> None:
    """Refuse weights that cannot be normalised, where mergekit would divide by 0; raises ``RecipeError`` with a line."""
    if config.method not in ("linear", "multislerp") or not options_of(method)["normalize"]:
        return
    cancelled = {
        name: weights[0].place
        for name, each in values.items()
        if isinstance(weights := each["weight"], tuple) and abs(sum(weight.value for weight in weights)) < _NO_SUM
    }
    if cancelled:
        name, place = next(iter(cancelled.items()))
        more = f" and {len(cancelled) - 1} more tensors" if len(cancelled) > 1 else ""
        raise no_sum(config, place, "all tensors" if len(cancelled) == len(values) else f"'{name}'{more}")


def filter_texts(config: MergekitConfig) -> list[str]:
    """The parts of names that filters choose by."""
    return list(dict.fromkeys(text for text, _ in _filters(config)))


def _filters(config: MergekitConfig) -> list[tuple[str, tuple[str | int, ...]]]:
    return [
        found
        for settings, place in config.scopes
        for name, value in settings.items()
        for found in filters(value, (*place, name))
    ]
