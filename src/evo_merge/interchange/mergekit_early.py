"""What is wrong in a mergekit YAML that shows before any model is opened, and so before the imports that take seconds.

It looks at what the file says outright; what depends on the tensors (filters, gradients) is checked when these are known.
"""

from collections.abc import Iterator, Sequence
from typing import Any, Final

from evo_merge.errors import ModelError
from evo_merge.interchange.document import Place
from evo_merge.interchange.mergekit_config import MergekitConfig, Slice, SliceSource
from evo_merge.interchange.mergekit_methods import NO_BASE, OF_SOURCE, OPTION, REQUIRED, Setting
from evo_merge.interchange.mergekit_settings import check_numbers, constant
from evo_merge.models.reference import BUILTIN, IN_ITS_PLACE, ModelFiles, locate
from evo_merge.recipe import ModelReference

_NO_SUM: Final = 1e-8
_NORMALIZE: Final = {"linear": "normalize", "multislerp": "normalize_weights"}  # methods that divide by the sum of weights


def check_early(config: MergekitConfig) -> None:
    """Refuse wrong numbers, settings that are missing, weights that cancel, and models that are not there.

    Raises:
        RecipeError: With file and line.
    """
    numbers = [setting for setting in config.peer.settings if setting.kind != OPTION]
    for scope, place in config.scopes:
        for setting in numbers:
            check_numbers(config.document, scope.get(setting.name), (*place, setting.name))
    for part in config.slices:
        for setting in numbers:
            _check_given(config, part, setting)
        _check_sum(config, part)
    if len(config.slices) == 1 and any(setting.name == "density" for setting in numbers):
        _check_densities(config, config.slices[0])
    for reference, place in named_models(config).items():
        _check_model(config, reference, place)


def no_sum(config: MergekitConfig, place: Place, tensors: str) -> Exception:
    """The error about weights that sum to 0 for these tensors."""
    return config.document.error(place, f"the weights sum to 0 for {tensors}, and '{config.method}' divides by their sum")


def _given(config: MergekitConfig, part: Slice, source: SliceSource | None, name: str) -> tuple[Any, Place] | None:
    """A setting's value and its place in the nearest scope that has one."""
    scopes = [(part.settings, (*part.place, "parameters")), (config.settings, ("parameters",))]
    if source is not None:
        scopes.insert(0, (source.settings, (*source.place, "parameters")))
    found: Iterator[tuple[Any, Place]] = (
        (scope[name], (*place, name)) for scope, place in scopes if scope.get(name) is not None
    )
    return next(found, None)


def _sources(config: MergekitConfig, part: Slice) -> Sequence[SliceSource]:
    """Those that have settings of their own: without the base."""
    return [source for source in part.sources if config.peer.base == NO_BASE or source.model != part.base]


def _check_given(config: MergekitConfig, part: Slice, setting: Setting) -> None:
    if setting.default is not REQUIRED:
        return
    for source in _sources(config, part) if setting.kind == OF_SOURCE else (None,):
        if _given(config, part, source, setting.name) is None:
            raise missing(config, setting, part.place if source is None else source.place)


def missing(config: MergekitConfig, setting: Setting, place: Place) -> Exception:
    """The error about a setting that a method cannot do without."""
    return config.document.error(place, f"'{setting.name}' is missing, and '{config.method}' needs it")


def _check_sum(config: MergekitConfig, part: Slice) -> None:
    if config.method not in _NORMALIZE:
        return
    normalize = _given(config, part, None, _NORMALIZE[config.method])
    if normalize is not None and normalize[0] in (False, 0):
        return
    found = [_given(config, part, source, "weight") for source in _sources(config, part)]
    weights = [None if each is None else constant(each[0]) for each in found]
    known = [weight for weight in weights if weight is not None]
    if found and found[0] is not None and len(known) == len(weights) and abs(sum(known)) < _NO_SUM:
        raise no_sum(config, found[0][1], "all tensors" if len(config.slices) == 1 else "all tensors of this slice")


def _check_densities(config: MergekitConfig, part: Slice) -> None:
    for source in _sources(config, part):
        found = _given(config, part, source, "density")
        if found is not None and constant(found[0]) == 0:
            raise nothing_kept(config, found[1], source)


def nothing_kept(config: MergekitConfig, place: Place, source: SliceSource) -> Exception:
    """The error about a model of which a density of 0 keeps nothing."""
    return config.document.error(place, f"density 0 keeps nothing of '{source.model}'; leave the model out")


def named_models(config: MergekitConfig) -> dict[ModelReference, Place]:
    """The models that a file names, each with the place where it stands first."""
    return dict(reversed(list(_models(config))))


def _models(config: MergekitConfig) -> Iterator[tuple[ModelReference, Place]]:
    if config.base is not None:
        yield config.base, ("base_model",)
    for part in config.slices:
        if part.base is not None and part.base != config.base:
            yield part.base, (*part.place, "base_model")
        for source in part.sources:
            yield source.model, (*source.place, "model")


def _check_model(config: MergekitConfig, reference: ModelReference, place: Place) -> None:
    try:
        files = locate(reference, headers_only=True, instead=IN_ITS_PLACE)
    except ModelError as error:
        raise config.document.error(place, str(error)) from error
    if said := _no_model(reference, files):
        raise config.document.error(place, said)


def _no_model(reference: ModelReference, files: ModelFiles) -> str | None:
    """What a folder lacks of a model; those that came with us or from the hub are not looked at."""
    if files.gguf is not None or files.hub is not None or reference.model.startswith(BUILTIN):
        return None
    if not any(files.folder.iterdir()):
        return f"the model folder '{files.folder}' is empty; name a folder with config.json and *.safetensors"
    if not any((files.folder / name).is_file() for name in ("config.json", "adapter_config.json")):  # opening tells of adapters
        return f"'{files.folder}' has no config.json, so it is no model folder; name a folder that save_pretrained wrote"
    return None
