"""Recipes: small frozen records of what to build, with no trace of the search; ``evo_merge.recipe_file`` reads them again.

The same recipe gives the same tensors, bit for bit, on one machine.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from typing import Any, TypeAlias

import yaml

from evo_merge.errors import RecipeError
from evo_merge.tokenizer_rule import TokenizerRule, tokenizer_record

DTYPES = ("float32", "bfloat16", "float16")
PARAMETER_SPACE, DATA_FLOW = "parameter_space", "data_flow"
SCALE_TARGETS = ("residual", "branch")


@dataclass(frozen=True, slots=True)
class ModelReference:
    """Where a model is found.

    Attributes:
        model: A folder, a hub id, ``builtin:<family>/<model>`` or ``package:<package>/<file>.gguf``; else empty.
        revision: Branch, tag or commit of a hub id; ``None`` is the default branch.
        adapter: A folder with a LoRA adapter, put on ``base``.
        base: What the adapter is put on.
        recipe: The recipe of a model that is built when it is needed.
    """

    model: str = ""
    revision: str | None = None
    adapter: str | None = None
    base: "ModelReference | None" = None
    recipe: "Recipe | None" = None

    def __post_init__(self) -> None:
        if (self.adapter is None) != (self.base is None):
            raise RecipeError("an adapter needs both 'adapter' (its folder) and 'base' (the model it is put on)")
        if not self.model and self.revision is not None:
            raise RecipeError("'revision' goes with 'model'; an adapter's base takes one of its own")
        if bool(self.model) + (self.adapter is not None) + (self.recipe is not None) != 1:
            raise RecipeError(
                "a model is named by 'model', by 'adapter' and 'base', or by 'recipe', by exactly one of the three"
            )

    def __str__(self) -> str:
        if self.adapter is not None:
            return f"{self.adapter} on {self.base}"
        if self.recipe is not None:
            return f"recipe {recipe_hash(self.recipe)[:8]}"
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
        tokenizer: Whose tokens the merge has; ``None`` where all models have the same.
    """

    base: ModelReference | None
    sources: tuple[Source, ...]
    method: str
    options: Mapping[str, Any]
    parameters: tuple[ParameterRule, ...]
    seed: int
    dtype: str
    out_dtype: str
    tokenizer: TokenizerRule | None = None
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

    def __hash__(self) -> int:  # the generated one would choke on the options
        return hash(recipe_hash(self))


@dataclass(frozen=True, slots=True)
class Step:
    """One hop of a path: a layer of a model, and what its input is multiplied by."""

    model: str
    layer: int
    scale: float = 1.0


@dataclass(frozen=True, slots=True)
class DataFlowRecipe:
    """Layers of several models in a new order, each input scaled (Akiba et al. 2024, section 3.2).

    Attributes:
        models: Where the layers come from. The first gives config, tokenizer and embeddings besides.
        path: The layers, in the order in which tokens pass through them; one may come more than once.
        scale_target: What a scale multiplies: ``residual``, all that enters the layer (the paper), or ``branch``, only what
            the MLP of the previous layer added to it, at the first hop the embedding (the released model).
        out_dtype: Of the checkpoint.
        head: Name of the model that gives the final norm and the head; ``None`` is the first.
    """

    models: tuple[Source, ...]
    path: tuple[Step, ...]
    scale_target: str
    out_dtype: str
    head: str | None = None
    kind: str = field(default=DATA_FLOW, init=False)

    def __post_init__(self) -> None:
        if self.out_dtype not in DTYPES:
            raise RecipeError(f"out_dtype must be one of {', '.join(DTYPES)}, got '{self.out_dtype}'")
        if self.scale_target not in SCALE_TARGETS:
            raise RecipeError(f"scale_target must be one of {', '.join(SCALE_TARGETS)}, got '{self.scale_target}'")
        names = [source.name for source in self.models]
        if len(set(names)) != len(names):
            raise RecipeError(f"the models of a recipe need different names, got {', '.join(names)}")
        if not self.path:
            raise RecipeError("the path is empty; it needs at least one hop: [[model, layer, scale], ...]")
        if self.head is not None and self.head not in names:
            raise RecipeError(f"head names '{self.head}'; the models are {', '.join(names)}")
        for number, step in enumerate(self.path):
            if step.model not in names:
                raise RecipeError(f"hop {number} of the path names '{step.model}'; the models are {', '.join(names)}")
            if step.layer < 0:
                raise RecipeError(f"hop {number} of the path names layer {step.layer}; layers count from 0")
            if step.scale == 0:
                raise RecipeError(
                    f"hop {number} of the path has scale 0, which no checkpoint can express; "
                    "leave the layer before it out, or choose a small scale"
                )


Recipe: TypeAlias = ParameterSpaceRecipe | DataFlowRecipe


def to_record(recipe: Recipe) -> dict[str, Any]:
    """The recipe as plain values, in the shape of the file."""
    if isinstance(recipe, DataFlowRecipe):
        return {
            "kind": recipe.kind,
            "models": {source.name: reference_record(source.reference) for source in recipe.models},
            "path": [[step.model, step.layer, step.scale] for step in recipe.path],
            "scale_target": recipe.scale_target,
            "out_dtype": recipe.out_dtype,
        } | ({} if recipe.head is None else {"head": recipe.head})
    return {
        "kind": recipe.kind,
        "base": None if recipe.base is None else reference_record(recipe.base),
        "sources": [{"name": source.name, **reference_record(source.reference)} for source in recipe.sources],
        "method": {"name": recipe.method, **recipe.options},
        "parameters": [
            {"tensors": rule.tensors[0] if len(rule.tensors) == 1 else list(rule.tensors)}
            | {name: list(value) if isinstance(value, tuple) else value for name, value in rule.values.items()}
            for rule in recipe.parameters
        ],
        "seed": recipe.seed,
        "dtype": recipe.dtype,
        "out_dtype": recipe.out_dtype,
    } | ({} if recipe.tokenizer is None else {"tokenizer": tokenizer_record(recipe.tokenizer, reference_record)})


def without_scales(recipe: DataFlowRecipe) -> DataFlowRecipe:
    """The same path with every scale 1."""
    return replace(recipe, path=tuple(replace(step, scale=1.0) for step in recipe.path))


def references(recipe: Recipe) -> list[ModelReference]:
    """The models that a recipe names, the base first."""
    if isinstance(recipe, DataFlowRecipe):
        return [source.reference for source in recipe.models]
    own = [*([] if recipe.base is None else [recipe.base]), *(source.reference for source in recipe.sources)]
    more = [] if recipe.tokenizer is None else recipe.tokenizer.references  # rows come from these
    return own + [reference for reference in more if reference not in own]


def methods_of(recipe: Recipe) -> list[str]:
    """Names of the merge methods that building a recipe runs, those of recipes inside it included."""
    own = [recipe.method] if isinstance(recipe, ParameterSpaceRecipe) else []
    inner = [each.recipe for each in references(recipe) if each.recipe is not None]
    return own + [name for each in inner for name in methods_of(each)]


def rule_of(recipe: ParameterSpaceRecipe, tensor: str) -> ParameterRule:
    """The first rule that matches a tensor's full name; raises ``RecipeError`` where none does."""
    rule = next((rule for rule in recipe.parameters if any(fnmatchcase(tensor, glob) for glob in rule.tensors)), None)
    if rule is None:
        raise RecipeError(f"no entry under 'parameters' matches the tensor '{tensor}'; end the list with tensors: \"*\"")
    return rule


def to_yaml(recipe: Recipe) -> str:
    """The recipe as it is saved, shared and embedded in checkpoints."""
    return yaml.safe_dump(to_record(recipe), sort_keys=False, allow_unicode=True, width=120, default_flow_style=None)


def recipe_hash(recipe: Recipe) -> str:
    """Names the recipe: 64 hexadecimal digits, equal for equal recipes on every machine."""
    return hashlib.sha256(json.dumps(_ordered(to_record(recipe)), sort_keys=True).encode()).hexdigest()


def _ordered(record: Any) -> Any:
    """The record with a path's models as a list, since the first of them leads and sorted keys would not tell."""
    if isinstance(record, list | tuple):
        return [_ordered(entry) for entry in record]
    if not isinstance(record, dict):
        return record
    if record.get("kind") == DATA_FLOW:
        record = record | {"models": list(record["models"].items())}
    return {key: _ordered(entry) for key, entry in record.items()}


def reference_record(reference: ModelReference) -> dict[str, Any]:
    """A model reference as plain values; see ``recipe_file.reference_from_record``."""
    if reference.base is not None:
        return {"adapter": reference.adapter, "base": reference_record(reference.base)}
    if reference.recipe is not None:
        return {"recipe": to_record(reference.recipe)}
    return {"model": reference.model, "revision": reference.revision}
