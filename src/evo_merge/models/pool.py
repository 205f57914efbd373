"""The models of a run: a base, the sources, and the check that they belong together."""

from collections.abc import Iterator, Mapping, Sequence
from copy import copy
from functools import cached_property
from typing import Any

import torch

from evo_merge.errors import ConfigError, ModelError, RecipeError
from evo_merge.findings import Finding
from evo_merge.models.aligned import AlignedModel, Alignment, own_rows
from evo_merge.models.checks.kinds import of_error
from evo_merge.models.model import Model, StoredModel
from evo_merge.models.pool_licences import PERMISSIVE, licence_apart, permissive_only
from evo_merge.models.pool_sources import in_path_order, named_source, used
from evo_merge.models.pool_tokens import (
    aligned_models,
    first_generation_config,
    first_tokenizer,
    refuse_other_rule,
    stated_rule,
)
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
    reference_record,
    references,
)
from evo_merge.recipe_file import read_tokenizer_rule, reference_from_record
from evo_merge.tokenizer_rule import TokenizerRule, tokenizer_record

RESIDENCIES = ("auto", "device", "host", "disk")
COMPILE = ("auto", "always", "never")


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
            named = [named_source(entry, adapters) for entry, _ in parted]
            base, base_licence = (None, None) if base is None else licence_apart(base)
            base_reference = None if base is None else reference_from_record(base)
            rule = None if tokenizer is None else read_tokenizer_rule(tokenizer)
        except RecipeError as error:
            raise ConfigError(f"models: {error}") from error
        chosen = used(named, use)
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
        self._alignment: Alignment | None = None
        if rule is None:
            alike = tied_alike(self.models)
            self.base, self.sources = None if self.base is None else alike[0], tuple(alike[-len(self.sources) :])
        else:
            self._alignment, self.base, self.sources = aligned_models(
                rule, self.base, self.sources, lambda each: self._open(each.name, each.reference, ())
            )
        self.residency, self.compile = residency, compile
        names = [source.name for source in self.sources]
        self._data_flow = names if data_flow is None else list(data_flow)
        self.out_dtype = out_dtype or self._stored_dtype()

    @classmethod
    def of_recipe(cls, recipe: Recipe) -> "Pool":
        """The models that a recipe names."""
        if isinstance(recipe, DataFlowRecipe):
            named = [{"name": source.name, **reference_record(source.reference)} for source in recipe.models]
            return cls(base=None, sources=named, out_dtype=recipe.out_dtype)._as_stored()
        return cls(
            base=None if recipe.base is None else reference_record(recipe.base),
            sources=[{"name": source.name, **reference_record(source.reference)} for source in recipe.sources],
            out_dtype=recipe.out_dtype,
            tokenizer=None if recipe.tokenizer is None else tokenizer_record(recipe.tokenizer, reference_record),
        )

    def for_paths(self) -> "Pool":
        """The models that ``merge=dfs`` runs through, model A first, without a base; raises ``ConfigError``."""
        if self._alignment is not None:
            raise ConfigError(
                "models.tokenizer is for mixtures; a layer path has the tokenizer and the embeddings of its first model: leave "
                "models.tokenizer=null, and name that model first under models.data_flow"
            )
        pool = copy(self)
        for key in ("tokenizer", "generation_config"):
            pool.__dict__.pop(key, None)
        pool.base = None
        pool.sources = in_path_order(self.sources, self._data_flow, self.left_out)
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
        return stated_rule(self._alignment)

    def refuse_other_tokens(self, recipe: ParameterSpaceRecipe) -> None:
        """Refuse a mixture that has its rows from another rule than the pool's models; raises ``RecipeError``."""
        refuse_other_rule(recipe.tokenizer, self.tokenizer_rule)

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
        return first_tokenizer(self.models)

    @cached_property
    def generation_config(self) -> Any:
        """The first generation config that there is, or transformers' own for the architecture.

        Any model's end-of-sequence token ends an answer, so that a source that ends in its own way is not cut by length.
        """
        return first_generation_config(self.models)

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
