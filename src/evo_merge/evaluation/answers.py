"""The answer to one prompt, as it grows: where it ends, and what its text is."""

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from evo_merge.errors import UnusableCandidateError
from evo_merge.evaluation.degenerate import Repetition, RepetitionCounter
from evo_merge.tasks.base import Decoding

LOOK_EVERY = 8  # tokens between looks at the decoded text: a look costs about as much as a step of a tiny model


@dataclass(frozen=True)
class Ending:
    """What ends an answer, beside its limit.

    Attributes:
        decoding: The limit, and the stop strings.
        end_tokens: End-of-sequence tokens.
        degenerate: When an answer that repeats itself is given up; ``None`` is never.
    """

    tokenizer: PreTrainedTokenizerBase
    decoding: Decoding
    end_tokens: frozenset[int]
    degenerate: Repetition | None

    def text(self, tokens: Sequence[int]) -> str:
        """Decoded without special tokens, cut before the first stop string."""
        text = self._decode(tokens)
        return text[: min((start for stop in self.decoding.stop if (start := text.find(stop)) >= 0), default=len(text))]

    def first_stop(self, tokens: Sequence[int]) -> int | None:
        """The fewest tokens whose text holds a stop string."""
        if not self._stops(tokens):
            return None
        # A stop string once in the text stays there, so the shortest such beginning is found by halving.
        counts = range(1, len(tokens) + 1)
        return counts[bisect_left(counts, 1, key=lambda n: int(self._stops(tokens[:n])))]

    def _stops(self, tokens: Sequence[int]) -> bool:
        if not self.decoding.stop:
            return False
        text = self._decode(tokens)
        return any(stop in text for stop in self.decoding.stop)

    def _decode(self, tokens: Sequence[int]) -> str:
        text = self.tokenizer.decode(list(tokens), skip_special_tokens=True)
        assert isinstance(text, str)
        return text


class Answer:
    """The tokens of one answer so far.

    Attributes:
        tokens: Up to and with the one that ended it.
        has_ended: Whether no more are wanted.
        is_degenerate: Whether it was given up because it repeats itself.
    """

    def __init__(self, ending: Ending) -> None:
        self.tokens: list[int] = []
        self.has_ended = self.is_degenerate = False
        self._ending = ending
        self._counter = None if ending.degenerate is None else RepetitionCounter(ending.degenerate)
        self._n_looked = 0
        self._not_finite: int | None = None  # how many tokens there were with the first whose logit was not finite

    def add(self, tokens: Sequence[int], finite: Sequence[bool]) -> None:
        """Take the next tokens, each with whether the logit that decided it is finite; those after an end are dropped.

        Raises:
            UnusableCandidateError: The answer has ended, or is looked at, and a logit that decided a token of it is not finite.
        """
        limit, ends = self._ending.decoding.max_new_tokens, self._ending.end_tokens
        for token, is_finite in zip(tokens, finite, strict=True):
            self.tokens.append(token)
            if not is_finite and self._not_finite is None:
                self._not_finite = len(self.tokens)
            self.is_degenerate = self._counter is not None and self._counter.add(token)
            if token in ends or self.is_degenerate or len(self.tokens) == limit:
                self.has_ended = True
                break
        if self.has_ended or len(self.tokens) - self._n_looked >= LOOK_EVERY:
            self.look()

    def look(self) -> None:
        """End at the first stop string, wherever that was; what comes after it is nobody's answer and may be anything."""
        self._n_looked = len(self.tokens)
        n_tokens = self._ending.first_stop(self.tokens)
        if n_tokens is not None:
            self.has_ended = True
            self.is_degenerate = self.is_degenerate and n_tokens == len(self.tokens)
            del self.tokens[n_tokens:]
        if self._not_finite is not None and self._not_finite <= len(self.tokens):
            raise UnusableCandidateError(f"logits are not finite at new token {self._not_finite}")


def end_tokens(model: PreTrainedModel) -> list[int]:
    """The end-of-sequence tokens of a model's generation config."""
    config = model.generation_config
    ids = None if config is None else config.eos_token_id
    if ids is None:
        return []
    return [int(token) for token in ids] if isinstance(ids, list | tuple) else [int(ids)]
