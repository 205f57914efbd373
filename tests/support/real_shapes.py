"""The usual architectures in small: a base and three models tuned from it, every weight random, norms and biases included."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import (
    AutoModelForCausalLM,
    CohereConfig,
    FalconConfig,
    Gemma2Config,
    Gemma3TextConfig,
    GPT2Config,
    GPTNeoXConfig,
    LlamaConfig,
    MistralConfig,
    MixtralConfig,
    Olmo2Config,
    Phi3Config,
    PhiConfig,
    Qwen2Config,
    Qwen2MoeConfig,
    Qwen3Config,
    Qwen3MoeConfig,
    StableLmConfig,
)

from good_families import new_tokenizer

N_LAYERS = 4
_SIZES: dict[str, Any] = {
    "vocab_size": 64,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": N_LAYERS,
    "num_attention_heads": 4,
    "max_position_embeddings": 64,
    "bos_token_id": 0,
    "eos_token_id": 1,
    "pad_token_id": None,
    "tie_word_embeddings": False,
}
_GROUPED = _SIZES | {"num_key_value_heads": 2}
_EXPERTS = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 16}
_WINDOWS = {"head_dim": 8, "sliding_window": 4, "tie_word_embeddings": True}  # every other layer sees a window only


@dataclass(frozen=True)
class Shape:
    """An architecture in small.

    Attributes:
        config: Makes its config.
        layers: What the names of its layers' tensors begin with, before the number.
        attention: A part of the names of its attention's tensors, as filters have them.
        mlp: The same of its MLP's or its experts'.
    """

    config: Callable[[], Any]
    layers: str = "model.layers."
    attention: str = "self_attn"
    mlp: str = "mlp"


SHAPES = {
    "llama": Shape(lambda: LlamaConfig(**_GROUPED)),
    "llama_tied": Shape(lambda: LlamaConfig(**_GROUPED | {"tie_word_embeddings": True})),
    "mistral": Shape(lambda: MistralConfig(**_GROUPED, sliding_window=4)),
    "qwen2": Shape(lambda: Qwen2Config(**_GROUPED)),  # biases of queries, keys and values
    "qwen3": Shape(lambda: Qwen3Config(**_GROUPED, head_dim=8)),  # norms of queries and keys
    "gemma2": Shape(lambda: Gemma2Config(**_GROUPED | _WINDOWS)),  # norms behind the blocks too
    "gemma3": Shape(lambda: Gemma3TextConfig(**_GROUPED | _WINDOWS, layer_types=["sliding_attention", "full_attention"] * 2)),
    "phi": Shape(lambda: PhiConfig(**_SIZES)),  # attention and MLP side by side
    "phi3": Shape(lambda: Phi3Config(**_GROUPED)),  # queries, keys and values in one matrix
    "mixtral": Shape(lambda: MixtralConfig(**_GROUPED, num_local_experts=4), mlp="block_sparse_moe"),
    "qwen2_moe": Shape(lambda: Qwen2MoeConfig(**_GROUPED, **_EXPERTS, shared_expert_intermediate_size=16)),
    "qwen3_moe": Shape(lambda: Qwen3MoeConfig(**_GROUPED, **_EXPERTS, head_dim=8)),
    "olmo2": Shape(lambda: Olmo2Config(**_GROUPED)),  # norms behind the blocks only
    "stablelm": Shape(lambda: StableLmConfig(**_GROUPED)),
    "cohere": Shape(lambda: CohereConfig(**_GROUPED | {"tie_word_embeddings": True})),  # one norm for both blocks
    "gpt_neox": Shape(lambda: GPTNeoXConfig(**_SIZES), "gpt_neox.layers.", "attention"),
    "gpt2": Shape(
        lambda: GPT2Config(
            vocab_size=64, n_embd=32, n_layer=N_LAYERS, n_head=4, n_positions=64, bos_token_id=0, eos_token_id=1
        ),
        "transformer.h.",
        "attn",
    ),
    "falcon": Shape(lambda: FalconConfig(**_SIZES | {"tie_word_embeddings": True}), "transformer.h.", "self_attention"),
}


def save_family(folder: Path, shape: Shape) -> Path:
    """Write ``base``, random, and ``a``, ``b`` and ``c``, which have a change in common and one of their own.

    So task vectors are at an angle of about 60 degrees, and the models themselves far enough apart that slerp is an arc.
    """
    model = AutoModelForCausalLM.from_config(shape.config()).eval()
    parameters = dict(model.named_parameters())
    start = {name: 0.1 * _noise(parameter, name, 0) for name, parameter in parameters.items()}
    for seed, source in enumerate(("base", "a", "b", "c")):
        with torch.no_grad():
            for name, parameter in parameters.items():
                near_one = 1.0 if parameter.dim() == 1 and "norm" in name else 0.0
                change = _noise(parameter, name, 9) + _noise(parameter, name, seed)
                parameter.copy_(near_one + start[name] + (0.03 * change if seed else 0.0))
        model.save_pretrained(folder / source)
        new_tokenizer().save_pretrained(folder / source)
    return folder


def _noise(parameter: torch.Tensor, name: str, seed: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(1000 * seed + sum(name.encode()))
    return torch.randn(parameter.shape, generator=generator)
