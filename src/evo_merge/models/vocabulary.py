"""The vocabulary of a merge whose models have different ones: its tokens, its rows, and who gives the rows that a model lacks.

Tokens are compared as tokenizers spell them. A row that a model lacks is, as in mergekit, the base's where the base has the
token; else, where one model alone has it, that model's; else the mean of those that have it; zeros where none has it. So a
source adds nothing to the base by a token that it does not know.
"""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final

import torch
from torch import Tensor

ZERO: Final = -1  # in the place of the model that gives a row: nobody has one
MEAN: Final = -2  # and: the mean of all that have one
_IDS: Final = "_token_id"  # how the names of settings end that are numbers of tokens


@dataclass(frozen=True)
class Words:
    """The tokens of one model.

    Attributes:
        tokens: Number of every token of its tokenizer.
        n_rows: Rows of its embeddings.
    """

    tokens: Mapping[str, int]
    n_rows: int


@dataclass(frozen=True)
class Giver:
    """Who gives a row by name: the place of the model (or ``ZERO``), its row, and whether every model gets it."""

    place: int
    row: int
    force: bool


@dataclass(frozen=True, eq=False)
class Vocabulary:
    """Which row of which model becomes which row of the merge.

    Attributes:
        tokenizer: Of the merge.
        models: The tokens of the models whose rows count, the base first.
        frame: Place of the model whose tokenizer it is; its rows without a token are kept.
        has_base: Whether the first model is a base, which gives rows before others.
        n_rows: Of the merge's embeddings.
        n_named: Rows up to the last token's. With ``pads`` the rows after it are the mean of these.
        pads: Whether the rows after the last token are made anew.
        given: Rows that do not follow the rule, by token.
    """

    tokenizer: Any
    models: tuple[Words, ...]
    frame: int
    has_base: bool
    n_rows: int
    n_named: int
    pads: bool
    given: Mapping[str, Giver]

    @cached_property
    def numbers(self) -> dict[str, int]:
        """Number of every token of the merge."""
        return dict(self.tokenizer.get_vocab())

    def rows_of(self, words: Words) -> Tensor:
        """``(n_rows,)``, int64: the row of the model's own embeddings that each row of the merge is, or -1 for none."""
        found = torch.full((self.n_rows,), -1, dtype=torch.int64)
        pairs = [
            (row, own)
            for token, row in self.numbers.items()
            if 0 <= (own := words.tokens.get(token, -1)) < words.n_rows
        ]  # fmt: skip
        frame = self.models[self.frame]
        if words.tokens == frame.tokens:
            # Rows of no token are the same thing in models of one tokenizer, and in no others.
            nameless = self._nameless[self._nameless < words.n_rows]
            found[nameless] = nameless
        if pairs:
            rows, own_rows = torch.tensor(pairs, dtype=torch.int64).unbind(1)
            found[rows] = own_rows
        found[self._forced] = -1
        return found

    @cached_property
    def given_by(self) -> Tensor:
        """``(n_rows,)``, int64: place of the model that gives the rows that others lack, or ``MEAN``, or ``ZERO``."""
        has = torch.stack(self.rows) >= 0
        count, first = has.sum(0), has.int().argmax(0)
        several = torch.where(has[0], 0, MEAN) if self.has_base else torch.full_like(first, MEAN)
        places = torch.where(count == 0, ZERO, torch.where(count == 1, first, several))
        # A row of no token has no meaning beyond the model whose tokenizer it is.
        frame_has = self._nameless[self._nameless < self.models[self.frame].n_rows]
        places[frame_has] = self.frame
        for token, giver in self.given.items():
            places[self.numbers[token]] = giver.place
        return places

    @cached_property
    def rows(self) -> tuple[Tensor, ...]:
        """Of each model ``rows_of``."""
        return tuple(map(self.rows_of, self.models))

    @cached_property
    def given_rows(self) -> tuple[Tensor, ...]:
        """Of each model, ``(n_rows,)``: which of its rows it gives to others."""
        rows = [each.clone() for each in self.rows]
        for token, giver in self.given.items():
            if giver.place != ZERO:
                rows[giver.place][self.numbers[token]] = giver.row
        return tuple(rows)

    def aligned(self, own: Tensor, rows: Tensor, read: Callable[[int], Tensor]) -> Tensor:
        """One tensor with a row a token, in the order of the merge.

        Args:
            own: ``(n_own_rows, *shape)``, a model's tensor.
            rows: Its ``rows_of``.
            read: Gives the same tensor of the model at a place of ``models``.

        Returns:
            ``(n_rows, *shape)``, in the dtype of ``dtype_of``.
        """
        if len(rows) == len(own) and torch.equal(rows, torch.arange(len(own))):
            return own
        missing = (rows < 0).nonzero().flatten()
        if self.pads:
            missing = missing[missing < self.n_named]
        places = self.given_by[missing]
        donors = {place: read(place) for place in self._needed(places)}
        dtype = self._dtype(own.dtype, [donor.dtype for donor in donors.values()], places)
        found = own.index_select(0, rows.clamp(min=0)).to(dtype)
        for place in sorted(set(places.tolist())):
            at = missing[places == place]
            if place == ZERO:
                found[at] = 0
            elif place == MEAN:
                found[at] = self._mean(at, donors, found).to(dtype)
            else:
                found[at] = donors[place].index_select(0, self.given_rows[place][at]).to(dtype)
        if self.pads and self.n_rows > self.n_named:
            found[self.n_named :] = found[: self.n_named].float().mean(0).to(dtype)
        return found

    def dtype_of(self, own: torch.dtype, rows: Tensor, donors: Callable[[int], torch.dtype]) -> torch.dtype:
        """The dtype of an aligned tensor: one that holds the rows of all that give some; float32 where means are taken."""
        missing = rows < 0
        missing[self.n_named :] &= not self.pads
        places = self.given_by[missing]
        return self._dtype(own, [donors(place) for place in self._needed(places)], places)

    def renumbered(self, settings: Any, words: Words) -> None:
        """Bring a config's numbers of tokens to those of the merge, in place; tokens that the merge has not are left out.

        Where the merge's tokenizer has tokens that begin, end and pad a text, those come first.
        """
        by_number = {number: token for token, number in words.tokens.items()}
        for key, value in list(settings.to_dict().items()):
            if key.endswith(_IDS) and value is not None:
                tokens = [by_number.get(each, "") for each in (value if isinstance(value, list) else [value])]
                self._set(settings, key, [self.numbers[token] for token in tokens if token in self.numbers])
        for key in ("bos", "pad", "eos"):
            own = getattr(self.tokenizer, key + _IDS, None)
            if own is not None:
                was = getattr(settings, key + _IDS, None) if key == "eos" else None  # a text may end in several ways
                self._set(settings, key + _IDS, [own, *(was if isinstance(was, list) else [] if was is None else [was])])

    def _set(self, settings: Any, key: str, numbers: Sequence[int]) -> None:
        kept = list(dict.fromkeys(numbers))
        setattr(settings, key, kept[0] if len(kept) == 1 else kept or None)

    def _mean(self, at: Tensor, donors: Mapping[int, Tensor], like: Tensor) -> Tensor:
        """The mean of the rows of all models that have one, in float32."""
        total = torch.zeros((len(at), *like.shape[1:]), dtype=torch.float32)
        count = torch.zeros(len(at), dtype=torch.int64)
        for place, rows in enumerate(self.rows):
            has = rows[at] >= 0
            total[has] += donors[place].index_select(0, rows[at][has]).float()
            count += has
        return total / count.reshape(-1, *[1] * (like.dim() - 1))

    def _needed(self, places: Tensor) -> list[int]:
        """Places of the models of which rows are read."""
        named = sorted(set(places.tolist()))
        return list(range(len(self.models))) if MEAN in named else [place for place in named if place >= 0]

    def _dtype(self, own: torch.dtype, others: Sequence[torch.dtype], places: Tensor) -> torch.dtype:
        for dtype in others:
            own = torch.promote_types(own, dtype)
        return torch.promote_types(own, torch.float32) if bool((places == MEAN).any()) else own

    @cached_property
    def digest(self) -> str:
        """Tells the rows of the merge, and whose they are, from others."""
        counts = torch.tensor([self.n_rows, self.n_named, self.pads])
        return digest_of_rows(counts, self.given_by, *self.given_rows)

    @cached_property
    def _nameless(self) -> Tensor:
        """Rows of the merge that no token has."""
        free = torch.ones(self.n_rows, dtype=torch.bool)
        free[list(self.numbers.values())] = False
        if self.pads:
            free[self.n_named :] = False
        return free.nonzero().flatten()

    @cached_property
    def _forced(self) -> Tensor:
        return torch.tensor([self.numbers[token] for token, giver in self.given.items() if giver.force], dtype=torch.int64)


def digest_of_rows(*rows: Tensor) -> str:
    """Tells numbers of rows, each ``(n,)`` int64, from others: 64 hexadecimal digits."""
    digest = hashlib.sha256()
    for each in rows:
        digest.update(f"{len(each)}\n".encode() + each.numpy().tobytes())
    return digest.hexdigest()


def renumbered_config(config: Any, vocabulary: Vocabulary, words: Words) -> Any:
    """A copy of a transformers config with the rows and the numbers of tokens of the merge."""
    copied = deepcopy(config)
    text = copied.get_text_config()
    text.vocab_size = vocabulary.n_rows
    for settings in (copied,) if text is copied else (copied, text):
        vocabulary.renumbered(settings, words)
    return copied
