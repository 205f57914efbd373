"""Pico Llamas in folders: a base and models tuned from it, made from a seed; nothing is downloaded."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import WhitespaceSplit
from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from evo_merge.methods.base import method_from_recipe, options_of
from evo_merge.recipe import ModelReference, ParameterRule, ParameterSpaceRecipe, Source

N_WORDS = 28


def _tokenizer(*extra: str) -> PreTrainedTokenizerFast:
    words = ["<s>", "</s>", "<unk>", *(f"w{i}" for i in range(N_WORDS)), *extra]
    tokenizer = Tokenizer(WordLevel({word: i for i, word in enumerate(words)}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = WhitespaceSplit()
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>", unk_token="<unk>")


def _save_pico(
    folder: Path,
    seed: int,
    *,
    near: Path | None = None,
    dtype: torch.dtype = torch.float32,
    tokenizer: PreTrainedTokenizerFast | None = None,
    change: Mapping[str, torch.Tensor] | None = None,
    shard_size: str = "5GB",
    **config: Any,
) -> Path:
    settings: dict[str, Any] = {
        "vocab_size": 32,
        "hidden_size": 16,
        "intermediate_size": 24,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 64,
        "bos_token_id": 0,
        "eos_token_id": 1,
        "tie_word_embeddings": False,
    }
    model = LlamaForCausalLM(LlamaConfig(**settings | config))
    generator = torch.Generator().manual_seed(seed)
    start = {} if near is None else load_file(near / "model.safetensors")
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            step = torch.randn(parameter.shape, generator=generator) * (0.3 if near is None else 0.05)
            parameter.copy_(start[name].float() + step if near is not None else step)
            if change is not None and name in change:
                parameter.copy_(change[name])
    model.to(dtype).save_pretrained(folder, max_shard_size=shard_size)
    if tokenizer is not None:
        tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def make_tokenizer() -> Callable[..., PreTrainedTokenizerFast]:
    """A tokenizer of words, and of those named besides."""
    return _tokenizer


@pytest.fixture(scope="session")
def save_pico() -> Callable[..., Path]:
    """Writes a Llama of random weights, or of weights near another folder's, and returns its folder."""
    return _save_pico


def _save_adapter(folder: Path, base: Path, seed: int = 5, *, std: float = 0.2, **changes: Any) -> Path:
    torch.manual_seed(seed)
    settings: dict[str, Any] = {"r": 3, "lora_alpha": 7, "target_modules": ["q_proj", "down_proj"], "task_type": "CAUSAL_LM"}
    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    adapted = get_peft_model(model, LoraConfig(**settings | changes))
    with torch.no_grad():
        for name, parameter in adapted.named_parameters():
            if "magnitude" in name:
                parameter.mul_(1 + std * torch.rand_like(parameter))
            elif "lora_" in name or "modules_to_save" in name or name.endswith(".bias"):
                parameter.add_(torch.randn_like(parameter), alpha=std)
    adapted.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def save_adapter() -> Callable[..., Path]:
    """Writes a LoRA adapter on a base with peft, all its numbers moved from where they start, and returns its folder."""
    return _save_adapter


@pytest.fixture(scope="session")
def family(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with ``base`` and, near it, ``a``, ``b`` and ``c``, all with a tokenizer; not to be changed."""
    folder = tmp_path_factory.mktemp("family")
    base = _save_pico(folder / "base", 0, tokenizer=_tokenizer())
    for seed, name in enumerate("abc", start=1):
        _save_pico(folder / name, seed, near=base, tokenizer=_tokenizer())
    return folder


def _recipe(
    method: str,
    base: Path | None,
    sources: Mapping[str, Path],
    *rules: ParameterRule,
    options: Mapping[str, Any] | None = None,
    **changes: Any,
) -> ParameterSpaceRecipe:
    fields: dict[str, Any] = {
        "base": None if base is None else ModelReference(str(base)),
        "sources": tuple(Source(name, ModelReference(str(folder))) for name, folder in sources.items()),
        "method": method,
        "options": options_of(method_from_recipe(method, options or {})),
        "parameters": rules,
        "seed": 7,
        "dtype": "float32",
        "out_dtype": "float32",
    }
    return ParameterSpaceRecipe(**fields | changes)


@pytest.fixture(scope="session")
def make_recipe() -> Callable[..., ParameterSpaceRecipe]:
    """A recipe over folders, from a method's name, the base, the sources by name, and rules."""
    return _recipe


@pytest.fixture
def dare(family: Path) -> ParameterSpaceRecipe:
    """DARE-TIES of the family's three sources."""
    rule = ParameterRule(("*",), {"weight": (0.5, 0.7, 0.4), "density": (0.6, 0.5, 0.9)})
    return _recipe("dare_ties", family / "base", {name: family / name for name in "abc"}, rule)
