"""The models of a run: a base, the sources, and the check that they belong together."""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from copy import copy, deepcopy
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor

from evo_merge.errors import ConfigError, ModelError, RecipeError
from evo_merge.findings import Finding
from evo_merge.fingerprints import add_ends, with_settings
from evo_merge.licences import StatedLicence
from evo_merge.models.adapters import ADAPTER_CONFIG
from evo_merge.models.aligned import AlignedModel, Alignment, own_rows
from evo_merge.models.checks.kinds import of_error
from evo_merge.models.description import read_config, read_generation_config, read_tokenizer
from evo_merge.models.finite import is_finite
from evo_merge.models.pool_licences import PERMISSIVE, licence_apart, licences_in, permissive_only
from evo_merge.models.reference import ModelFiles, locate, pinned
from evo_merge.models.untied import as_stored, tied_alike
from evo_merge.models.weights import Weights, open_weights
from evo_merge.recipe import (
    DTYPES,
    DataFlowRecipe,
    ModelReference,
    ParameterSpaceRecipe,
    Recipe,
    Source,
    read_tokenizer_rule,
    reference_from_record,
    references,
    to_record,
)
from evo_merge.tokenizer_rule import BASE, TokenizerRule, tokenizer_record

_TIED_COPY = "lm_head.weight"
_COMPUTED = ".rotary_emb.inv_freq"  # older transformers stored it
RESIDENCIES = ("auto", "device", "host", "disk")
COMPILE = ("auto", "always", "never")


class Model(Weights, Protocol):
    """One model of a pool: its description is read when asked for, its weights tensor by tensor.

    Of its tensors, second copies of tied ones and tables that are computed anew are left out, and ``read`` raises
    ``ModelError`` where one is not finite.
    """

    @property
    def name(self) -> str:
        """What genes, tables and figures call it."""

    @property
    def reference(self) -> ModelReference:
        """Where it is found."""

    @property
    def config(self) -> Any:
        """The transformers config."""

    @property
    def tokenizer(self) -> Any | None:
        """The tokenizer, or ``None``."""

    @property
    def generation_config(self) -> Any | None:
        """The generation config, or ``None``."""

    @property
    def licences(self) -> tuple[StatedLicence, ...]:
        """What the model states, or the models that it is made of; all of it applies."""

    @property
    def fingerprint(self) -> str:
        """Tells the weights from others without reading all of them."""


@dataclass(frozen=True)
class StoredModel:
    """A model that lies in files; see ``Model``."""

    name: str
    reference: ModelReference
    files: ModelFiles
    weights: Weights
    licence: str | None = None  # where its card does not say

    @cached_property
    def config(self) -> Any:
        """The transformers config."""
        return read_config(self._plain_files)

    @cached_property
    def shapes(self) -> Mapping[str, tuple[int, ...]]:
        """Shape of every tensor, by full name."""
        copied = _TIED_COPY if getattr(self.config, "tie_word_embeddings", False) else None
        shapes = self.weights.shapes
        return {name: shape for name, shape in shapes.items() if name != copied and not name.endswith(_COMPUTED)}

    @property
    def dtypes(self) -> Mapping[str, torch.dtype]:
        """Stored dtype of every tensor."""
        return self.weights.dtypes

    def read(self, name: str) -> Tensor:
        """One tensor on the CPU; whether it is finite is looked at once."""
        tensor = self.weights.read(name)
        if name not in self._checked:
            if not is_finite(tensor):
                raise ModelError(f"'{self.name}' ({self.reference}) has a NaN or an infinity in '{name}'; it cannot be merged")
            self._checked.add(name)
        return tensor

    def forget(self) -> None:
        """Let go of what is held in memory only to be read from."""
        self.weights.forget()

    @cached_property
    def tokenizer(self) -> Any | None:
        """The tokenizer, or ``None``."""
        return read_tokenizer(self._plain_files)

    @cached_property
    def generation_config(self) -> Any | None:
        """The generation config, or ``None``."""
        return read_generation_config(self._plain_files)

    @cached_property
    def licences(self) -> tuple[StatedLicence, ...]:
        """What the model card states, of an adapter also what that of its base does."""
        return licences_in(self.files, self.licence)

    @property
    def fingerprint(self) -> str:
        """A digest of each file's size, beginning and end; of an adapter with that of its settings."""
        files = self.files
        patterns = [(files.folder, files.gguf or "*.safetensors")]
        if files.adapter is not None:
            patterns.append((files.adapter, "*.safetensors"))
        digest = hashlib.sha256()
        for path in (path for folder, pattern in patterns for path in sorted(folder.glob(pattern))):
            digest.update(f"{path.name} ".encode())
            add_ends(digest, path)
        weights = digest.hexdigest()
        return weights if files.adapter is None else with_settings(weights, files.adapter / ADAPTER_CONFIG)

    @cached_property
    def _checked(self) -> set[str]:
        return set()

    @property
    def _plain_files(self) -> ModelFiles:
        """Without the adapter, which has no description of its own."""
        return ModelFiles(self.files.folder, self.files.gguf)


class UnreadableModelsError(ModelError):
    """Models of a pool that cannot be opened.

    Attributes:
        findings: Of each the reason.
        base: The pool's, where it can be opened.
        sources: Those that can be opened.
    """

    def __init__(self, findings: Sequence[Finding], base: Model | None, sources: Sequence[Model]) -> None:
        sentences = [finding.sentence for finding in findings]
        head = f"{len(findings)} of the models cannot be read:"
        super().__init__(sentences[0] if len(sentences) == 1 else "\n- ".join([head, *sentences]))
        self.findings, self.base, self.sources = tuple(findings), base, tuple(sources)


class Pool:
    """A base and the sources to merge (``conf/models/*.yaml``).

    Args:
        base: What the sources were tuned from; ``None`` where a merge needs none.
        sources: At least one; each a name, or a mapping with ``name`` and ``model`` (and ``revision``) or ``adapter`` and
            ``base``. Beside these ``licence``, for a model whose card does not say.
        use: Names of the sources to merge; ``None`` is all.
        licences: ``permissive`` leaves out sources that do not allow a merge under Apache-2.0; ``None`` leaves out none.
        adapters: Folder in which adapters named by a relative path are looked for.
        out_dtype: Of the candidates and the checkpoint; ``None`` is what the base is stored in.
        residency: Where the weights wait for the next candidate: ``device``, ``host``, ``disk``, or ``auto``.
        compile: Whether merging is compiled to one pass over memory: ``auto`` where it pays, ``always``, or ``never``. The
            weights are the same.
        data_flow: Names of the sources that ``merge=dfs`` runs through, model A first; ``None`` is all, in their order.
        tokenizer: Whose tokens a mixture has where models have different ones: ``base``, ``union``, the name of a source, or a
            mapping with ``source``, ``pad_to_multiple_of`` and ``tokens``; ``None`` refuses models of different vocabularies.
        headers_only: Leave weights that are not on this machine on the hub; enough to make a plan.

    Attributes:
        left_out: The sources that ``licences`` left out, with the reason.

    Raises:
        ConfigError: Two sources of one name, an unknown name under ``use``, a wrong value, or no source whose licence fits.
        UnreadableModelsError: Models that cannot be found or read.
    """

    def __init__(
        self,
        *,
        base: str | Mapping[str, Any] | None,
        sources: Sequence[str | Mapping[str, Any]],
        use: Sequence[str] | None = None,
        licences: str | None = None,
        adapters: str | None = None,
        out_dtype: str | None = None,
        residency: str = "auto",
        compile: str = "auto",
        data_flow: Sequence[str] | None = None,
        tokenizer: str | Mapping[str, Any] | None = None,
        headers_only: bool = False,
    ) -> None:
        if residency not in RESIDENCIES:
            raise ConfigError(f"models.residency must be one of {', '.join(RESIDENCIES)}, got '{residency}'")
        if compile not in COMPILE:
            raise ConfigError(f"models.compile must be one of {', '.join(COMPILE)}, got '{compile}'")
        if out_dtype is not None and out_dtype not in DTYPES:
            raise ConfigError(f"models.out_dtype must be one of {', '.join(DTYPES)}, got '{out_dtype}'")
        if licences not in (None, PERMISSIVE):
            raise ConfigError(f"models.licences must be {PERMISSIVE}, or null for all, got '{licences}'")
        self._opened: dict[ModelFiles, Weights] = {}
        self._models: dict[tuple[ModelReference, tuple[str, ...]], Model] = {}
        self._headers_only = headers_only
        self.base: Model | None = None
        self.sources: tuple[Model, ...] = ()
        try:
            parted = [licence_apart(entry) for entry in sources]
            named = [_named(entry, adapters) for entry, _ in parted]
            base, base_licence = (None, None) if base is None else licence_apart(base)
            base_reference = None if base is None else reference_from_record(base)
            rule = None if tokenizer is None else read_tokenizer_rule(tokenizer)
        except RecipeError as error:
            raise ConfigError(f"models: {error}") from error
        chosen = _chosen(named, use)
        own = {source.name: licence for source, (_, licence) in zip(named, parted, strict=True)}
        self.left_out: dict[str, str] = {}
        if licences == PERMISSIVE:
            chosen, self.left_out = permissive_only(base_reference, base_licence, chosen, own)
        broken: list[Finding] = []
        if base_reference is not None:
            self.base = self._open_or_tell("base", base_reference, base_licence, broken)
        opened = [self._open_or_tell(source.name, source.reference, own[source.name], broken) for source in chosen]
        self.sources = tuple(model for model in opened if model is not None)
        if broken:
            raise UnreadableModelsError(broken, self.base, self.sources)
        self._alignment = None if rule is None else self._tie_and_align(rule)
        if self._alignment is None:
            self._tie_alike()
        self.residency, self.compile = residency, compile
        names = [source.name for source in self.sources]
        self._data_flow = names if data_flow is None else list(data_flow)
        self.out_dtype = out_dtype or self._stored_dtype()

    @classmethod
    def of_recipe(cls, recipe: Recipe) -> "Pool":
        """The models that a recipe names."""
        if isinstance(recipe, DataFlowRecipe):
            named = [{"name": source.name, **_plain(source.reference)} for source in recipe.models]
            return cls(base=None, sources=named, out_dtype=recipe.out_dtype)._as_stored()
        return cls(
            base=None if recipe.base is None else _plain(recipe.base),
            sources=[{"name": source.name, **_plain(source.reference)} for source in recipe.sources],
            out_dtype=recipe.out_dtype,
            tokenizer=None if recipe.tokenizer is None else tokenizer_record(recipe.tokenizer, _plain),
        )

    def for_paths(self) -> "Pool":
        """The models that ``merge=dfs`` runs through, model A first, without a base; raises ``ConfigError``."""
        if self._alignment is not None:
            raise ConfigError(
                "models.tokenizer is for mixtures; a layer path has the tokenizer and the embeddings of its first model: leave "
                "models.tokenizer=null, and name that model first under models.data_flow"
            )
        by_name = {source.name: source for source in self.sources}
        if unknown := [name for name in self._data_flow if name not in by_name]:
            why = " (models.licences=permissive leaves it out)" if unknown[0] in self.left_out else ""
            raise ConfigError(f"models.data_flow: there is no source '{unknown[0]}'{why}; there are {', '.join(by_name)}")
        if len(set(self._data_flow)) < max(2, len(self._data_flow)):
            got = ", ".join(self._data_flow) or "none"
            got += f" (models.licences=permissive leaves out {', '.join(self.left_out)})" if self.left_out else ""
            raise ConfigError(
                f"merge=dfs runs through the layers of two models or more, got {got}; "
                "name each once, model A first: 'models.data_flow=[a,b]'"
            )
        pool = copy(self)
        for key in ("tokenizer", "generation_config"):
            pool.__dict__.pop(key, None)
        pool.base = None
        pool.sources = tuple(by_name[name] for name in self._data_flow)
        return pool._as_stored()

    def open(self, name: str, reference: ModelReference, allowed_code: tuple[str, ...] = ()) -> Model:
        """The model of the pool with that reference, or else one opened under the name; raises ``ModelError``.

        A model that is a recipe may run merge methods from elsewhere that are in ``allowed_code``.
        """
        key = (reference, allowed_code)
        if key not in self._models:
            model = self._open(name, reference, allowed_code)
            if self._alignment is not None and not isinstance(model, AlignedModel):
                model = AlignedModel(model, self._alignment)
            self._models[key] = model
        return self._models[key]

    def _open_or_tell(self, name: str, reference: ModelReference, licence: str | None, broken: list[Finding]) -> Model | None:
        """The model, or ``None`` after adding to ``broken`` why it cannot be opened: all such models are told of at once."""
        try:
            return self._open(name, reference, (), licence)
        except ModelError as error:
            broken.append(of_error(error, name))
            return None

    def _open(self, name: str, reference: ModelReference, allowed_code: tuple[str, ...], licence: str | None = None) -> Model:
        if reference.recipe is not None:
            from evo_merge.models.building import BuiltModel  # a recipe has models of its own, hence a pool

            return BuiltModel(name, reference, allowed_code, licence)
        for model in (*self.sources, *([] if self.base is None else [self.base])):
            if model.reference == reference:
                return model
        files = locate(reference, headers_only=self._headers_only)
        return StoredModel(name, pinned(reference, files), files, open_weights(files, self._opened), licence)

    def _tie_alike(self) -> None:
        """Give all models a head of their own where one has, so that their weights can be mixed."""
        models = tied_alike(self.models)
        self.base = None if self.base is None else models[0]
        self.sources = tuple(models[-len(self.sources) :])

    def _tie_and_align(self, rule: TokenizerRule) -> Alignment:
        """Give all models a head of their own where one has, and then the rows of one vocabulary."""
        has_base = rule.base is not None if rule.sources else self.base is not None
        first = rule.base or (None if self.base is None else self.base.reference)
        members = rule.sources or self.recipe_sources
        named = ([Source(BASE, first)] if has_base and first is not None else []) + list(members)
        ours = {model.reference: model for model in self.models}
        opened = [ours.get(each.reference) or self._open(each.name, each.reference, ()) for each in named]
        once = dict.fromkeys((*opened, *self.models))  # one reference may have two names
        known = dict(zip(once, tied_alike(list(once)), strict=True))
        models = tuple(known[model] for model in opened)
        try:
            alignment = Alignment(rule, tuple(each.name for each in named), models, has_base)
        except RecipeError as error:
            raise ConfigError(f"models.{error}") from error
        self.base = None if self.base is None else AlignedModel(known[self.base], alignment)
        self.sources = tuple(AlignedModel(known[source], alignment) for source in self.sources)
        return alignment

    def _as_stored(self) -> "Pool":
        """This pool with tied embeddings left tied: a layer path has the embeddings and the head of one model."""
        self.sources = tuple(map(as_stored, self.sources))
        return self

    @property
    def models(self) -> tuple[Model, ...]:
        """The base, where there is one, and the sources."""
        return self.sources if self.base is None else (self.base, *self.sources)

    def models_in(self, recipe: Recipe) -> tuple[Model, ...]:
        """Those of the pool's models whose weights a recipe takes, itself or by a recipe inside it."""
        inside = set(_references_in(recipe))
        return tuple(model for model in (*self.models, *self.givers) if model.reference in inside)

    @property
    def givers(self) -> tuple[Model, ...]:
        """The models that give rows of embeddings and head, and are not merged themselves."""
        ours = {model.reference for model in self.models}
        models = () if self._alignment is None else self._alignment.models
        return tuple(model for model in models if model.reference not in ours)

    @property
    def leader(self) -> Model:
        """The model whose architecture and config the merge keeps: the base, or the first source."""
        return self.models[0]

    @property
    def tokenizer_rule(self) -> TokenizerRule | None:
        """Whose tokens mixtures of the pool have, with the models whose tokens and rows count, as recipes say it."""
        if self._alignment is None:
            return None
        alignment = self._alignment
        named = [Source(name, model.reference) for name, model in zip(alignment.names, alignment.models, strict=True)]
        base = named.pop(0).reference if alignment.has_base else None
        return replace(alignment.rule, base=base, sources=tuple(named))

    def refuse_other_tokens(self, recipe: ParameterSpaceRecipe) -> None:
        """Refuse a mixture that has its rows from another rule than the pool's models; raises ``RecipeError``."""
        said = [
            None if rule is None else replace(rule, base=None, sources=()) for rule in (recipe.tokenizer, self.tokenizer_rule)
        ]
        if said[0] != said[1]:
            theirs, ours = (None if rule is None else rule.source for rule in said)
            raise RecipeError(
                f"the recipe's tokenizer is {theirs}, and the models have the rows of {ours}; set models.tokenizer to what the "
                "recipe says, or build the recipe by itself"
            )

    @property
    def recipe_sources(self) -> tuple[Source, ...]:
        """The sources as recipes name them."""
        return tuple(Source(model.name, model.reference) for model in self.sources)

    @cached_property
    def tokenizer(self) -> Any:
        """The base's tokenizer, or the first that there is, with the first chat template that there is.

        Raises:
            ModelError: No model has a tokenizer.
        """
        found = [model.tokenizer for model in self.models if model.tokenizer is not None]
        if found:
            tokenizer = copy(found[0])
            tokenizer.chat_template = next((t.chat_template for t in found if t.chat_template is not None), None)
            return tokenizer
        raise ModelError("none of the models has a tokenizer, so nothing can be asked of them; add one to the base's folder")

    @cached_property
    def generation_config(self) -> Any:
        """The first generation config that there is, or transformers' own for the architecture.

        Any model's end-of-sequence token ends an answer, so that a source that ends in its own way is not cut by length.
        """
        from transformers import GenerationConfig

        configs = [model.generation_config for model in self.models if model.generation_config is not None]
        config = deepcopy(configs[0]) if configs else GenerationConfig.from_model_config(self.leader.config)
        ends = [_end_tokens(each) for each in (config, *configs, *(model.config for model in self.models))]
        union = list(dict.fromkeys(token for tokens in ends for token in tokens))
        config.eos_token_id = union[0] if len(union) == 1 else union or None
        return config

    def _stored_dtype(self) -> str:
        floats = [dtype for dtype in own_rows(self.leader).dtypes.values() if dtype.is_floating_point]
        stored = max(dict.fromkeys(floats), key=floats.count, default=torch.float32)
        name = str(stored).removeprefix("torch.")
        return name if name in DTYPES else "float32"


def _references_in(recipe: Recipe) -> Iterator[ModelReference]:
    for reference in references(recipe):
        yield reference
        if reference.recipe is not None:
            yield from _references_in(reference.recipe)


def _end_tokens(config: Any) -> list[int]:
    ids = getattr(config, "eos_token_id", None)
    return [] if ids is None else [ids] if isinstance(ids, int) else list(ids)


def _named(entry: str | Mapping[str, Any], adapters: str | None) -> Source:
    if isinstance(entry, str):
        return Source(Path(entry).name, ModelReference(model=entry))
    fields = dict(entry)
    name = fields.pop("name", None)
    reference = reference_from_record(fields)
    if reference.adapter is not None and adapters is not None and not Path(reference.adapter).expanduser().is_absolute():
        reference = ModelReference(adapter=str(Path(adapters) / reference.adapter), base=reference.base)
    if name is None and reference.recipe is not None:
        raise ConfigError("models.sources: a recipe needs a name: {name: …, recipe: FILE}")
    return Source(str(name) if name is not None else Path(reference.adapter or reference.model).name, reference)


def _chosen(named: Sequence[Source], use: Sequence[str] | None) -> Sequence[Source]:
    names = [source.name for source in named]
    if not names:
        raise ConfigError("models.sources is empty; name at least one model")
    if len(set(names)) != len(names):
        raise ConfigError(f"models.sources needs different names, got {', '.join(names)}; write {{name: …, model: …}}")
    if use is None:
        return named
    if not use:
        raise ConfigError(f"models.use is empty; name at least one of {', '.join(names)}, or null for all")
    if unknown := [name for name in use if name not in names]:
        raise ConfigError(f"models.use: there is no source '{unknown[0]}'; there are {', '.join(names)}")
    return [source for source in named if source.name in use]


def _plain(reference: ModelReference) -> dict[str, Any]:
    if reference.base is not None:
        return {"adapter": reference.adapter, "base": _plain(reference.base)}
    if reference.recipe is not None:
        return {"recipe": to_record(reference.recipe)}
    return {"model": reference.model, "revision": reference.revision}
