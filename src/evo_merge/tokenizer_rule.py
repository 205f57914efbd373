"""Whose tokens a merge has where its models differ in vocabulary, as a recipe and ``models.tokenizer`` say it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

from evo_merge.errors import RecipeError
from evo_merge.plain_values import as_mapping

if TYPE_CHECKING:
    from evo_merge.recipe import ModelReference, Source

BASE: Final = "base"
UNION: Final = "union"
_KEYS: Final = ("source", "pad_to_multiple_of", "tokens", "base", "sources")


@dataclass(frozen=True, slots=True)
class TokenRow:
    """Where the row of one token comes from, instead of by the rule for all.

    Attributes:
        token: The token; one that the vocabulary has not is added to it.
        model: Name of the model that gives the row; ``None`` is a row of zeros.
        of: The token of that model whose row it is, or the row's number; ``None`` is the same token.
        force: Every model gets this row; else those that lack the token.
    """

    token: str
    model: str | None
    of: str | int | None = None
    force: bool = False


@dataclass(frozen=True, slots=True)
class TokenizerRule:
    """Whose tokens a merge has; rows of embeddings and head are put in their order.

    Attributes:
        source: ``base`` (of merges without one the first source), ``union``, or the name of a source.
        pad_to_multiple_of: The embeddings have as many rows as there are tokens, rounded up to a multiple of it; ``None`` keeps
            the rows that the model has whose tokenizer it is.
        tokens: Rows that do not follow the rule, in the order of their tokens' texts.
        base: The base of ``sources``.
        sources: The models whose tokens and rows count, where these are not the base and the sources of the recipe itself.
    """

    source: str
    pad_to_multiple_of: int | None = None
    tokens: tuple[TokenRow, ...] = ()
    base: "ModelReference | None" = None
    sources: "tuple[Source, ...]" = ()

    def __post_init__(self) -> None:
        if not self.source:
            raise RecipeError("tokenizer.source must be base, union, or the name of a source, got ''")
        pad = self.pad_to_multiple_of
        if pad is not None and (isinstance(pad, bool) or not isinstance(pad, int) or pad < 1):
            raise RecipeError(f"tokenizer.pad_to_multiple_of must be a whole number from 1, got {pad!r}")
        # In one order, since new tokens are numbered in it and a mapping's order is not part of a recipe's hash.
        object.__setattr__(self, "tokens", tuple(sorted(self.tokens, key=lambda row: row.token)))

    @property
    def references(self) -> "list[ModelReference]":
        """The models that it names beside the recipe's own."""
        return [*([] if self.base is None else [self.base]), *(source.reference for source in self.sources)]

    def among(self, base: "ModelReference | None", sources: "Sequence[Source]") -> "TokenizerRule":
        """The same rule in a recipe of that base and those sources: the models are named where they are others."""
        if (self.base, self.sources) == (base, tuple(sources)):
            return replace(self, base=None, sources=())
        return self


def tokenizer_record(rule: TokenizerRule, of_reference: Callable[["ModelReference"], dict[str, Any]]) -> dict[str, Any]:
    """The rule as plain values, without what is left at its default."""
    record: dict[str, Any] = {"source": rule.source}
    if rule.pad_to_multiple_of is not None:
        record["pad_to_multiple_of"] = rule.pad_to_multiple_of
    if rule.tokens:
        record["tokens"] = {row.token: _row_record(row) for row in rule.tokens}
    if rule.sources:
        record["base"] = None if rule.base is None else of_reference(rule.base)
        record["sources"] = [{"name": source.name, **of_reference(source.reference)} for source in rule.sources]
    return record


def tokenizer_from_record(
    record: object,
    to_reference: Callable[[object], "ModelReference"],
    to_source: Callable[[object, int], "Source"],
) -> TokenizerRule:
    """The rule from a word (``base``, ``union``, a source) or a mapping; raises ``RecipeError``."""
    if isinstance(record, str):
        return TokenizerRule(record)
    fields = as_mapping(record, "tokenizer")
    if unknown := [key for key in fields if key not in _KEYS]:
        raise RecipeError(f"unknown key 'tokenizer.{unknown[0]}'; there are {', '.join(_KEYS)}")
    if not isinstance(fields.get("source"), str):
        raise RecipeError(f"tokenizer.source must be base, union, or the name of a source, got {fields.get('source')!r}")
    base, sources = fields.get("base"), fields.get("sources") or []
    if not isinstance(sources, list | tuple):
        raise RecipeError(f"tokenizer.sources must be a list, got {sources!r}")
    if base is not None and not sources:
        raise RecipeError("tokenizer.base goes with tokenizer.sources; leave both out where they are the recipe's own")
    return TokenizerRule(
        source=fields["source"],
        pad_to_multiple_of=fields.get("pad_to_multiple_of"),
        tokens=tuple(_row(token, entry) for token, entry in as_mapping(fields.get("tokens") or {}, "tokenizer.tokens").items()),
        base=None if base is None else to_reference(base),
        sources=tuple(to_source(entry, number) for number, entry in enumerate(sources)),
    )


def _row_record(row: TokenRow) -> dict[str, Any]:
    record: dict[str, Any] = {"model": row.model}
    if row.of is not None:
        record["token"] = row.of
    return record | ({"force": True} if row.force else {})


def _row(token: str, record: object) -> TokenRow:
    what = f"tokenizer.tokens['{token}']"
    fields = as_mapping(record, what)
    if unknown := [key for key in fields if key not in ("model", "token", "force")]:
        raise RecipeError(f"{what} has no key '{unknown[0]}'; it has model (null for zeros), token and force")
    if "model" not in fields or not isinstance(fields["model"], str | None):
        raise RecipeError(f"{what}.model must be the name of a model, or null for a row of zeros, got {fields.get('model')!r}")
    of, force = fields.get("token"), fields.get("force", False)
    if isinstance(of, bool) or not isinstance(of, str | int | None) or (fields["model"] is None and of is not None):
        raise RecipeError(f"{what}.token must be a token of that model or the number of a row, got {of!r}")
    if not isinstance(force, bool):
        raise RecipeError(f"{what}.force must be true or false, got {force!r}")
    return TokenRow(token, fields["model"], of, force)
