"""mergekit's YAML as frozen records: what stands in the file, checked, and not yet what it means."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from evo_merge.command_line import nearest
from evo_merge.errors import RecipeError
from evo_merge.interchange.document import Document, Place
from evo_merge.interchange.mergekit_methods import BASE, FIRST_BASE, KNOWN_SETTINGS, METHODS, PeerMethod
from evo_merge.interchange.mergekit_settings import check_share
from evo_merge.interchange.mergekit_tokenizer import MergekitTokenizer, read_tokenizer
from evo_merge.recipe import DTYPES, ModelReference
from evo_merge.recipe_file import reference_from_record

_KEYS: Final = (
    "merge_method",
    "models",
    "slices",
    "modules",
    "base_model",
    "parameters",
    "dtype",
    "out_dtype",
    "tokenizer_source",
    "tokenizer",
    "chat_template",
)
_DTYPES: Final = {"float": "float32", "half": "float16", "fp32": "float32", "fp16": "float16", "bf16": "bfloat16"}


@dataclass(frozen=True, slots=True)
class SliceSource:
    """A model of a slice.

    Attributes:
        model: The model.
        layers: First layer, and the one after the last; ``None`` is all of them.
        settings: Its own settings, by name.
        place: Where it stands in the file.
    """

    model: ModelReference
    layers: tuple[int, int] | None
    settings: Mapping[str, Any]
    place: Place


@dataclass(frozen=True, slots=True)
class Slice:
    """Layers of the merge, made of as many layers of each source.

    Attributes:
        sources: Its models, with the base where the file lists it.
        base: ``base_model`` of the slice, or else of the file.
        settings: Those of the slice, by name.
        place: Where it stands in the file.
    """

    sources: tuple[SliceSource, ...]
    base: ModelReference | None
    settings: Mapping[str, Any]
    place: Place


@dataclass(frozen=True, slots=True)
class MergekitConfig:
    """A whole file.

    Attributes:
        document: The file.
        method: Name of the merge method.
        slices: In the order of the layers; ``models`` is one slice of everything.
        base: ``base_model``.
        settings: Those of the whole merge, by name.
        dtype: Of the arithmetic; ``None`` is what the models are stored in.
        out_dtype: Of the checkpoint; ``None`` is ``dtype``.
        tokenizer: The tokenizer that it asks for.
    """

    document: Document
    method: str
    slices: tuple[Slice, ...]
    base: ModelReference | None
    settings: Mapping[str, Any]
    dtype: str | None
    out_dtype: str | None
    tokenizer: MergekitTokenizer | None = None

    @property
    def scopes(self) -> list[tuple[Mapping[str, Any], Place]]:
        """All settings, and where they stand: the whole merge's, and those of every slice and source."""
        found: list[tuple[Mapping[str, Any], Place]] = [(self.settings, ("parameters",))]
        for part in self.slices:
            found.append((part.settings, (*part.place, "parameters")))
            found += [(source.settings, (*source.place, "parameters")) for source in part.sources]
        return found

    @property
    def peer(self) -> PeerMethod:
        """The method's settings."""
        return METHODS[self.method]


def parse(document: Document, folder: Path | None = None) -> MergekitConfig:
    """Read a file's records.

    Args:
        document: The file.
        folder: Where relative folders are looked for that do not exist in the working directory.

    Raises:
        RecipeError: With file and line: an unknown key, a wrong value, or what we do not build.
    """
    fields = document.mapping(document.value, (), _KEYS)
    method = str(fields.get("merge_method"))
    if method not in METHODS:
        raise document.error(("merge_method",), f"there is no merge_method '{method}'; {nearest(method, METHODS)}")
    if "modules" in fields:
        raise document.error(
            ("modules",), "'modules' is for models of several parts, which are not built; use models or slices"
        )
    if ("models" in fields) == ("slices" in fields):
        raise document.error((), "a merge has either 'models' or 'slices', exactly one of them")
    base = None if fields.get("base_model") is None else _model(document, fields["base_model"], ("base_model",), folder)
    if base is None and METHODS[method].base in (BASE, FIRST_BASE):
        raise document.error(("merge_method",), f"'{method}' needs a base_model")
    settings = _settings(document, fields.get("parameters"), ("parameters",))
    slices = _slices(document, fields, base, folder)
    tokenizer = read_tokenizer(document, fields, lambda value, place: _model(document, value, place, folder))
    if fields.get("chat_template") not in (None, "auto"):
        raise document.error(("chat_template",), "'chat_template' is not carried over; leave it out, and set it afterwards")
    dtype, out_dtype = (_dtype(document, fields, key) for key in ("dtype", "out_dtype"))
    config = MergekitConfig(document, method, slices, base, settings, dtype, out_dtype, tokenizer)
    shares = [setting.name for setting in config.peer.settings if setting.is_share]
    for scope, place in config.scopes:
        for name in shares:
            check_share(document, scope.get(name), (*place, name))
    return config


def _slices(
    document: Document, fields: Mapping[str, Any], base: ModelReference | None, folder: Path | None
) -> tuple[Slice, ...]:
    if "models" in fields:
        entries = document.list_of(fields["models"], ("models",))
        sources = tuple(_source(document, entry, ("models", i), folder, ()) for i, entry in enumerate(entries))
        return (_slice(document, sources, base, {}, ("models",)),)
    slices = []
    for i, entry in enumerate(document.list_of(fields["slices"], ("slices",))):
        place: Place = ("slices", i)
        inner = document.mapping(entry, place, ("sources", "base_model", "parameters"))
        given = document.list_of(inner.get("sources"), (*place, "sources"))
        sources = tuple(_source(document, one, (*place, "sources", j), folder, ("layer_range",)) for j, one in enumerate(given))
        own = inner.get("base_model")
        slice_base = base if own is None else _model(document, own, (*place, "base_model"), folder)
        settings = _settings(document, inner.get("parameters"), (*place, "parameters"))
        slices.append(_slice(document, sources, slice_base, settings, place))
    return tuple(slices)


def _slice(
    document: Document,
    sources: tuple[SliceSource, ...],
    base: ModelReference | None,
    settings: Mapping[str, Any],
    place: Place,
) -> Slice:
    models = [source.model for source in sources]
    for source in sources:
        if models.count(source.model) > 1:
            raise document.error(source.place, f"'{source.model}' is named twice here; name each model once")
    lengths = {source.layers[1] - source.layers[0] for source in sources if source.layers is not None}
    if len(lengths) > 1:
        raise document.error(place, f"the sources of a slice must have as many layers each, got {sorted(lengths)}")
    return Slice(sources, base, settings, place)


def _source(document: Document, entry: Any, place: Place, folder: Path | None, more: tuple[str, ...]) -> SliceSource:
    fields = document.mapping(entry, place, ("model", "parameters", *more))
    if "model" not in fields:
        raise document.error(place, "'model' is missing")
    layers = None
    if more:
        layers = fields.get("layer_range")
        is_range = isinstance(layers, list) and [type(layer) for layer in layers] == [int, int]
        if layers is None or not is_range or not 0 <= layers[0] < layers[1]:
            raise document.error(
                (*place, "layer_range"), f"layer_range must be [first, one after the last], as in [0, 16], got {layers!r}"
            )
    model = _model(document, fields["model"], (*place, "model"), folder)
    settings = _settings(document, fields.get("parameters"), (*place, "parameters"))
    return SliceSource(model, None if layers is None else (layers[0], layers[1]), settings, place)


def _settings(document: Document, value: Any, place: Place) -> dict[str, Any]:
    """Settings by name. mergekit passes over those that the method has not; we do, too, where another method has them."""
    return document.mapping(value, place, KNOWN_SETTINGS)


def _model(document: Document, value: Any, place: Place, folder: Path | None) -> ModelReference:
    """A model: ``path``, ``path@revision``, ``path+adapter``, or a mapping with ``model`` and ``lora``."""
    if isinstance(value, dict):
        fields = document.mapping(value, place, ("model", "lora", "override_architecture"))
        if fields.get("override_architecture") is not None:
            raise document.error((*place, "override_architecture"), "'override_architecture' is not supported; leave it out")
        names = [_path(document, fields.get(key), (*place, key)) for key in ("model", "lora") if fields.get(key) is not None]
    else:
        if not isinstance(value, str) or not value or value.count("+") > 1:
            raise document.error(place, f"a model is a folder or a hub id, as text, got {value!r}")
        names = [_at(part) for part in value.split("+")]
    try:
        model, *adapter = names
        plain = reference_from_record({"model": model[0], "revision": model[1]}, folder)
        if not adapter:
            return plain
        return reference_from_record(
            {"adapter": adapter[0][0], "base": {"model": plain.model, "revision": plain.revision}}, folder
        )
    except (RecipeError, ValueError) as error:
        raise document.error(place, str(error) or "'model' is missing") from error


model_named: Final = _model  # mergekit-evolve names models in the same way


def _path(document: Document, value: Any, place: Place) -> tuple[str, str | None]:
    if isinstance(value, dict):
        fields = document.mapping(value, place, ("path", "revision"))
        revision = fields.get("revision")
        return str(fields.get("path") or ""), None if revision is None else str(revision)
    return _at(str(value))


def _at(text: str) -> tuple[str, str | None]:
    path, _, revision = text.partition("@")
    return path, revision or None


def _dtype(document: Document, fields: Mapping[str, Any], key: str) -> str | None:
    value = fields.get(key)
    if value is None:
        return None
    name = _DTYPES.get(str(value), str(value).removeprefix("torch."))
    if name not in DTYPES:
        raise document.error((key,), f"{key} must be one of {', '.join(DTYPES)}, got '{value}'")
    return name
