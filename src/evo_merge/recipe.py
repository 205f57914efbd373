"""Recipes: small frozen records of what to build, with no trace of the search. YAML both ways.

The same recipe gives the same tensors, bit for bit, on one machine. The shapes on disk are kept: files written by an earlier
version stay readable.
"""

import contextlib
import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeAlias

import yaml

from evo_merge.errors import RecipeError

DTYPES = ("float32", "bfloat16", "float16")
PARAMETER_SPACE = "parameter_space"


@dataclass(frozen=True, slots=True)
class ModelReference:
    """Where a model is found.

    Attributes:
        model: A folder, a hub id, ``builtin:<family>/<model>`` or ``package:<package>/<file>.gguf``; empty for an adapter.
        revision: Branch, tag or commit of a hub id; ``None`` is the default branch.
        adapter: A folder with a LoRA adapter, put on ``base``.
        base: What the adapter is put on.
    """

    model: str = ""
    revision: str | None = None
    adapter: str | None = None
    base: "ModelReference | None" = None

    def __post_init__(self) -> None:
        if (self.adapter is None) != (self.base is None):
            raise RecipeError("an adapter needs both 'adapter' (its folder) and 'base' (the model it is put on)")
        if self.adapter is not None and self.revision is not None:
            raise RecipeError("an adapter is a folder and takes no 'revision'; give one to its 'base'")
        if bool(self.model) == (self.adapter is not None):
            raise RecipeError("a model is named by 'model' or by 'adapter' and 'base', by exactly one of the two")

    def __str__(self) -> str:
        if self.adapter is not None:
            return f"{self.adapter} on {self.base}"
        return self.model if self.revision is None else f"{self.model}@{self.revision}"


@dataclass(frozen=True, slots=True)
class Source:
    """A model that goes into a merge, under the short name that genes, tables and figures use."""

    name: str
    reference: ModelReference


@dataclass(frozen=True, slots=True)
class ParameterRule:
    """The parameters of the tensors whose full name matches one of the globs.

    Attributes:
        tensors: ``fnmatch`` globs.
        values: By parameter name: one number a source, in the order of the sources, or one number for all.
    """

    tensors: tuple[str, ...]
    values: Mapping[str, tuple[float, ...] | float]


@dataclass(frozen=True, slots=True)
class ParameterSpaceRecipe:
    """Weights mixed tensor by tensor.

    Attributes:
        base: What task vectors are taken against; ``None`` for methods without one.
        sources: What is mixed.
        method: Module name of the method (``dare_ties``), or a dotted name from elsewhere that the user allowed.
        options: The method's own options, every one written out.
        parameters: The first rule that matches a tensor's name gives its parameters.
        seed: Of the method's chance.
        dtype: Of the arithmetic.
        out_dtype: Of the checkpoint.
    """

    base: ModelReference | None
    sources: tuple[Source, ...]
    method: str
    options: Mapping[str, Any]
    parameters: tuple[ParameterRule, ...]
    seed: int
    dtype: str
    out_dtype: str
    kind: str = field(default=PARAMETER_SPACE, init=False)

    def __post_init__(self) -> None:
        for key, value in (("dtype", self.dtype), ("out_dtype", self.out_dtype)):
            if value not in DTYPES:
                raise RecipeError(f"{key} must be one of {', '.join(DTYPES)}, got '{value}'")
        names = [source.name for source in self.sources]
        if not names:
            raise RecipeError("a recipe needs at least one source")
        if len(set(names)) != len(names):
            raise RecipeError(f"the sources of a recipe need different names, got {', '.join(names)}")
        if not self.parameters:
            raise RecipeError("a recipe needs at least one entry under 'parameters'")


Recipe: TypeAlias = ParameterSpaceRecipe  # data-flow recipes join here


def to_record(recipe: Recipe) -> dict[str, Any]:
    """The recipe as plain values, in the shape of the file."""
    return {
        "kind": recipe.kind,
        "base": None if recipe.base is None else _reference_record(recipe.base),
        "sources": [{"name": source.name, **_reference_record(source.reference)} for source in recipe.sources],
        "method": {"name": recipe.method, **recipe.options},
        "parameters": [
            {"tensors": rule.tensors[0] if len(rule.tensors) == 1 else list(rule.tensors)}
            | {name: list(value) if isinstance(value, tuple) else value for name, value in rule.values.items()}
            for rule in recipe.parameters
        ],
        "seed": recipe.seed,
        "dtype": recipe.dtype,
        "out_dtype": recipe.out_dtype,
    }


def to_yaml(recipe: Recipe) -> str:
    """The recipe as it is saved, shared and embedded in checkpoints."""
    return yaml.safe_dump(to_record(recipe), sort_keys=False, allow_unicode=True, width=120, default_flow_style=None)


def recipe_hash(recipe: Recipe) -> str:
    """Names the recipe: 64 hexadecimal digits, equal for equal recipes on every machine."""
    return hashlib.sha256(json.dumps(to_record(recipe), sort_keys=True).encode()).hexdigest()


def from_yaml(text: str, origin: str = "recipe") -> Recipe:
    """Read a recipe; raises ``RecipeError`` naming ``origin`` and what is wrong in it."""
    try:
        record = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise RecipeError(f"{origin} is not YAML: {' '.join(str(error).split())}") from error
    try:
        return from_record(record)
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
    recipe = from_yaml(text, origin=f"'{path}'")
    return replace(
        recipe,
        base=None if recipe.base is None else _found_from(recipe.base, path.parent),
        sources=tuple(replace(source, reference=_found_from(source.reference, path.parent)) for source in recipe.sources),
    )


def from_record(record: object) -> Recipe:
    """A recipe from plain values; raises ``RecipeError``."""
    fields = _mapping(record, "a recipe")
    kind = fields.pop("kind", None)
    if kind != PARAMETER_SPACE:
        raise RecipeError(f"kind must be '{PARAMETER_SPACE}', got {kind!r}")
    known = ("base", "sources", "method", "parameters", "seed", "dtype", "out_dtype")
    if unknown := [key for key in fields if key not in known]:
        raise RecipeError(f"unknown key '{unknown[0]}'; a recipe has {', '.join(('kind', *known))}")
    for key in ("sources", "method", "parameters"):
        if key not in fields:
            raise RecipeError(f"'{key}' is missing")
    method = _mapping(fields["method"], "method")
    if not isinstance(method.get("name"), str):
        raise RecipeError("method.name is missing")
    base = fields.get("base")
    return ParameterSpaceRecipe(
        base=None if base is None else reference_from_record(base),
        sources=tuple(_source(entry, number) for number, entry in enumerate(_list(fields["sources"], "sources"))),
        method=method.pop("name"),
        options=method,
        parameters=tuple(_rule(entry) for entry in _list(fields["parameters"], "parameters")),
        seed=_whole(fields.get("seed", 0), "seed"),
        dtype=str(fields.get("dtype", "float32")),
        out_dtype=str(fields.get("out_dtype", fields.get("dtype", "float32"))),
    )


def reference_from_record(record: object) -> ModelReference:
    """A model reference from a string or a mapping with ``model`` and ``revision``, or ``adapter`` and ``base``."""
    if isinstance(record, str):
        return ModelReference(model=record)
    fields = _mapping(record, "a model")
    if unknown := [key for key in fields if key not in ("model", "revision", "adapter", "base")]:
        raise RecipeError(f"a model has no key '{unknown[0]}'; it has model and revision, or adapter and base")
    base = fields.get("base")
    revision = fields.get("revision")
    return ModelReference(
        model=str(fields.get("model") or ""),
        revision=None if revision is None else str(revision),
        adapter=None if fields.get("adapter") is None else str(fields["adapter"]),
        base=None if base is None else reference_from_record(base),
    )


def _found_from(reference: ModelReference, folder: Path) -> ModelReference:
    def place(name: str) -> str:
        elsewhere = not name or Path(name).expanduser().exists() or not (folder / name).exists()
        return name if elsewhere else str(folder / name)

    return replace(
        reference,
        model=place(reference.model),
        adapter=None if reference.adapter is None else place(reference.adapter),
        base=None if reference.base is None else _found_from(reference.base, folder),
    )


def _reference_record(reference: ModelReference) -> dict[str, Any]:
    if reference.base is not None:
        return {"adapter": reference.adapter, "base": _reference_record(reference.base)}
    return {"model": reference.model, "revision": reference.revision}


def _source(record: object, number: int) -> Source:
    if isinstance(record, str):
        return Source(Path(record).name, ModelReference(model=record))
    fields = _mapping(record, "a source")
    name = fields.pop("name", None)
    return Source(str(name) if name is not None else f"source{number}", reference_from_record(fields))


def _rule(record: object) -> ParameterRule:
    fields = _mapping(record, "an entry of 'parameters'")
    tensors = fields.pop("tensors", "*")
    globs = (tensors,) if isinstance(tensors, str) else tuple(str(glob) for glob in _list(tensors, "tensors"))
    values: dict[str, tuple[float, ...] | float] = {}
    for name, value in fields.items():
        values[name] = tuple(_number(v, name) for v in value) if isinstance(value, list | tuple) else _number(value, name)
    return ParameterRule(globs, values)


def _mapping(value: object, what: str) -> dict[str, Any]:
    if not isinstance(value, Mapping):
        raise RecipeError(f"{what} must be a mapping, got {value!r}")
    return {str(key): entry for key, entry in value.items()}


def _list(value: object, what: str) -> list[Any]:
    if not isinstance(value, list | tuple):
        raise RecipeError(f"'{what}' must be a list, got {value!r}")
    return list(value)


def _number(value: object, what: str) -> float:
    if isinstance(value, str):
        with contextlib.suppress(ValueError):
            value = float(value)  # YAML 1.1 reads 1e-3 as text
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise RecipeError(f"'{what}' must be a number, got {value!r}")
    return float(value)


def _whole(value: object, what: str) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise RecipeError(f"'{what}' must be a whole number, got {value!r}")
    return value
