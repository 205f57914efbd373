"""Reading recipes: from files, from YAML, and from plain values. Files written by an earlier version stay readable."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from evo_merge.errors import RecipeError
from evo_merge.plain_values import as_list, as_mapping, as_number, as_whole_number
from evo_merge.recipe import (
    DATA_FLOW,
    PARAMETER_SPACE,
    DataFlowRecipe,
    ModelReference,
    ParameterRule,
    ParameterSpaceRecipe,
    Recipe,
    Source,
    Step,
)
from evo_merge.tokenizer_rule import TokenizerRule, tokenizer_from_record
from evo_merge.yaml_errors import not_yaml


class _LoopError(RecipeError):
    """A recipe file names itself."""


def from_yaml(text: str, origin: str = "recipe", folder: Path | None = None) -> Recipe:
    """Read a recipe; raises ``RecipeError`` naming ``origin`` and what is wrong in it.

    Args:
        text: YAML.
        origin: What messages call it.
        folder: Where relative folders and files are looked for that do not exist in the working directory.
    """
    try:
        # An order of magnitude faster than the loader in Python; a study may hold thousands of recipes.
        record = yaml.load(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    except yaml.YAMLError as error:
        raise RecipeError(not_yaml(origin, error)) from error
    try:
        return from_record(record, folder)
    except _LoopError:
        raise  # else every turn of the loop would name its file
    except RecipeError as error:
        raise RecipeError(f"{origin}: {error}") from error


def load(path: Path) -> Recipe:
    """Read a recipe file.

    A relative folder in it is taken from the working directory; where it does not exist there, from the file's own folder.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise RecipeError(f"cannot read the recipe '{path}': {error.strerror}") from error
    try:
        return from_yaml(text, f"'{path}'", path.parent)
    except RecursionError as error:
        raise _LoopError(f"the recipe '{path}' names itself as one of its models") from error


def from_record(record: object, folder: Path | None = None) -> Recipe:
    """A recipe from plain values; raises ``RecipeError``. For ``folder`` see ``from_yaml``."""
    fields = as_mapping(record, "a recipe")
    kind = fields.pop("kind", None)
    if kind == PARAMETER_SPACE:
        return _parameter_space(fields, folder)
    if kind == DATA_FLOW:
        return _data_flow(fields, folder)
    raise RecipeError(f"kind must be '{PARAMETER_SPACE}' or '{DATA_FLOW}', got {kind!r}")


def reference_from_record(record: object, folder: Path | None = None) -> ModelReference:
    """A model reference from a string or a mapping; for ``folder`` see ``from_yaml``.

    The mapping has ``model`` and ``revision``, ``adapter`` and ``base``, or ``recipe``: a file, or the recipe itself.
    """
    if isinstance(record, str):
        return ModelReference(model=_placed(record, folder))
    fields = as_mapping(record, "a model")
    if unknown := [key for key in fields if key not in ("model", "revision", "adapter", "base", "recipe")]:
        raise RecipeError(f"a model has no key '{unknown[0]}'; it has model and revision, adapter and base, or recipe")
    base, revision, recipe = fields.get("base"), fields.get("revision"), fields.get("recipe")
    if isinstance(recipe, str):
        recipe = load(Path(_placed(recipe, folder)).expanduser())
    elif recipe is not None:
        recipe = from_record(recipe, folder)
    return ModelReference(
        model=_placed(str(fields.get("model") or ""), folder),
        revision=None if revision is None else str(revision),
        adapter=None if fields.get("adapter") is None else _placed(str(fields["adapter"]), folder),
        base=None if base is None else reference_from_record(base, folder),
        recipe=recipe,
    )


def _parameter_space(fields: dict[str, Any], folder: Path | None) -> ParameterSpaceRecipe:
    known = ("base", "sources", "method", "parameters", "seed", "dtype", "out_dtype", "tokenizer")
    _check_keys(fields, known, required=("sources", "method", "parameters"))
    method = as_mapping(fields["method"], "method")
    if not isinstance(method.get("name"), str):
        raise RecipeError("method.name is missing")
    base, tokenizer = fields.get("base"), fields.get("tokenizer")
    sources = enumerate(as_list(fields["sources"], "sources"))
    return ParameterSpaceRecipe(
        base=None if base is None else reference_from_record(base, folder),
        sources=tuple(_source(entry, number, folder) for number, entry in sources),
        method=method.pop("name"),
        options=method,
        parameters=tuple(_rule(entry) for entry in as_list(fields["parameters"], "parameters")),
        seed=as_whole_number(fields.get("seed", 0), "seed"),
        dtype=str(fields.get("dtype", "float32")),
        out_dtype=str(fields.get("out_dtype", fields.get("dtype", "float32"))),
        tokenizer=None if tokenizer is None else read_tokenizer_rule(tokenizer, folder),
    )


def read_tokenizer_rule(record: object, folder: Path | None = None) -> TokenizerRule:
    """Whose tokens a merge has, from a word or a mapping; raises ``RecipeError``. For ``folder`` see ``from_yaml``."""
    return tokenizer_from_record(
        record, lambda entry: reference_from_record(entry, folder), lambda entry, number: _source(entry, number, folder)
    )


def _data_flow(fields: dict[str, Any], folder: Path | None) -> DataFlowRecipe:
    _check_keys(fields, ("models", "path", "scale_target", "out_dtype", "head"), required=("models", "path"))
    models = as_mapping(fields["models"], "models")
    return DataFlowRecipe(
        models=tuple(Source(name, reference_from_record(entry, folder)) for name, entry in models.items()),
        path=tuple(_step(entry, number) for number, entry in enumerate(as_list(fields["path"], "path"))),
        scale_target=str(fields.get("scale_target", "residual")),
        out_dtype=str(fields.get("out_dtype", "float32")),
        head=None if fields.get("head") is None else str(fields["head"]),
    )


def _check_keys(fields: Mapping[str, Any], known: Sequence[str], required: Sequence[str]) -> None:
    if unknown := [key for key in fields if key not in known]:
        raise RecipeError(f"unknown key '{unknown[0]}'; a recipe of this kind has {', '.join(('kind', *known))}")
    if missing := [key for key in required if key not in fields]:
        raise RecipeError(f"'{missing[0]}' is missing")


def _placed(name: str, folder: Path | None) -> str:
    """A relative name as it is found from here: by itself, or where that does not exist from the folder."""
    if not name or folder is None or Path(name).expanduser().exists() or not (folder / name).exists():
        return name
    return str(folder / name)


def _source(record: object, number: int, folder: Path | None) -> Source:
    if isinstance(record, str):
        return Source(Path(record).name, reference_from_record(record, folder))
    fields = as_mapping(record, "a source")
    name = fields.pop("name", None)
    return Source(str(name) if name is not None else f"source{number}", reference_from_record(fields, folder))


def _step(record: object, number: int) -> Step:
    entries = as_list(record, f"hop {number} of the path")
    if len(entries) not in (2, 3) or not isinstance(entries[0], str):
        raise RecipeError(f"hop {number} of the path must be [model, layer, scale], got {entries}")
    scale = as_number(entries[2], f"scale of hop {number}") if len(entries) == 3 else 1.0
    return Step(entries[0], as_whole_number(entries[1], f"layer of hop {number}"), scale)


def _rule(record: object) -> ParameterRule:
    fields = as_mapping(record, "an entry of 'parameters'")
    tensors = fields.pop("tensors", "*")
    globs = (tensors,) if isinstance(tensors, str) else tuple(str(glob) for glob in as_list(tensors, "tensors"))
    values: dict[str, tuple[float, ...] | float] = {}
    for name, value in fields.items():
        values[name] = tuple(as_number(v, name) for v in value) if isinstance(value, list | tuple) else as_number(value, name)
    return ParameterRule(globs, values)
