"""Families that nothing speaks against: a base and two models tuned from it, of the usual architectures, very small.

``python tests/support/good_families.py FOLDER`` writes them all.
"""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import WhitespaceSplit
from transformers import (
    AutoModelForCausalLM,
    Gemma2Config,
    Gemma3TextConfig,
    GPTNeoXConfig,
    LlamaConfig,
    MistralConfig,
    MixtralConfig,
    Phi3Config,
    PreTrainedTokenizerFast,
    Qwen2Config,
    Qwen2MoeConfig,
    Qwen3Config,
)
from transformers.utils import logging

N_TOKENS = 64
_SIZES: dict[str, Any] = {
    "vocab_size": N_TOKENS,
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "max_position_embeddings": 64,
    "bos_token_id": 0,
    "eos_token_id": 1,
    "pad_token_id": None,
}
_GROUPED = _SIZES | {"num_key_value_heads": 2}
_SMALL_EXPERTS = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 8, "shared_expert_intermediate_size": 8}

CONFIGS: dict[str, Callable[[], Any]] = {
    "llama": lambda: LlamaConfig(**_GROUPED),
    "mistral": lambda: MistralConfig(**_GROUPED, sliding_window=32),
    "qwen2": lambda: Qwen2Config(**_GROUPED),  # biases of queries, keys and values
    "qwen3": lambda: Qwen3Config(**_GROUPED, head_dim=4),  # norms of queries and keys
    "gemma2": lambda: Gemma2Config(**_GROUPED, head_dim=4),  # norms behind the blocks too
    "gemma3": lambda: Gemma3TextConfig(**_GROUPED, head_dim=4),
    "phi3": lambda: Phi3Config(**_GROUPED),  # queries, keys and values in one matrix
    "mixtral": lambda: MixtralConfig(**_GROUPED, num_local_experts=2),
    "qwen2_moe": lambda: Qwen2MoeConfig(**_GROUPED, **_SMALL_EXPERTS),
    "gpt_neox": lambda: GPTNeoXConfig(**_SIZES),
    "smollm": lambda: LlamaConfig(**_GROUPED, tie_word_embeddings=True),
}


def new_tokenizer(*extra: str, n_tokens: int = N_TOKENS, moved: bool = False) -> PreTrainedTokenizerFast:
    """Words, and those named besides; ``moved`` exchanges two of them."""
    # The last of the four is one that transformers would add to the tokenizer of a Qwen2.
    words = ["<s>", "</s>", "<unk>", "<|endoftext|>", *(f"w{i}" for i in range(n_tokens - 4)), *extra]
    if moved:
        words[5], words[6] = words[6], words[5]
    tokenizer = Tokenizer(WordLevel({word: i for i, word in enumerate(words)}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = WhitespaceSplit()
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>", unk_token="<unk>")


def save(folder: Path, config: Any, seed: int, near: int | None = None, distance: float = 0.002, **options: Any) -> Path:
    """Write a model of a config, or one at a small distance from the model of the seed ``near``, with tokenizer and card."""
    torch.manual_seed(seed if near is None else near)
    model = AutoModelForCausalLM.from_config(config)
    if near is not None:
        generator = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            for parameter in model.parameters():
                parameter += distance * torch.randn(parameter.shape, generator=generator)
    model.save_pretrained(folder, **options)
    new_tokenizer().save_pretrained(folder)
    (folder / "README.md").write_text("---\nlicense: apache-2.0\n---\n")
    return folder


def make(folder: Path, name: str) -> Path:
    """Write the folders ``base``, ``a`` and ``b`` of a family."""
    config = CONFIGS[name]()
    save(folder / "base", config, 1)
    for seed, source in enumerate("ab", start=2):
        save(folder / source, config, seed, near=1)
    return folder


if __name__ == "__main__":
    logging.disable_progress_bar()
    for family in CONFIGS:
        make(Path(sys.argv[1]) / family, family)
