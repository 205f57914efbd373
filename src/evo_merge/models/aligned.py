"""A model beside models with other tokens: its embeddings and its head have the rows of the merge's vocabulary."""

from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from evo_merge.errors import ModelError, RecipeError
from evo_merge.licences import StatedLicence
from evo_merge.models.checks.facts import vocabulary_tensors
from evo_merge.models.merged_tokenizer import union_tokenizer, with_tokens
from evo_merge.models.model import Model
from evo_merge.models.vocabulary import ZERO, Giver, Vocabulary, Words, digest_of_rows, renumbered_config
from evo_merge.recipe import ModelReference
from evo_merge.tokenizer_rule import BASE, UNION, TokenizerRule, TokenRow


@dataclass(frozen=True, eq=False)
class Alignment:
    """Models whose rows are matched by token; tokenizers and configs are read when the first of them is asked for something.

    Attributes:
        rule: Whose tokens the merge has.
        names: What the rule calls the models.
        models: The models whose tokens and rows count, each with its own rows; the base first, where there is one.
        has_base: Whether there is one.

    Raises:
        RecipeError: The rule names a model that is none of these.
    """

    rule: TokenizerRule
    names: tuple[str, ...]
    models: tuple[Model, ...]
    has_base: bool

    def __post_init__(self) -> None:
        if self.rule.source != UNION:
            self._place(self.rule.source, "tokenizer")
        for row in self.rule.tokens:
            if row.model is not None:
                self._place(row.model, f"tokenizer.tokens['{row.token}']")

    @cached_property
    def vocabulary(self) -> Vocabulary:
        """The tokens of the merge.

        Raises:
            ModelError: There is no tokenizer to begin with, or one cannot be read.
            RecipeError: A token under ``tokens`` is not in the model that it is to come from.
        """
        words = tuple(map(self.words, self.models))
        place = 0 if self.rule.source == UNION else self._place(self.rule.source, "tokenizer")
        tokenizer = self._tokenizer(place, words)
        given = {row.token: self._giver(row, words) for row in self.rule.tokens}
        numbers = tokenizer.get_vocab()
        if new := [token for token in given if token not in numbers]:
            tokenizer = with_tokens(tokenizer, {token: token for token in new})
            numbers = tokenizer.get_vocab()
        n_named = max(numbers.values()) + 1
        multiple = self.rule.pad_to_multiple_of
        n_rows = max(n_named, words[place].n_rows) if multiple is None else -(-n_named // multiple) * multiple
        return Vocabulary(tokenizer, words, place, self.has_base, n_rows, n_named, multiple is not None, given)

    def words(self, model: Model) -> Words:
        """The tokens of a model; of one without a tokenizer the first model's, as far as it has rows."""
        tokenizer = self._first_tokenizer if model.tokenizer is None else model.tokenizer
        return Words(dict(tokenizer.get_vocab()), int(model.config.get_text_config().vocab_size))

    def _tokenizer(self, place: int, words: Sequence[Words]) -> Any:
        """The chosen tokenizer, or the union of all, with the first chat template that there is."""
        own = self._first_tokenizer if self.models[place].tokenizer is None else self.models[place].tokenizer
        known = [model.tokenizer for model in self.models]
        if self.rule.source == UNION:
            others = [(each, word.n_rows) for each, word in zip(known[1:], words[1:], strict=True) if each is not None]
            merged = union_tokenizer(own, others)
        else:
            merged = deepcopy(own)
        templates = [each.chat_template for each in (own, *known) if each is not None and each.chat_template is not None]
        merged.chat_template = templates[0] if templates else None
        return merged

    @property
    def _first_tokenizer(self) -> Any:
        first = self.models[0]
        if first.tokenizer is None:
            raise ModelError(
                f"'{first.name}' ({first.reference}) has no tokenizer, so that rows cannot be matched by token; copy the one "
                "that it was trained with to it, or leave tokenizer at null"
            )
        return first.tokenizer

    def _place(self, name: str, what: str) -> int:
        if name == BASE:
            return 0
        if name not in self.names:
            choices = dict.fromkeys([BASE, *([UNION] if what == "tokenizer" else []), *self.names])
            raise RecipeError(f"{what} names '{name}'; there are {', '.join(choices)}")
        return self.names.index(name)

    def _giver(self, row: TokenRow, words: Sequence[Words]) -> Giver:
        if row.model is None:
            return Giver(ZERO, 0, row.force)
        place = self._place(row.model, f"tokenizer.tokens['{row.token}']")
        number = row.of if isinstance(row.of, int) else words[place].tokens.get(row.token if row.of is None else row.of)
        if number is None or not 0 <= number < words[place].n_rows:
            raise RecipeError(
                f"tokenizer.tokens['{row.token}'] takes the row of {row.token if row.of is None else row.of!r} from "
                f"'{row.model}', which has none; name a token of its tokenizer, or a row below {words[place].n_rows}"
            )
        return Giver(place, number, row.force)


@dataclass(frozen=True)
class AlignedModel:
    """A model with the rows of a merge's vocabulary; see ``evo_merge.models.model.Model``.

    Attributes:
        own: The model with its own rows.
        alignment: The merge's vocabulary.
    """

    own: Model
    alignment: Alignment

    @property
    def name(self) -> str:
        """As in the model itself."""
        return self.own.name

    @property
    def reference(self) -> ModelReference:
        """As in the model itself."""
        return self.own.reference

    @cached_property
    def config(self) -> Any:
        """The model's config, with the rows and the numbers of tokens of the merge."""
        return renumbered_config(self.own.config, self._vocabulary, self._words)

    @cached_property
    def shapes(self) -> Mapping[str, tuple[int, ...]]:
        """Shape of every tensor, those of a row a token with the rows of the merge."""
        n_rows = self._vocabulary.n_rows
        return {name: (n_rows, *shape[1:]) if name in self._named else shape for name, shape in self.own.shapes.items()}

    @cached_property
    def dtypes(self) -> Mapping[str, torch.dtype]:
        """Stored dtype of every tensor; of those that hold rows of several models, one that holds them all."""
        vocabulary, models = self._vocabulary, self.alignment.models
        return {
            name: vocabulary.dtype_of(dtype, self._rows, lambda place, name=name: models[place].dtypes[name])  # type: ignore[misc]
            if name in self._named
            else dtype
            for name, dtype in self.own.dtypes.items()
        }

    def read(self, name: str) -> Tensor:
        """One tensor on the CPU; raises ``ModelError`` where a model that gives rows has no such tensor."""
        own = self.own.read(name)
        if name not in self._named:
            return own
        return self._vocabulary.aligned(own, self._rows, lambda place: self._given(place, name))

    def forget(self) -> None:
        """Let go of what is held in memory only to be read from."""
        self.own.forget()

    @property
    def tokenizer(self) -> Any:
        """That of the merge."""
        return self._vocabulary.tokenizer

    @cached_property
    def generation_config(self) -> Any | None:
        """The model's own, with the numbers of tokens of the merge."""
        if self.own.generation_config is None:
            return None
        config = deepcopy(self.own.generation_config)
        self._vocabulary.renumbered(config, self._words)
        return config

    @property
    def licences(self) -> tuple[StatedLicence, ...]:
        """As in the model itself."""
        return self.own.licences

    @property
    def fingerprint(self) -> str:
        """As in the model itself."""
        return self.own.fingerprint

    @property
    def rows_digest(self) -> str:
        """Tells which rows of the model are which of the merge, from others."""
        return digest_of_rows(self._rows)

    @property
    def _vocabulary(self) -> Vocabulary:
        return self.alignment.vocabulary

    @cached_property
    def _words(self) -> Words:
        return self.alignment.words(self.own)

    @cached_property
    def _rows(self) -> Tensor:
        return self._vocabulary.rows_of(self._words)

    @cached_property
    def _named(self) -> frozenset[str]:
        return vocabulary_tensors(self.own.config)

    def _given(self, place: int, name: str) -> Tensor:
        giver = self.alignment.models[place]
        if giver is self.own:
            return self.own.read(name)
        if name not in giver.shapes:
            raise ModelError(
                f"'{giver.name}' ({giver.reference}) has no '{name}', of which it would give rows to '{self.name}'"
            )
        return giver.read(name)


def own_rows(model: Model) -> Model:
    """The model with its own rows."""
    return model.own if isinstance(model, AlignedModel) else model
