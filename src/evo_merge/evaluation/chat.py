"""Messages through a tokenizer's chat template."""

from collections.abc import Sequence
from typing import Any

from transformers import PreTrainedTokenizerBase

from evo_merge.errors import ConfigError


def as_tokens(tokenizer: PreTrainedTokenizerBase, messages: Sequence[dict[str, str]]) -> list[int]:
    """Token ids of the messages and of what opens the model's turn; ``ConfigError`` where there is no chat template."""
    return list(_apply(tokenizer, messages, tokenize=True, return_dict=False))


def as_text(tokenizer: PreTrainedTokenizerBase, messages: Sequence[dict[str, str]]) -> str:
    """The same as text, special tokens written out."""
    return str(_apply(tokenizer, messages, tokenize=False))


def _apply(tokenizer: PreTrainedTokenizerBase, messages: Sequence[dict[str, str]], **options: bool) -> Any:
    if tokenizer.chat_template is None:
        raise ConfigError(
            f"the task's prompts are chat messages, but the tokenizer of '{tokenizer.name_or_path}' has no chat "
            "template; choose sources tuned for chat, or a task with plain prompts"
        )
    return tokenizer.apply_chat_template(messages, add_generation_prompt=True, **options)
