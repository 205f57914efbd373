"""Greedy decoding over any causal language model of ``transformers``: how prompts become answers, and how many at once.

The tokens are those of ``model.generate(do_sample=False)`` one prompt at a time, but for what the order of floating-point sums
does to logits that are all but equal. ``docs/generation.md`` says how it is done and what it gains.
"""

import inspect
import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from evo_merge.errors import ConfigError
from evo_merge.evaluation.answers import Answer, Ending, end_tokens
from evo_merge.evaluation.continuous import Counts, Loop, Row, can_answer
from evo_merge.evaluation.degenerate import Repetition, checked
from evo_merge.evaluation.drafts import Follower
from evo_merge.evaluation.generator import Completions
from evo_merge.evaluation.hf_likelihood import log_likelihoods
from evo_merge.evaluation.likelihood import LikelihoodBatch
from evo_merge.evaluation.padded import answer_padded
from evo_merge.evaluation.prompts import PromptBatch
from evo_merge.models.residency import free_bytes
from evo_merge.tasks.base import LogLikelihood

log = logging.getLogger(__name__)
_SHARE = 0.5  # of the free memory that caches may take; a pass needs some of the rest


class HuggingFaceGenerator:
    """Greedy decoding; a prompt takes the place of a row that is done.

    Attributes:
        batch_size: Rows at once at most.
        packs_prompts: A call is given all prompts there are.
        drafts: Whether answers of earlier candidates are wanted.
    """

    packs_prompts: bool = True

    def __init__(
        self,
        *,
        batch_size: int,
        token_budget: int | None = None,
        degenerate: Repetition | None = None,
        drafts: bool = False,
    ) -> None:
        """How to decode; a run from before there were the later options goes on without them.

        Args:
            batch_size: Rows at once: more are faster until the memory, or the computing power of the device, is full.
            token_budget: Tokens of prompts and answers that all rows together have room for; ``None`` is half of what is free.
            degenerate: When an answer that repeats itself is given up; ``None`` is never.
            drafts: Whether the answers of earlier candidates to the same problem are tried first.
        """
        for name, value in (("batch_size", batch_size), ("token_budget", token_budget)):
            if value is not None and value < 1:
                raise ConfigError(f"generator.{name} must be at least 1, got {value}")
        self.batch_size, self.drafts = batch_size, drafts
        self._token_budget, self._degenerate = token_budget, checked(degenerate)
        self._n_rows = batch_size  # fewer once the memory said no

    def generate(self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, batch: PromptBatch) -> Completions:
        """Complete every prompt of a batch.

        An answer ends with an end-of-sequence token of the model's generation config, with a stop string, when it is
        degenerate, or after ``max_new_tokens``. Stop strings are looked for every few tokens, but where an answer ends does
        not depend on when: it is cut back to the fewest tokens whose text holds a stop string.

        Raises:
            UnusableCandidateError: A logit that would decide a token is not finite.
            torch.OutOfMemoryError: Not even one row fits.
        """
        ends = end_tokens(model)
        ending = Ending(tokenizer, batch.decoding, frozenset(ends), self._degenerate)
        drafts = _as_tokens(tokenizer, batch.drafts, ends[:1]) if self.drafts else ()
        limit = batch.decoding.max_new_tokens
        rows = [
            Row(tuple(ids[mask.bool()].tolist()), Answer(ending), Follower(drafts[i] if drafts else ()), limit)
            for i, (ids, mask) in enumerate(zip(batch.input_ids.cpu(), batch.attention_mask.cpu(), strict=True))
        ]
        counts = Counts()
        self._answer(model, rows, limit, counts)
        tokens = tuple(tuple(row.answer.tokens) for row in rows)
        return Completions(
            batch.positions,
            tokens,
            tuple(map(ending.text, tokens)),
            n_degenerate=sum(row.answer.is_degenerate for row in rows),
            n_drafted=counts.drafted,
            n_accepted=counts.accepted,
        )

    def likelihoods(
        self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, batch: LikelihoodBatch
    ) -> tuple[LogLikelihood, ...]:
        """Score every continuation of a batch; see ``log_likelihoods``."""
        return log_likelihoods(model, batch)

    def _answer(self, model: PreTrainedModel, rows: Sequence[Row], limit: int, counts: Counts) -> None:
        """Answer all rows, in as many passes as the memory wants; an answer begun is gone on with."""
        n_columns = max(len(row.prompt) for row in rows) + limit
        accepted = frozenset(inspect.signature(model.forward).parameters)
        is_served = can_answer(model, n_columns, accepted.__contains__)
        n_rows = min(self._n_rows, max(1, self._budget(model) // n_columns), len(rows))
        while left := [row for row in rows if not row.answer.has_ended]:
            try:
                with _memory_errors():
                    if is_served:
                        Loop(model, min(n_rows, len(left)), n_columns, counts).run(left)
                    else:
                        _padded(model, left, n_rows)
            except torch.OutOfMemoryError:
                if n_rows == 1:
                    raise
                self._n_rows = n_rows = n_rows // 2
                log.warning("the answers of %d prompts at a time do not fit into memory: going on with %d", 2 * n_rows, n_rows)
                if torch.cuda.is_available():
                    torch.cuda.empty_cache()

    def _budget(self, model: PreTrainedModel) -> int:
        if self._token_budget is not None:
            return self._token_budget
        return int(_SHARE * free_bytes(model.device) / max(1, _token_bytes(model)))


def _padded(model: PreTrainedModel, rows: Sequence[Row], n_rows: int) -> None:
    """The longest prompts first, so that a batch too large for the memory is met at once."""
    order = sorted(rows, key=lambda row: -len(row.tokens))
    for first in range(0, len(order), n_rows):
        part = order[first : first + n_rows]
        answer_padded(model, [row.tokens for row in part], [row.answer for row in part])


def _token_bytes(model: PreTrainedModel) -> int:
    """Bytes of the key-value cache a token."""
    config = model.config.get_text_config()
    heads = getattr(config, "num_attention_heads", None) or 1
    head_dim = getattr(config, "head_dim", None) or getattr(config, "hidden_size", 0) // heads
    kv_heads = getattr(config, "num_key_value_heads", None) or heads
    return int(2 * (getattr(config, "num_hidden_layers", 0) or 0) * kv_heads * head_dim * model.dtype.itemsize)


@contextmanager
def _memory_errors() -> Iterator[None]:
    """Make of the CPU allocator's error, which has no class of its own, what a GPU raises."""
    try:
        yield
    except torch.OutOfMemoryError:
        raise
    except RuntimeError as error:
        if "DefaultCPUAllocator" not in str(error):
            raise
        raise torch.OutOfMemoryError(str(error)) from error


def _as_tokens(
    tokenizer: PreTrainedTokenizerBase, drafts: Sequence[Sequence[str]], end: Sequence[int]
) -> list[list[list[int]]]:
    """Drafts as token ids, each with the end of an answer; cut otherwise than the model did, they are accepted less often."""
    texts = list(dict.fromkeys(text for row in drafts for text in row))
    if not texts:
        return [[] for _ in drafts]
    ids = dict(zip(texts, tokenizer(texts, add_special_tokens=False)["input_ids"], strict=True))
    return [[[*ids[text], *end] for text in row] for row in drafts]
