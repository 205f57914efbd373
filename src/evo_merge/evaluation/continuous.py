"""Greedy decoding of many prompts with rows that leave when they are done and prompts that take their place.

Every row of the cache is one answer in the making. A step feeds each row its last token, with what a draft proposes after it,
and takes the tokens that greedy decoding chooses: one, and as many of the proposal as agree. So the tokens are those of a plain
loop over one prompt, but for what the order of floating-point sums does to logits that are all but equal.
"""

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch
from transformers import PreTrainedModel

from evo_merge.evaluation.answers import Answer
from evo_merge.evaluation.drafts import Follower
from evo_merge.evaluation.row_cache import RowCache

_PASS = 2048  # tokens of a pass over prompts, so that what it computes with stays small
_STEP = 512  # tokens of a step over drafts: each has a logit for every token of the vocabulary
_REFILL = 8  # a free row waits until every so manieth row is free, for prompts are read faster together
_PREFIX = 8  # tokens from which on a common beginning is worth a pass of its own
# Tokens that a pass takes along nearly for free, since it reads all weights anyway. Measured on a CPU; of a GPU a guess.
_FREE = {"cpu": 16}
_FREE_ELSEWHERE = 256


@dataclass
class Row:
    """A prompt and its answer in the making."""

    prompt: tuple[int, ...]
    answer: Answer
    follower: Follower
    most: int  # new tokens
    is_tainted: bool = False  # whether its row of the cache may hold what is not finite

    @property
    def tokens(self) -> tuple[int, ...]:
        """Prompt and answer so far."""
        return (*self.prompt, *self.answer.tokens)

    @property
    def last(self) -> int:
        """The last of them."""
        return (self.answer.tokens or self.prompt)[-1]


@dataclass
class Counts:
    """What a loop did.

    Attributes:
        drafted: Tokens that drafts proposed.
        accepted: Those of them that held.
        passes: Forward passes, prompts' and answers'.
    """

    drafted: int = 0
    accepted: int = 0
    passes: int = 0


@dataclass
class Loop:
    """One model, and the rows that it is answering.

    Attributes:
        model: Its forward takes a mask of four dimensions and position ids.
        n_rows: Rows at once at most.
        n_columns: Tokens of the longest prompt and answer.
        counts: Added to.
    """

    model: PreTrainedModel
    n_rows: int
    n_columns: int
    counts: Counts
    _active: list[Row] = field(default_factory=list)
    _lengths: list[int] = field(default_factory=list)  # of what the cache holds of each; its last token is fed next

    def __post_init__(self) -> None:
        self._cache = RowCache(self.n_rows, self.n_columns)
        self._device = self.model.device
        self._n_prefix = 0
        self._prefix: dict[int, tuple[torch.Tensor, torch.Tensor]] = {}

    def run(self, rows: Sequence[Row]) -> None:
        """Answer all rows that have not ended, the longest prompts first.

        Raises:
            UnusableCandidateError: A logit that decided a token is not finite.
            torch.OutOfMemoryError: The rows do not fit; their answers so far are kept.
        """
        waiting = deque(sorted((row for row in rows if not row.answer.has_ended), key=lambda row: -len(row.tokens)))
        with torch.inference_mode():
            self._read_prefix(waiting)
            while waiting or self._active:
                n_free = self.n_rows - len(self._active)
                if waiting and (n_free * _REFILL >= self.n_rows or not self._active):
                    self._admit([waiting.popleft() for _ in range(min(n_free, len(waiting)))])
                self._step()
                self._leave()

    def _read_prefix(self, rows: Sequence[Row]) -> None:
        """What all prompts begin with is read once; every prompt keeps a token of its own."""
        shortest = min((len(row.tokens) for row in rows), default=0)
        first, last = min((row.tokens for row in rows), default=()), max((row.tokens for row in rows), default=())
        n = next((i for i in range(shortest) if first[i] != last[i]), shortest)
        n = min(n, shortest - 1)
        if len(rows) > 1 and n >= _PREFIX:
            self._forward([0], [first[:n]], [0], keep=1)
            self._n_prefix, self._prefix = n, self._cache.prefix(n)

    def _admit(self, rows: Sequence[Row]) -> None:
        """Read prompts, but for their last tokens, which the next step feeds like everyone's."""
        while rows:
            longest = len(rows[0].tokens) - 1 - self._n_prefix
            group, rows = rows[: max(1, _PASS // max(longest, 1))], rows[max(1, _PASS // max(longest, 1)) :]
            first = len(self._active)
            places = list(range(first, first + len(group)))
            if self._n_prefix:
                self._cache.start(slice(first, first + len(group)), self._prefix)
            parts = [row.tokens[self._n_prefix : -1] for row in group]
            if any(parts):
                self._forward(places, parts, [self._n_prefix] * len(group), keep=1)
            self._active += group
            self._lengths += [len(row.tokens) - 1 for row in group]

    def _step(self) -> None:
        """The next tokens of every row."""
        proposals = []
        most = max(0, _STEP // len(self._active) - 1)
        for row in self._active:
            left = row.most - len(row.answer.tokens)
            proposals.append(row.follower.propose(min(most, left - 1)))
        for places in _groups([len(p) + 1 for p in proposals], _FREE.get(self._device.type, _FREE_ELSEWHERE)):
            fed = [(self._active[i].last, *proposals[i]) for i in places]
            logits = self._forward(places, fed, [self._lengths[i] for i in places], keep=0)
            # Nan and inf win a maximum, so that the greatest logit stands for all without reading them again.
            greatest, chosen = logits.max(dim=-1)
            finite, tokens = greatest.isfinite().tolist(), chosen.tolist()
            for k, i in enumerate(places):
                if all(finite[k]) or len(finite[k]) == 1:
                    self._take(i, proposals[i], tokens[k], finite[k])
                else:
                    self._step_alone(i, proposals[i])

    def _step_alone(self, i: int, proposal: list[int]) -> None:
        """A row's next token without what a draft proposed or what filled it up: 0 times nan is nan, so that spoils it all."""
        self._cache.wipe(i, self._lengths[i])
        greatest, chosen = self._forward([i], [(self._active[i].last,)], [self._lengths[i]], keep=0).max(dim=-1)
        self._take(i, proposal, chosen[0].tolist(), greatest[0].isfinite().tolist())

    def _take(self, i: int, proposal: list[int], chosen: list[int], finite: list[bool]) -> None:
        row = self._active[i]
        n_most = min(len(proposal), len(chosen) - 1)
        n_held = next((j for j in range(n_most) if chosen[j] != proposal[j]), n_most)
        self.counts.drafted += len(proposal)
        self.counts.accepted += n_held
        self._lengths[i] += n_held + 1
        if not all(finite):  # perhaps only what a draft proposed, or what comes after a stop string
            row.is_tainted = True
            self._cache.wipe(i, self._lengths[i])
        row.answer.add(chosen[: n_held + 1], finite[: n_held + 1])
        row.follower.take(chosen[: n_held + 1], len(proposal))

    def _leave(self) -> None:
        """Rows that have ended give their place to the last ones."""
        i = 0
        while i < len(self._active):
            if not self._active[i].answer.has_ended:
                i += 1
                continue
            if self._active[i].is_tainted:
                self._cache.wipe(i)
            row, length = self._active.pop(), self._lengths.pop()
            last = len(self._active)
            if i < last:  # else it was the last itself
                self._cache.move(last, i, length)
                self._active[i], self._lengths[i] = row, length
                if row.is_tainted:
                    self._cache.wipe(last)

    def _forward(self, places: list[int], tokens: Sequence[Sequence[int]], starts: Sequence[int], *, keep: int) -> torch.Tensor:
        """Logits ``(n, keep, vocabulary)`` after the last tokens of some rows, or all with 0, each from its own position on.

        Rows with fewer tokens are filled up on the right: what that writes stands behind the row's end, where nothing sees it
        before it is written over.
        """
        width = max(map(len, tokens))
        filled = [[*row, *[0] * (width - len(row))] for row in tokens]
        ids = torch.tensor(filled, device=self._device)
        positions = torch.tensor(starts, device=self._device)[:, None] + torch.arange(width, device=self._device)
        mask = self._cache.at(places, positions)
        self.counts.passes += 1
        output = self.model(
            input_ids=ids,
            attention_mask=mask,
            position_ids=positions,
            past_key_values=self._cache,
            use_cache=True,
            logits_to_keep=keep,
        )
        logits = output.logits
        assert isinstance(logits, torch.Tensor)
        return logits


def _groups(widths: Sequence[int], n_free: int) -> list[list[int]]:
    """Which rows are fed together, so that rows with little to feed are not filled up to the width of those with much.

    Args:
        widths: Tokens of each row.
        n_free: Tokens that a pass of their own is worth.

    Returns:
        Groups of places, each in order; one where all rows are alike.
    """
    groups: list[list[int]] = []
    for width in sorted(set(widths)):
        same = [i for i, each in enumerate(widths) if each == width]
        if groups and sum(width - widths[i] for i in groups[-1]) <= n_free:
            groups[-1] = sorted([*groups[-1], *same])
        else:
            groups.append(same)
    return groups


def can_answer(model: PreTrainedModel, n_columns: int, accepts: Callable[[str], bool]) -> bool:
    """Whether a model's attention is one that ``Loop`` can serve: everything before, by position, through a plain cache."""
    config = model.config.get_text_config()
    kinds = set(getattr(config, "layer_types", None) or ["full_attention"])
    window = getattr(config, "sliding_window", None)
    sees_all = kinds == {"full_attention"} and (window is None or getattr(config, "use_sliding_window", True) is False)
    sees_enough = kinds <= {"full_attention", "sliding_attention"} and window is not None and window >= n_columns
    is_plain = config._attn_implementation in ("sdpa", "eager")
    takes_all = all(map(accepts, ("position_ids", "attention_mask", "past_key_values", "logits_to_keep")))
    return is_plain and takes_all and (sees_all or sees_enough)
