"""Adapters on a base: the same weights as peft's ``merge_and_unload``, or one sentence that says why not."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, GPT2Config, GPT2LMHeadModel, Qwen2Config, Qwen2ForCausalLM

from evo_merge.errors import ModelError
from evo_merge.models.adapted_weights import AdaptedWeights
from evo_merge.models.reference import ModelFiles, locate
from evo_merge.models.safetensors_weights import SafetensorsWeights
from evo_merge.models.weights import Weights, open_weights
from evo_merge.recipe import ModelReference

Save = Callable[..., Path]


def adapted(adapter: Path, base: Path) -> Weights:
    return open_weights(locate(ModelReference(adapter=str(adapter), base=ModelReference(str(base)))))


def assert_as_peft_merges(adapter: Path, base: Path) -> None:
    weights = adapted(adapter, base)
    model = AutoModelForCausalLM.from_pretrained(base)
    expected = dict(PeftModel.from_pretrained(model, str(adapter)).merge_and_unload().named_parameters())
    stored = load_file(base / "model.safetensors")
    assert weights.shapes == {name: tuple(tensor.shape) for name, tensor in expected.items()}
    for name, tensor in expected.items():
        torch.testing.assert_close(weights.read(name), tensor.detach(), rtol=0, atol=2e-6)
    changed = {name for name in stored if not torch.equal(weights.read(name), stored[name])}
    assert changed == {name for name in stored if not torch.equal(expected[name], stored[name])} != set()


CASES: dict[str, dict[str, Any]] = {
    "plain": {},
    "rslora": {"use_rslora": True, "r": 8},
    "patterns": {"rank_pattern": {"layers.1.self_attn.q_proj": 5}, "alpha_pattern": {"down_proj": 2}},
    "all_linear": {"target_modules": "all-linear"},
    "embedding": {"target_modules": ["embed_tokens", "v_proj"]},
    "head": {"target_modules": ["lm_head", "v_proj"]},
    "some_layers": {"layers_to_transform": [1]},
    "start_gaussian": {"init_lora_weights": "gaussian"},
    "start_orthogonal": {"init_lora_weights": "orthogonal", "r": 4},
    "dora": {"use_dora": True},
    "dora_patterns": {"use_dora": True, "use_rslora": True, "rank_pattern": {"layers.1.self_attn.q_proj": 5}},
    "dora_embedding_and_head": {"use_dora": True, "target_modules": ["embed_tokens", "lm_head", "v_proj"]},
    "saved_head": {"modules_to_save": ["lm_head"]},
    "saved_embeddings_and_head": {"modules_to_save": ["lm_head", "embed_tokens"]},
    "saved_norms": {"modules_to_save": ["input_layernorm"]},
}


@pytest.mark.parametrize("changes", CASES.values(), ids=CASES)
def test_an_adapter_changes_what_peft_merges(tmp_path: Path, family: Path, save_adapter: Save, changes: dict[str, Any]) -> None:
    assert_as_peft_merges(save_adapter(tmp_path / "adapter", family / "base", **changes), family / "base")


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"lora_bias": True},
        {"bias": "all"},
        {"bias": "lora_only"},
        {"use_dora": True, "bias": "all"},
        {"use_dora": True},
        {"lora_bias": True, "bias": "all"},
    ],
    ids=["none", "lora_bias", "all", "lora_only", "dora_all", "dora", "both"],
)
def test_biases_are_changed_as_peft_does(tmp_path: Path, save_adapter: Save, changes: dict[str, Any]) -> None:
    torch.manual_seed(1)
    config = Qwen2Config(
        vocab_size=32, hidden_size=16, intermediate_size=24, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2
    )
    model = Qwen2ForCausalLM(config)
    for name, parameter in model.named_parameters():
        parameter.data += 0.1 * torch.randn_like(parameter) if name.endswith(".bias") else 0
    model.save_pretrained(tmp_path / "base")
    adapter = save_adapter(tmp_path / "adapter", tmp_path / "base", target_modules=["q_proj", "v_proj"], **changes)
    assert_as_peft_merges(adapter, tmp_path / "base")


@pytest.mark.parametrize("dora", [False, True])
def test_matrices_that_gpt2_stores_transposed_are_changed_as_peft_does(
    tmp_path: Path, save_adapter: Save, *, dora: bool
) -> None:
    torch.manual_seed(1)
    model = GPT2LMHeadModel(GPT2Config(vocab_size=32, n_embd=16, n_layer=2, n_head=4, n_positions=32))
    model.save_pretrained(tmp_path / "base")
    modules = ["c_attn", "c_fc"]
    changes = {"target_modules": modules, "fan_in_fan_out": True, "use_dora": dora}
    adapter = save_adapter(tmp_path / "adapter", tmp_path / "base", **changes)
    weights, merged = adapted(adapter, tmp_path / "base"), AutoModelForCausalLM.from_pretrained(tmp_path / "base")
    expected = dict(PeftModel.from_pretrained(merged, str(adapter)).merge_and_unload().named_parameters())
    for name in (f"transformer.h.1.{module}.weight" for module in ("attn.c_attn", "mlp.c_fc")):
        torch.testing.assert_close(weights.read(name), expected[name].detach(), rtol=0, atol=2e-6)


@pytest.mark.parametrize("dora", [False, True])
def test_tied_embeddings_are_changed_with_the_head_as_peft_merges(
    tmp_path: Path, save_pico: Save, save_adapter: Save, *, dora: bool
) -> None:
    base = save_pico(tmp_path / "base", 1, tie_word_embeddings=True)
    adapter = save_adapter(tmp_path / "adapter", base, target_modules=["embed_tokens", "q_proj"], use_dora=dora)
    assert_as_peft_merges(adapter, base)


def test_embeddings_and_head_that_were_saved_tied_are_one_tensor(tmp_path: Path, save_pico: Save, save_adapter: Save) -> None:
    base = save_pico(tmp_path / "base", 1, tie_word_embeddings=True)
    adapter = save_adapter(tmp_path / "adapter", base, modules_to_save=["embed_tokens"], ensure_weight_tying=True)
    assert_as_peft_merges(adapter, base)


def test_of_peft_only_the_matrices_are_kept(tmp_path: Path, family: Path, save_adapter: Save) -> None:
    weights = adapted(save_adapter(tmp_path / "adapter", family / "base"), family / "base")
    assert isinstance(weights, AdaptedWeights)
    held = [tensor for low in weights.adapter.low_rank.values() for tensor in (low.a, low.b)]
    file = load_file(tmp_path / "adapter" / "adapter_model.safetensors")
    assert sum(tensor.untyped_storage().nbytes() for tensor in held) == sum(tensor.nbytes for tensor in file.values())


def test_an_adapter_on_a_bfloat16_base_is_added_in_float32(
    tmp_path: Path, family: Path, save_pico: Save, save_adapter: Save
) -> None:
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


def test_adapters_on_one_base_open_it_once(tmp_path: Path, family: Path, save_adapter: Save) -> None:
    opened: dict[ModelFiles, object] = {}
    for name in ("one", "two"):
        adapter = save_adapter(tmp_path / name, family / "base")
        open_weights(ModelFiles(family / "base", adapter=adapter), opened)  # type: ignore[arg-type]
    assert [type(weights) for weights in opened.values()] == [SafetensorsWeights, AdaptedWeights, AdaptedWeights]


def assert_refused(base: Path, adapter: Path, said: str) -> None:
    with pytest.raises(ModelError, match=said) as caught:
        open_weights(locate(ModelReference(adapter=str(adapter), base=ModelReference(str(base))))).dtypes  # noqa: B018
    assert str(adapter) in str(caught.value)


def test_an_adapter_of_another_shape_is_refused(tmp_path: Path, family: Path, save_pico: Save, save_adapter: Save) -> None:
    adapter = save_adapter(tmp_path / "adapter", save_pico(tmp_path / "wide", 1, hidden_size=32))
    assert_refused(family / "base", adapter, "does not fit its base")


def test_an_adapter_for_other_modules_is_refused(tmp_path: Path, family: Path, save_adapter: Save) -> None:
    adapter = save_adapter(tmp_path / "adapter", family / "base")
    config = json.loads((adapter / "adapter_config.json").read_text())
    (adapter / "adapter_config.json").write_text(json.dumps(config | {"target_modules": ["c_attn"]}))
    assert_refused(family / "base", adapter, "does not fit its base")


def test_an_adapter_whose_weights_are_not_those_of_its_config_is_refused(
    tmp_path: Path, family: Path, save_adapter: Save
) -> None:
    """Peft only warns, and the adapter would be without effect."""
    adapter = save_adapter(tmp_path / "adapter", family / "base")
    path = adapter / "adapter_model.safetensors"
    save_file({name.replace("layers.1", "layers.9"): tensor for name, tensor in load_file(path).items()}, path)
    assert_refused(family / "base", adapter, "does not fit its base .*: Found missing adapter keys")


def test_a_truncated_adapter_is_refused(tmp_path: Path, family: Path, save_adapter: Save) -> None:
    adapter = save_adapter(tmp_path / "adapter", family / "base")
    path = adapter / "adapter_model.safetensors"
    path.write_bytes(path.read_bytes()[:-10])
    assert_refused(family / "base", adapter, "does not fit its base")


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"peft_type": "IA3"}, "is of type IA3; LoRA and DoRA adapters can be merged"),
        (
            {"init_lora_weights": "pissa_niter_4"},
            "was started with init_lora_weights=pissa_niter_4, which also changes its base",
        ),
        ({"init_lora_weights": "olora"}, "was started with init_lora_weights=olora, which also changes its base"),
        ({"layer_replication": [[0, 2], [1, 2]]}, "repeats layers of its base; merge it into its base with peft first"),
        ({"alora_invocation_tokens": [3]}, r"works on some tokens only \(aLoRA\)"),
        ({"target_parameters": ["mlp.experts.down_proj"]}, "changes parameters that are no layers' weights"),
        ({"trainable_token_indices": [1, 2]}, "also changes single tokens' embeddings"),
    ],
)
def test_adapters_that_cannot_be_merged_are_refused(
    tmp_path: Path, family: Path, save_adapter: Save, changes: dict[str, object], said: str
) -> None:
    adapter = save_adapter(tmp_path / "adapter", family / "base")
    config = json.loads((adapter / "adapter_config.json").read_text())
    (adapter / "adapter_config.json").write_text(json.dumps(config | changes))
    assert_refused(family / "base", adapter, said)


def test_biases_that_the_base_does_not_have_are_refused(tmp_path: Path, family: Path, save_adapter: Save) -> None:
    adapter = save_adapter(tmp_path / "adapter", family / "base", lora_bias=True)
    assert_refused(
        family / "base", adapter, r"changes 'model.layers.0.mlp.down_proj.bias', which its base does not have; train"
    )


@pytest.mark.parametrize("saved", [["embed_tokens"], ["lm_head"], ["lm_head", "embed_tokens"]])
def test_whole_embeddings_or_heads_of_a_tied_base_are_refused(
    tmp_path: Path, save_pico: Save, save_adapter: Save, saved: list[str]
) -> None:
    base = save_pico(tmp_path / "base", 1, tie_word_embeddings=True)
    adapter = save_adapter(tmp_path / "adapter", base, modules_to_save=saved)
    assert_refused(base, adapter, r"\(tied embeddings\); save the base with tie_word_embeddings=false and a head of its own")


def test_an_adapter_config_that_is_none_is_refused(tmp_path: Path, family: Path, save_adapter: Save) -> None:
    adapter = save_adapter(tmp_path / "adapter", family / "base")
    for text in ("{", "[]", '{"peft_type": "NOTHING"}', '{"peft_type": "IA3"}'):
        (adapter / "adapter_config.json").write_text(text)
        assert_refused(family / "base", adapter, "has a config that peft cannot read|is of type")


def test_an_adapter_on_the_head_of_a_tied_model_is_refused(tmp_path: Path, save_pico: Save, save_adapter: Save) -> None:
    base = save_pico(tmp_path / "base", 1, tie_word_embeddings=True)
    adapter = save_adapter(tmp_path / "adapter", save_pico(tmp_path / "untied", 1), target_modules=["lm_head", "q_proj"])
    assert_refused(base, adapter, "changes 'lm_head.weight', which its base does not store by itself")


def test_only_pickled_adapters_are_refused(tmp_path: Path, family: Path, save_adapter: Save) -> None:
    adapter = save_adapter(tmp_path / "adapter", family / "base")
    shutil.move(adapter / "adapter_model.safetensors", adapter / "adapter_model.bin")
    assert_refused(family / "base", adapter, r"has no adapter_model.safetensors; pickled weights \(.bin, .pt\) are refused")
