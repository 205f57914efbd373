"""A split's prompts, tokenized and batched by length: once a run, since all candidates share the tokenizer."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from evo_merge.errors import DataError
from evo_merge.evaluation.chat import as_tokens
from evo_merge.evaluation.likelihood import LikelihoodBatch, ScoredTokens, batches, only, tokenize
from evo_merge.tasks.base import Answering, Decoding, Example, Likelihoods, Prompt, Split, Task


@dataclass(frozen=True, slots=True)
class PromptBatch:
    """Prompts that are answered together, padded on the left to the longest of them.

    Attributes:
        positions: Where each row stands in the split's examples.
        input_ids: ``(n, t)`` ``int64``.
        attention_mask: ``(n, t)`` ``int64``, 0 on the padding.
        decoding: How all of them are answered.
        drafts: Per row what it may be answered, the likeliest first; empty where nobody knows.
    """

    positions: tuple[int, ...]
    input_ids: Tensor
    attention_mask: Tensor
    decoding: Decoding
    drafts: tuple[tuple[str, ...], ...] = ()

    def to(self, device: torch.device) -> "PromptBatch":
        """The same batch on another device; Lightning calls this."""
        return replace(self, input_ids=self.input_ids.to(device), attention_mask=self.attention_mask.to(device))


@dataclass(frozen=True, slots=True)
class RenderedSplit:
    """A split as the model reads it.

    It is iterable over its batches and so is a data loader to Lightning. A ``DataLoader`` around it would load nothing,
    since everything is in memory, and cost a warning about missing workers.

    Attributes:
        examples: In the split's own order, which ``PromptBatch.positions`` refers to.
        rows: Token ids of each example's prompt; none where continuations are compared.
        answerings: How each is answered; a batch has only one way.
        scored: The continuations that are compared, of the examples that are answered so.
        padding: The token that stands in the padding.
        batch_size: Rows of a batch; the last batch may have fewer.
        is_packed: Whether all prompts that are answered the same way are one batch, whatever ``batch_size`` says.
        drafts: Per example what it may be answered; empty where nobody knows.
        batches: The longest prompts first, so that a batch too large for the memory is met at once.
    """

    examples: tuple[Example, ...]
    rows: tuple[tuple[int, ...], ...]
    answerings: tuple[Answering, ...]
    scored: tuple[ScoredTokens, ...]
    padding: int
    batch_size: int
    is_packed: bool = False
    drafts: tuple[tuple[str, ...], ...] = ()
    batches: tuple[PromptBatch | LikelihoodBatch, ...] = field(init=False)

    def __post_init__(self) -> None:
        made: list[PromptBatch | LikelihoodBatch] = []
        for decoding in dict.fromkeys(each for each in self.answerings if isinstance(each, Decoding)):
            same = [i for i, each in enumerate(self.answerings) if each == decoding]
            order = sorted(same, key=lambda i: -len(self.rows[i]))  # stable: equal lengths stay in order
            size = len(order) if self.is_packed else self.batch_size
            parts = [_batch(order[i : i + size], self.rows, self.padding, decoding) for i in range(0, len(order), size)]
            made += [replace(each, drafts=tuple(self.drafts[i] for i in each.positions if self.drafts)) for each in parts]
        made += batches(self.scored, self.batch_size)
        object.__setattr__(self, "batches", tuple(made))

    def only(self, positions: Sequence[int] | None) -> "RenderedSplit":
        """Some of the examples, in that order; ``None`` is all."""
        if positions is None:
            return self
        examples, rows = tuple(self.examples[i] for i in positions), tuple(self.rows[i] for i in positions)
        answerings = tuple(self.answerings[i] for i in positions)
        scored = only(self.scored, positions)
        return replace(self, examples=examples, rows=rows, answerings=answerings, scored=scored, drafts=())

    def drafted(self, drafts: Sequence[Sequence[str]]) -> "RenderedSplit":
        """The same, with what each example may be answered."""
        return replace(self, drafts=tuple(map(tuple, drafts)))

    def __len__(self) -> int:
        return len(self.batches)

    def __iter__(self) -> Iterator[PromptBatch | LikelihoodBatch]:
        return iter(self.batches)


def render_split(
    task: Task,
    split: Split,
    tokenizer: PreTrainedTokenizerBase,
    window: int | None,
    batch_size: int,
    *,
    is_packed: bool = False,
) -> RenderedSplit:
    """Tokenize the prompts of a split, or the contexts and continuations that are compared.

    Args:
        task: Gives examples, prompts and how they are answered.
        split: Which examples.
        tokenizer: Shared by all candidates.
        window: Tokens that the model can attend to, prompt and completion together; ``None`` where there is no limit.
        batch_size: Rows of a batch; the last batch may have fewer.
        is_packed: Whether all prompts that are answered the same way are one batch, whatever ``batch_size`` says.

    Raises:
        DataError: The split is empty, a prompt is empty or leaves no room for ``max_new_tokens``, or continuations cannot be
            compared.
        ConfigError: The prompts are messages and the tokenizer has no chat template.
    """
    examples = tuple(task.examples(split))
    if not examples:
        raise DataError(f"task '{task.name}' has no examples in its '{split}' split")
    answerings = tuple(_limited(task.answering_of(example), tokenizer) for example in examples)
    generated = {i: each for i, each in enumerate(answerings) if isinstance(each, Decoding)}
    rows = {i: _token_ids(tokenizer, task.prompt(examples[i])) for i in generated}
    _check_lengths([examples[i] for i in generated], list(rows.values()), list(generated.values()), split, window)
    compared = [(i, examples[i], each) for i, each in enumerate(answerings) if isinstance(each, Likelihoods)]
    scored = tokenize(compared, split, tokenizer, window)
    # What stands in the padding is never attended to; 0 is a token of every vocabulary.
    padding = tokenizer.pad_token_id if isinstance(tokenizer.pad_token_id, int) else 0
    prompts = tuple(tuple(rows.get(i, ())) for i in range(len(examples)))
    return RenderedSplit(examples, prompts, answerings, scored, padding, batch_size, is_packed)


def _limited(answering: Answering, tokenizer: PreTrainedTokenizerBase) -> Answering:
    """The limit in tokens, where it was given in texts."""
    if isinstance(answering, Likelihoods) or not answering.as_long_as:
        return answering
    longest = max(len(tokenizer(text, add_special_tokens=False)["input_ids"]) for text in answering.as_long_as)
    return Decoding(max(longest + answering.max_new_tokens, 1), answering.stop)


def _token_ids(tokenizer: PreTrainedTokenizerBase, prompt: Prompt) -> list[int]:
    if isinstance(prompt, str):
        return list(tokenizer(prompt)["input_ids"])
    return as_tokens(tokenizer, prompt)


def _check_lengths(
    examples: Sequence[Example],
    rows: Sequence[list[int]],
    decodings: Sequence[Decoding],
    split: Split,
    window: int | None,
) -> None:
    if empty := [example.id for example, row in zip(examples, rows, strict=True) if not row]:
        raise DataError(f"{len(empty)} prompts of the '{split}' split have no tokens, the first is '{empty[0]}'")
    if window is None:
        return
    rooms = [window - decoding.max_new_tokens for decoding in decodings]
    if long := [i for i, row in enumerate(rows) if len(row) > rooms[i]]:
        first = long[0]
        raise DataError(
            f"{len(long)} of {len(rows)} prompts of the '{split}' split are too long: the model's window of {window} "
            f"tokens leaves {max(rooms[first], 0)} for a prompt beside {decodings[first].max_new_tokens} new ones, and "
            f"'{examples[first].id}' has {len(rows[first])}; drop these rows, or lower task.max_new_tokens"
        )


def _batch(positions: Sequence[int], rows: Sequence[Sequence[int]], padding: int, decoding: Decoding) -> PromptBatch:
    longest = max(len(rows[i]) for i in positions)
    input_ids = torch.full((len(positions), longest), padding, dtype=torch.int64)
    attention_mask = torch.zeros((len(positions), longest), dtype=torch.int64)
    for row, position in enumerate(positions):
        start = longest - len(rows[position])
        input_ids[row, start:] = torch.tensor(rows[position], dtype=torch.int64)
        attention_mask[row, start:] = 1
    return PromptBatch(tuple(positions), input_ids, attention_mask, decoding)
