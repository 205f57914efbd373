"""The texts that statistics are gathered on: a file of anyone's, or a task's problems with a source's own answers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from evo_merge.errors import DataError
from evo_merge.evaluation.chat import as_tokens
from evo_merge.tasks.examples import json_lines

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_SHAPES = "'text', 'prompt' and 'completion', or 'messages'"


def rows_of_file(path: str, tokenizer: PreTrainedTokenizerBase, limit: int | None, max_tokens: int) -> list[list[int]]:
    """Token ids of the texts of a JSON Lines file.

    Args:
        path: Each line has ``text``; or ``prompt`` and ``completion``, which are joined as they stand; or ``messages``, for the
            tokenizer's chat template.
        tokenizer: Of the model that will read them, with its own BOS.
        limit: How many texts at most, from the beginning; ``None`` is all.
        max_tokens: What is beyond is cut off each text.

    Raises:
        DataError: The file cannot be read, or holds no text.
        ConfigError: There are messages, and no chat template.
    """
    rows: list[list[int]] = []
    for place, row in json_lines(path, "data"):
        if limit is not None and len(rows) == limit:
            break
        rows.append(_row(row, place, tokenizer)[:max_tokens])
    if not any(rows):
        raise DataError(f"data: '{path}' holds no text; give a JSON object with {_SHAPES} on each line")
    return rows


def joined(prompts: Sequence[Sequence[int]], completions: Sequence[str], tokenizer: Any, max_tokens: int) -> list[list[int]]:
    """Token ids of prompts with what a model answered to them."""
    answers = [list(tokenizer(text, add_special_tokens=False)["input_ids"]) for text in completions]
    return [[*prompt, *answer][:max_tokens] for prompt, answer in zip(prompts, answers, strict=True)]


def _row(row: Mapping[str, object], place: str, tokenizer: PreTrainedTokenizerBase) -> list[int]:
    messages = row.get("messages")
    if isinstance(messages, list) and messages and all(isinstance(each, dict) for each in messages):
        return as_tokens(tokenizer, messages)
    text = row.get("text", None if row.keys().isdisjoint(("prompt", "completion")) else _joined(row))
    if not isinstance(text, str):
        raise DataError(f"{place}: a line must have {_SHAPES}, got {', '.join(row) or 'nothing'}")
    return list(tokenizer(text)["input_ids"])


def _joined(row: Mapping[str, object]) -> str | None:
    prompt, completion = row.get("prompt", ""), row.get("completion", "")
    return prompt + completion if isinstance(prompt, str) and isinstance(completion, str) else None
