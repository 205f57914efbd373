"""Batched greedy decoding with a key-value cache, over any causal language model of ``transformers``.

The tokens are those of ``model.generate(do_sample=False)`` for the same batch, and so is the time, in version 5 of
``transformers``. The loop is our own for what happens between two steps: stop strings are looked for without decoding
every row at every step, and logits that are not finite end a candidate.
"""

import inspect
from bisect import bisect_left
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor
from transformers import DynamicCache, PreTrainedModel, PreTrainedTokenizerBase

from evo_merge.errors import ConfigError, UnusableCandidateError
from evo_merge.evaluation.generator import Completions
from evo_merge.evaluation.hf_likelihood import log_likelihoods
from evo_merge.evaluation.likelihood import LikelihoodBatch
from evo_merge.evaluation.prompts import PromptBatch
from evo_merge.tasks.base import LogLikelihood

LOOK_EVERY = 8  # steps between looks at the decoded text: a look costs about as much as a step of a tiny model


class HuggingFaceGenerator:
    """Greedy decoding in batches."""

    def __init__(self, *, batch_size: int) -> None:
        """Rows of a batch: more are faster until the memory, or the computing power of the device, is full."""
        if batch_size < 1:
            raise ConfigError(f"generator.batch_size must be at least 1, got {batch_size}")
        self.batch_size = batch_size

    def generate(self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, batch: PromptBatch) -> Completions:
        """Complete every prompt of a batch.

        A row ends with an end-of-sequence token of the model's generation config, with a stop string, or after
        ``max_new_tokens``; the batch ends when all rows have. Stop strings are looked for every few steps, but where a
        row ends does not depend on when: it is cut back to the fewest tokens whose text holds a stop string.

        Raises:
            UnusableCandidateError: A logit that would decide a token is not finite.
        """
        decoding, end_tokens = batch.decoding, _end_tokens(model)
        answers = _Answers(tokenizer, len(batch.positions), frozenset(end_tokens), decoding.stop)
        limit = decoding.max_new_tokens
        tokens = batch.input_ids.new_zeros((len(batch.positions), limit))
        finite = torch.ones_like(tokens, dtype=torch.bool)
        ended = torch.zeros(len(batch.positions), dtype=torch.bool, device=tokens.device)
        ending = torch.tensor(end_tokens, device=tokens.device)
        with torch.inference_mode():
            steps = _Steps(model, batch, limit)
            chosen = batch.input_ids
            for step in range(limit):
                # Nan and inf win a maximum, so that the greatest logit stands for all without reading them again.
                greatest, chosen = steps(chosen).max(dim=-1)
                finite[:, step] = greatest.isfinite()
                tokens[:, step] = chosen
                ended |= torch.isin(chosen, ending)
                n_steps = step + 1
                if n_steps % LOOK_EVERY == 0 or n_steps == limit or bool(ended.all()):
                    answers.look(tokens[:, :n_steps].tolist(), finite[:, :n_steps].tolist())
                    if all(answers.ended):
                        break
                    ended = torch.tensor(answers.ended, device=tokens.device)
        return answers.completions(batch.positions)

    def likelihoods(
        self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, batch: LikelihoodBatch
    ) -> tuple[LogLikelihood, ...]:
        """Score every continuation of a batch; see ``log_likelihoods``."""
        return log_likelihoods(model, batch)


class _Steps:
    """The model's forward passes: the whole prompts, then one token a row."""

    def __init__(self, model: PreTrainedModel, batch: PromptBatch, limit: int) -> None:
        self._model = model
        self._mask = torch.nn.functional.pad(batch.attention_mask, (0, limit), value=1)  # (n, t + limit)
        self._is_padded = not bool(batch.attention_mask.all())
        self._positions = (batch.attention_mask.cumsum(dim=-1) - 1).clamp(min=0)  # (n, t), then (n, 1)
        self._n_seen = 0
        self._cache = DynamicCache(config=model.config)
        # The few models without one of these (ALiBi has no positions) do without.
        self._accepts = frozenset(inspect.signature(model.forward).parameters)

    def __call__(self, token_ids: Tensor) -> Tensor:
        """Logits ``(n, vocabulary)`` of the next token, after ``token_ids`` ``(n, t)``, later ``(n,)``."""
        if token_ids.ndim == 1:
            token_ids = token_ids[:, None]
            self._positions = self._positions[:, -1:] + 1
        self._n_seen += token_ids.shape[1]
        # Without a mask the model builds none either, which is a good part of a tiny model's step.
        mask = self._mask[:, : self._n_seen] if self._is_padded else None
        optional = {"position_ids": self._positions, "logits_to_keep": 1}
        output = self._model(
            input_ids=token_ids,
            attention_mask=mask,
            past_key_values=self._cache,
            use_cache=True,
            **{name: value for name, value in optional.items() if name in self._accepts},
        )
        logits = output.logits[:, -1]
        assert isinstance(logits, Tensor)
        return logits


class _Answers:
    """The rows' tokens so far, and where each row ends."""

    def __init__(
        self, tokenizer: PreTrainedTokenizerBase, n_rows: int, end_tokens: frozenset[int], stop: tuple[str, ...]
    ) -> None:
        self._tokenizer = tokenizer
        self._end_tokens = end_tokens
        self._stop = stop
        self._rows: list[list[int]] = [[] for _ in range(n_rows)]
        self.ended = [False] * n_rows

    def look(self, tokens: Sequence[list[int]], finite: Sequence[list[bool]]) -> None:
        """Take the tokens up to this step, and end the rows that hold an end-of-sequence token or a stop string."""
        for row, (ids, is_finite) in enumerate(zip(tokens, finite, strict=True)):
            if self.ended[row]:
                continue
            end = next((i + 1 for i, token in enumerate(ids) if token in self._end_tokens), None)
            kept = ids[:end]
            if self._stops(kept):
                # A stop string once in the text stays there, so the shortest such beginning is found by halving.
                n_tokens = range(1, len(kept) + 1)
                end = n_tokens[bisect_left(n_tokens, 1, key=lambda n: int(self._stops(kept[:n])))]
            self._rows[row] = ids[:end]
            self.ended[row] = end is not None
            # What comes after a row's end is nobody's answer, so it may be anything.
            if not all(is_finite[:end]):
                raise UnusableCandidateError(f"logits are not finite at new token {is_finite.index(False) + 1}")

    def completions(self, positions: tuple[int, ...]) -> Completions:
        """What the rows came to."""
        texts = tuple(self._before_stop(self._decode(row)) for row in self._rows)
        return Completions(positions, tuple(tuple(row) for row in self._rows), texts)

    def _decode(self, ids: list[int]) -> str:
        text = self._tokenizer.decode(ids, skip_special_tokens=True)
        assert isinstance(text, str)
        return text

    def _stops(self, ids: list[int]) -> bool:
        if not self._stop:
            return False
        text = self._decode(ids)
        return any(stop in text for stop in self._stop)

    def _before_stop(self, text: str) -> str:
        return text[: min(self._stop_starts(text), default=len(text))]

    def _stop_starts(self, text: str) -> Iterator[int]:
        return (start for stop in self._stop if (start := text.find(stop)) >= 0)


def _end_tokens(model: PreTrainedModel) -> list[int]:
    config = model.generation_config
    ids = None if config is None else config.eos_token_id
    if ids is None:
        return []
    return [int(token) for token in ids] if isinstance(ids, list | tuple) else [int(ids)]
