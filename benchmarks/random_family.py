"""Families of Llamas of random numbers, as large as a benchmark wants them: a base and sources near it, in shards."""

import json
import zlib
from functools import cache
from pathlib import Path

import torch
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from transformers import LlamaConfig, PreTrainedTokenizerFast

from evo_merge.models.checks.facts import expected_shapes
from evo_merge.models.shard import Shard, write_header, write_tensor

SHARD_BYTES = 1_000_000_000
STEP = 1 << 24  # numbers made at a time
SMOLLM2 = LlamaConfig(  # HuggingFaceTB/SmolLM2-135M: 134.5M parameters
    vocab_size=49152,
    hidden_size=576,
    intermediate_size=1536,
    num_hidden_layers=30,
    num_attention_heads=9,
    num_key_value_heads=3,
    tie_word_embeddings=True,
    bos_token_id=0,
    eos_token_id=1,
    architectures=["LlamaForCausalLM"],
)
TINYLLAMA = LlamaConfig(  # TinyLlama/TinyLlama-1.1B: 1100M parameters
    vocab_size=32000,
    hidden_size=2048,
    intermediate_size=5632,
    num_hidden_layers=22,
    num_attention_heads=32,
    num_key_value_heads=4,
    bos_token_id=0,
    eos_token_id=1,
    architectures=["LlamaForCausalLM"],
)


def write_family(folder: Path, config: LlamaConfig, n_sources: int, dtype: torch.dtype = torch.bfloat16) -> list[Path]:
    """Write ``base`` and ``s1``, ``s2``, …, where they are not there yet; returns their folders."""
    folders = [folder / "base", *(folder / f"s{i}" for i in range(1, n_sources + 1))]
    for number, each in enumerate(folders):
        if not (each / "config.json").is_file():
            _write_model(each, config, number, dtype)
    return folders


def _write_model(folder: Path, config: LlamaConfig, number: int, dtype: torch.dtype) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    n_tokens = config.vocab_size
    words = Tokenizer(WordLevel({f"w{i}": i for i in range(n_tokens)}, unk_token="w2"))
    PreTrainedTokenizerFast(tokenizer_object=words, bos_token="w0", eos_token="w1", unk_token="w2").save_pretrained(folder)
    shapes = expected_shapes(config)
    assert shapes is not None
    shards: list[dict[str, tuple[int, ...]]] = [{}]
    filled = 0
    for name, shape in shapes.items():
        size = dtype.itemsize * torch.Size(shape).numel()
        if shards[-1] and filled + size > SHARD_BYTES:
            shards.append({})
            filled = 0
        shards[-1][name] = tuple(shape)
        filled += size
    for place, shard in enumerate(shards, start=1):
        file = "model.safetensors" if len(shards) == 1 else f"model-{place:05d}-of-{len(shards):05d}.safetensors"
        written = Shard(file, shard, dict.fromkeys(shard, dtype), {"format": "pt"})
        with (folder / file).open("wb", buffering=0) as out:
            write_header(out, written)
            for name in written.names:
                write_tensor(out, written, name, _numbers(name, shard[name], number, dtype))
    if len(shards) > 1:
        _write_index(folder, shards)
    config.dtype = dtype
    config.save_pretrained(folder)


def _write_index(folder: Path, shards: list[dict[str, tuple[int, ...]]]) -> None:
    files = {
        name: f"model-{i:05d}-of-{len(shards):05d}.safetensors" for i, shard in enumerate(shards, start=1) for name in shard
    }
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": files}), encoding="utf-8")


def _numbers(name: str, shape: tuple[int, ...], number: int, dtype: torch.dtype) -> torch.Tensor:
    """The base's tensor, and near it that of the source of this number."""
    tensor = torch.empty(shape, dtype=dtype)
    flat = tensor.view(-1)
    for place, piece in enumerate(flat.split(STEP)):
        base = _drawn(f"{name} {place}", piece.numel())
        piece.copy_(base if number == 0 else base + 0.1 * _drawn(f"{name} {place} {number}", piece.numel()))
    return tensor


def _drawn(key: str, count: int) -> torch.Tensor:
    """Normal numbers, 0.02 wide: a stretch of those drawn once, from a place of its own; drawing all would take minutes."""
    start = zlib.crc32(key.encode()) % STEP
    return _normal()[start : start + count]


@cache
def _normal() -> torch.Tensor:
    return 0.02 * torch.randn(2 * STEP, generator=torch.Generator().manual_seed(0))
