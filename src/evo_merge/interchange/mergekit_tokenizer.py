"""``tokenizer_source`` and ``tokenizer`` of mergekit's YAML (``mergekit/tokenizer``), and the rule of a recipe that means them.

mergekit has as many rows as there are tokens, whatever padding the models had, which is here ``pad_to_multiple_of: 1``.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from evo_merge.interchange.document import Document, Place
from evo_merge.recipe import ModelReference, ParameterSpaceRecipe, Source
from evo_merge.tokenizer_rule import BASE, UNION, TokenizerRule, TokenRow

_WORDS: Final = (BASE, UNION)
_NOT_PADDED: Final = 1


@dataclass(frozen=True, slots=True)
class MergekitTokenRow:
    """An entry of ``tokens``: a ``TokenRow`` that names its model by reference; ``None`` is a row of zeros."""

    token: str
    model: ModelReference | None
    of: str | int | None
    force: bool
    place: Place


@dataclass(frozen=True, slots=True)
class MergekitTokenizer:
    """The tokenizer that a file asks for.

    Attributes:
        source: ``base``, ``union``, or a model.
        pad_to_multiple_of: As in mergekit.
        tokens: Rows of single tokens.
        place: Where it stands in the file.
    """

    source: str | ModelReference
    pad_to_multiple_of: int | None
    tokens: tuple[MergekitTokenRow, ...]
    place: Place

    @property
    def is_plain(self) -> bool:
        """Whether nothing but a source is asked for."""
        return self.pad_to_multiple_of is None and not self.tokens


def read_tokenizer(
    document: Document, fields: Mapping[str, Any], read_model: Callable[[Any, Place], ModelReference]
) -> MergekitTokenizer | None:
    """What a file says of the tokenizer; ``None`` where it says nothing.

    Raises:
        RecipeError: With file and line: both keys at once, an unknown key, a wrong value.
    """
    source, block = fields.get("tokenizer_source"), fields.get("tokenizer")
    if source is not None and block is not None:
        raise document.error(("tokenizer",), "a merge has either 'tokenizer' or 'tokenizer_source', one of them at most")
    if source is not None:
        return MergekitTokenizer(_source(source, ("tokenizer_source",), read_model), None, (), ("tokenizer_source",))
    if block is None:
        return None
    place: Place = ("tokenizer",)
    inner = document.mapping(block, place, ("source", "tokens", "pad_to_multiple_of"))
    pad = inner.get("pad_to_multiple_of")
    if pad is not None and (isinstance(pad, bool) or not isinstance(pad, int) or pad < 0):
        raise document.error((*place, "pad_to_multiple_of"), f"'pad_to_multiple_of' must be a whole number, got {pad!r}")
    entries = document.mapping(inner.get("tokens"), (*place, "tokens"))
    rows = tuple(_row(document, token, entry, (*place, "tokens", token), read_model) for token, entry in entries.items())
    return MergekitTokenizer(_source(inner.get("source", UNION), (*place, "source"), read_model), pad or None, rows, place)


def rule_of_mergekit(
    document: Document, tokenizer: MergekitTokenizer, base: ModelReference | None, sources: Sequence[Source]
) -> TokenizerRule:
    """The rule, in a recipe of that base and those sources; raises ``RecipeError`` where it names another model."""
    names = {source.reference: source.name for source in reversed(sources)} | ({} if base is None else {base: BASE})

    def name(model: ModelReference, place: Place) -> str:
        if model not in names:
            raise document.error(place, f"'{model}' is none of the models of the merge")
        return names[model]

    source = tokenizer.source
    return TokenizerRule(
        source=source if isinstance(source, str) else name(source, tokenizer.place),
        pad_to_multiple_of=tokenizer.pad_to_multiple_of or _NOT_PADDED,
        tokens=tuple(
            TokenRow(row.token, None if row.model is None else name(row.model, row.place), row.of, row.force)
            for row in tokenizer.tokens
        ),
    )


def mergekit_tokenizer(
    recipe: ParameterSpaceRecipe, name: Callable[[ModelReference], str | dict[str, Any]]
) -> dict[str, Any] | None:
    """The keys of mergekit that mean a recipe's tokenizer; ``None`` where mergekit cannot say it.

    Args:
        recipe: Its rows, where they are padded, are cut by mergekit to the tokens that there are.
        name: How mergekit names a model.
    """
    rule = recipe.tokenizer
    if rule is None:
        return {}
    if rule.sources:
        return None  # rows come from models that the merge itself does not have
    source = rule.source if rule.source in _WORDS else name(_reference(recipe, rule.source))
    if not rule.tokens and rule.pad_to_multiple_of in (None, _NOT_PADDED):
        return {"tokenizer_source": source}
    block: dict[str, Any] = {"source": source}
    if rule.tokens:
        block["tokens"] = {row.token: _written_row(row, recipe, name) for row in rule.tokens}
    if rule.pad_to_multiple_of not in (None, _NOT_PADDED):
        block["pad_to_multiple_of"] = rule.pad_to_multiple_of
    return {"tokenizer": block}


def means_the_same(first: ParameterSpaceRecipe, second: ParameterSpaceRecipe) -> bool:
    """Whether the tokenizers of two recipes are one for mergekit, whatever the recipes call their models."""
    return _meaning(first) == _meaning(second)


def _meaning(recipe: ParameterSpaceRecipe) -> object:
    rule = recipe.tokenizer
    if rule is None:
        return None
    source = UNION if rule.source == UNION else _reference(recipe, rule.source)
    # Of two models the row of one that lacks a token is the other's, with a base or without.
    gives_first = recipe.base if len(recipe.sources) > 2 else None
    tokens = [(row.token, row.model and _reference(recipe, row.model), row.of, row.force) for row in rule.tokens]
    return source, rule.pad_to_multiple_of or _NOT_PADDED, tokens, rule.references, gives_first


def _reference(recipe: ParameterSpaceRecipe, name: str) -> ModelReference:
    if name == BASE:
        return recipe.sources[0].reference if recipe.base is None else recipe.base
    return next(source.reference for source in recipe.sources if source.name == name)


def _source(value: Any, place: Place, read_model: Callable[[Any, Place], ModelReference]) -> str | ModelReference:
    return value if value in _WORDS else read_model(value, place)


def _row(
    document: Document, token: str, entry: Any, place: Place, read_model: Callable[[Any, Place], ModelReference]
) -> MergekitTokenRow:
    fields = document.mapping(entry, place, ("source", "force"))
    source, force = fields.get("source"), bool(fields.get("force", False))
    if source is None:
        raise document.error(place, f"the token '{token}' needs a 'source': a model, or a mapping with 'kind'")
    if not isinstance(source, dict) or "kind" not in source:
        return MergekitTokenRow(str(token), read_model(source, (*place, "source")), None, force, place)
    inner = document.mapping(source, (*place, "source"), ("kind", "model", "token", "token_id"))
    if inner["kind"] == "zero":
        return MergekitTokenRow(str(token), None, None, force, place)
    has_one = (inner.get("token") is None) != (inner.get("token_id") is None)
    if inner["kind"] != "model_token" or not has_one:
        raise document.error((*place, "source"), "'kind' is zero, or model_token with a model and either 'token' or 'token_id'")
    of = inner["token"] if inner.get("token") is not None else inner["token_id"]
    return MergekitTokenRow(str(token), read_model(inner.get("model"), (*place, "source", "model")), of, force, place)


def _written_row(
    row: TokenRow, recipe: ParameterSpaceRecipe, name: Callable[[ModelReference], str | dict[str, Any]]
) -> dict[str, Any]:
    model = None if row.model is None else name(_reference(recipe, row.model))
    source: Any = model
    if row.model is None:
        source = {"kind": "zero"}
    elif row.of is not None:
        source = {"kind": "model_token", "model": model, ("token_id" if isinstance(row.of, int) else "token"): row.of}
    return {"source": source} | ({"force": True} if row.force else {})
