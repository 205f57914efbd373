"""Contexts and continuations as tokens, batched: what is read where answers are compared, not generated.

Tokens are cut as in EleutherAI's lm-evaluation-harness (0.4.13, ``TemplateLM._encode_pair`` and ``HFLM.tok_encode``), so that
likelihoods are its likelihoods:

- Spaces that end a context are the continuation's. Context and continuation are encoded together, and the continuation's
  tokens are those beyond as many as the context has by itself.
- A text gets the special tokens that its tokenizer adds by itself (BOS for Llama, none for GPT-2 or SmolLM2), and none where it
  begins with BOS already. Messages get those of their chat template and no others, as for generation.
- Where a context has no text, BOS stands before the continuation, or EOS where a tokenizer has no BOS.
- A whole text is cut into disjoint windows, each after the token before it, the first after BOS; the last window begins as
  early as its tokens leave room. The harness counts a BOS that the tokenizer adds among the text's tokens, and so do we.

What does not fit the window is refused; the harness would cut the context.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import torch
from transformers import PreTrainedTokenizerBase

from evo_merge.errors import DataError
from evo_merge.evaluation.chat import as_text
from evo_merge.tasks.base import Example, Likelihoods, LogLikelihood, Prompt, Split

Tokens = tuple[int, ...]

# Of one batch, rows times places whose logits are kept. With a vocabulary of 150,000 in float32 these take 1.2 GB.
_LOGITS_AT_ONCE = 2048


@dataclass(frozen=True, slots=True)
class ScoredTokens:
    """A context and what is scored after it; a whole text longer than the window is several of these.

    Attributes:
        position: Where the example stands in the split's examples.
        pair: Which of its ``Likelihoods.pairs``.
        context: At least one token.
        continuation: At least one token.
    """

    position: int
    pair: int
    context: Tokens
    continuation: Tokens

    @property
    def read(self) -> Tokens:
        """What the model reads: all but the last token, after which nothing is asked."""
        return self.context + self.continuation[:-1]


@dataclass(frozen=True, slots=True)
class LikelihoodBatch:
    """Continuations that are scored together.

    Attributes:
        scored: Those that share a context and all tokens but their last stand next to each other, and need one forward pass.
    """

    scored: tuple[ScoredTokens, ...]

    def to(self, device: torch.device) -> "LikelihoodBatch":
        """Itself, since its tokens become a tensor where they are read; Lightning calls this."""
        return self

    @property
    def texts(self) -> dict[Tokens, list[int]]:
        """What the model reads, each once, and which of ``scored`` it answers."""
        texts: dict[Tokens, list[int]] = {}
        for i, each in enumerate(self.scored):
            texts.setdefault(each.read, []).append(i)
        return texts


@dataclass(frozen=True, slots=True)
class ScoredBatch:
    """A batch's result: one ``LogLikelihood`` for each of its ``scored``."""

    scored: tuple[ScoredTokens, ...]
    found: tuple[LogLikelihood, ...]

    def to(self, device: torch.device) -> "ScoredBatch":
        """Itself, since nothing of it is on a device; without this method Lightning refuses a frozen dataclass."""
        return self


def tokenize(
    examples: Sequence[tuple[int, Example, Likelihoods]],
    split: Split,
    tokenizer: PreTrainedTokenizerBase,
    window: int | None,
) -> tuple[ScoredTokens, ...]:
    """The tokens of everything that examples have compared.

    Args:
        examples: Each with its position in the split.
        split: Named in messages.
        tokenizer: Shared by all candidates.
        window: Tokens that the model can attend to; ``None`` where there is no limit.

    Raises:
        DataError: There is nothing to compare, a continuation without tokens, or one that does not fit with its context.
        ConfigError: A context is messages and the tokenizer has no chat template.
    """
    found: list[ScoredTokens] = []
    for position, example, asked in examples:
        if not asked.pairs or len(asked.labels) not in (0, len(asked.pairs)):
            raise DataError(
                f"'{example.id}' of the '{split}' split must have at least one continuation and as many labels or none, "
                f"got {len(asked.pairs)} and {len(asked.labels)}"
            )
        for pair, (context, continuation) in enumerate(asked.pairs):
            if context is None:
                cut = list(_windows(tokenizer, continuation, window))
            else:
                cut = [_pair(tokenizer, context, continuation)]
            if not cut or not all(after for _, after in cut):
                raise DataError(
                    f"continuation {pair + 1} of '{example.id}' ('{split}' split) has no tokens of its own: {continuation!r}"
                )
            found += [ScoredTokens(position, pair, before, after) for before, after in cut]
    _check_lengths(found, {position: example for position, example, _ in examples}, split, window)
    return tuple(found)


def batches(scored: Sequence[ScoredTokens], batch_size: int) -> list[LikelihoodBatch]:
    """The longest first, so that a batch too large for the memory is met at once.

    Args:
        scored: In any order.
        batch_size: Rows of a batch; continuations that differ only in their last token share one.
    """
    by_read: dict[Tokens, list[ScoredTokens]] = {}
    for each in sorted(scored, key=lambda each: -len(each.read)):  # stable: pairs stay in order
        by_read.setdefault(each.read, []).append(each)
    made: list[list[ScoredTokens]] = []
    n_rows = longest = first_place = 0
    for read, alike in by_read.items():
        start = min(len(each.context) for each in alike)
        kept = (n_rows + 1) * (longest - min(first_place, start) + 1)
        if not made or n_rows == batch_size or kept > _LOGITS_AT_ONCE:
            made.append([])
            n_rows, longest, first_place = 0, len(read), start
        made[-1] += alike
        n_rows, first_place = n_rows + 1, min(first_place, start)
    return [LikelihoodBatch(tuple(batch)) for batch in made]


def only(scored: Sequence[ScoredTokens], positions: Sequence[int]) -> tuple[ScoredTokens, ...]:
    """Those of some examples, which then stand at 0, 1 and so on."""
    new = {position: i for i, position in enumerate(positions)}
    return tuple(replace(each, position=new[each.position]) for each in scored if each.position in new)


def gather(results: Sequence[ScoredBatch]) -> dict[int, tuple[LogLikelihood, ...]]:
    """The answers by the position of their example, one a pair; the windows of a whole text are summed."""
    by_pair: dict[tuple[int, int], list[LogLikelihood]] = {}
    for result in results:
        for each, found in zip(result.scored, result.found, strict=True):
            by_pair.setdefault((each.position, each.pair), []).append(found)
    answers: dict[int, list[LogLikelihood]] = {}
    for (position, _), windows in sorted(by_pair.items()):
        summed = LogLikelihood(
            sum(each.total for each in windows), all(each.is_greedy for each in windows), sum(each.n_tokens for each in windows)
        )
        answers.setdefault(position, []).append(summed)
    return {position: tuple(found) for position, found in answers.items()}


def _pair(tokenizer: PreTrainedTokenizerBase, context: Prompt, continuation: str) -> tuple[Tokens, Tokens]:
    specials = isinstance(context, str)
    text = context if isinstance(context, str) else as_text(tokenizer, context)
    kept = text.rstrip()
    whole = _encode(tokenizer, text + continuation, specials=specials)
    before = _encode(tokenizer, kept, specials=specials) if kept else ()
    if before:
        return before, whole[len(before) :]
    alone, first = _encode(tokenizer, text + continuation, specials=False), _first_token(tokenizer)
    # A continuation that brings the token itself has it as its context.
    return ((first,), alone[1:]) if alone[:1] == (first,) else ((first,), alone)


def _windows(tokenizer: PreTrainedTokenizerBase, text: str, window: int | None) -> Iterator[tuple[Tokens, Tokens]]:
    tokens = _encode(tokenizer, text, specials=True)
    size = window or len(tokens)
    padded = (_first_token(tokenizer), *tokens)  # token i of the text is padded[i + 1]
    for start in range(0, len(tokens), size):
        end = min(start + size, len(tokens))
        # The window's first token was the one before; a window that is not full reaches back as far as the model can see.
        begin = max(end - size, 0)
        yield padded[begin : start + 1], padded[start + 1 : end + 1]


def _encode(tokenizer: PreTrainedTokenizerBase, text: str, *, specials: bool) -> Tokens:
    if specials and (first := _first_token_id(tokenizer)) is not None:
        specials = not text.startswith(tokenizer.decode([first]))
    return tuple(tokenizer.encode(text, add_special_tokens=specials))


def _first_token(tokenizer: PreTrainedTokenizerBase) -> int:
    token = _first_token_id(tokenizer)
    if token is None:
        raise DataError(f"the tokenizer of '{tokenizer.name_or_path}' has neither BOS nor EOS to stand before a continuation")
    return token


def _first_token_id(tokenizer: PreTrainedTokenizerBase) -> int | None:
    token = tokenizer.eos_token_id if tokenizer.bos_token_id is None else tokenizer.bos_token_id
    return None if token is None else int(token)


def _check_lengths(scored: Sequence[ScoredTokens], examples: dict[int, Example], split: Split, window: int | None) -> None:
    if window is None:
        return
    if long := [each for each in scored if len(each.read) > window]:
        first, n = long[0], len({each.position for each in long})
        raise DataError(
            f"{n} of {len(examples)} examples of the '{split}' split are too long: the model's window is {window} tokens, and "
            f"'{examples[first.position].id}' has {len(first.context)} before a continuation of {len(first.continuation)}; "
            "drop these rows, or shorten the prompt"
        )
