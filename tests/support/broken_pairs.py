"""A catalogue of broken and odd pools: what is done to a good family of very small models, and what the check must say.

``python tests/support/broken_pairs.py FOLDER`` writes them all.
"""

import json
import shutil
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    BertConfig,
    BertModel,
    LlamaForSequenceClassification,
    T5Config,
    T5ForConditionalGeneration,
)

import good_families
from good_families import new_tokenizer, save

Words = Sequence[str]


@dataclass(frozen=True)
class Broken:
    """One entry.

    Attributes:
        name: Of the entry.
        finding: Name of the finding that must come.
        part: What its sentence must hold.
        make: Breaks the family in a folder (``base``, ``a``, ``b``); returns the words of the command.
        family: Which family.
    """

    name: str
    finding: str
    part: str
    make: Callable[[Path], Words]
    family: str = "llama"


CATALOGUE: list[Broken] = []


def _entry(
    finding: str, part: str, family: str = "llama"
) -> Callable[[Callable[[Path], Words | None]], Callable[[Path], Words]]:
    """Add what a function does to the catalogue, under the function's name; by default the sources are ``a`` and ``b``."""

    def add(breaks: Callable[[Path], Words | None]) -> Callable[[Path], Words]:
        def make(folder: Path) -> Words:
            return breaks(folder) or pool(folder)

        CATALOGUE.append(Broken(breaks.__name__.strip("_"), finding, part, make, family))
        return make

    return add


def pool(folder: Path, *sources: object, base: str | None = "base") -> Words:
    """The words that name a pool of folders."""
    listed = ",".join(str(folder / source) if isinstance(source, str) else _inline(source) for source in sources or ("a", "b"))
    return ("models=custom", f"models.base={'null' if base is None else folder / base}", f"models.sources=[{listed}]")


def _inline(source: object) -> str:
    assert isinstance(source, dict)
    return "{" + ",".join(f"{key}:{value}" for key, value in source.items()) + "}"


def config(folder: Path, **changes: Any) -> None:
    """Change a model's config; ``None`` takes a setting away."""
    written = json.loads((folder / "config.json").read_text()) | changes
    (folder / "config.json").write_text(json.dumps({key: value for key, value in written.items() if value is not None}))


def tensors(folder: Path, change: Callable[[dict[str, torch.Tensor]], object], file: str = "model.safetensors") -> None:
    """Change a model's tensors."""
    held = load_file(folder / file)
    change(held)
    save_file(held, folder / file, metadata={"format": "pt"})


def other(folder: Path, name: str, family: str = "llama", seed: int = 2, near: int | None = None, **changes: Any) -> None:
    """Replace a model of the family by one of another config, with weights of its own or near the base's."""
    settings = good_families.CONFIGS[family]()
    for key, value in changes.items():
        setattr(settings, key, value)
    shutil.rmtree(folder / name)
    save(folder / name, settings, seed, near)


def adapter(folder: Path, base: str = "base", *, trained: bool = True, **settings: Any) -> Words:
    """Put a LoRA adapter ``lora`` on the base, and return the words of a pool with it."""
    options = {"r": 2, "lora_alpha": 4, "target_modules": ["q_proj", "v_proj"], "task_type": "CAUSAL_LM"} | settings
    torch.manual_seed(5)
    model = get_peft_model(AutoModelForCausalLM.from_pretrained(folder / base), LoraConfig(**options))
    with torch.no_grad():
        for key, parameter in model.named_parameters():
            if ("lora_B" in key or "lora_embedding_A" in key) and trained:  # what starts from zeros
                parameter.normal_(std=0.01)
    model.save_pretrained(folder / "lora")
    (folder / "lora" / "README.md").write_text("---\nlicense: apache-2.0\n---\n")
    return with_adapter(folder)


def with_adapter(folder: Path) -> Words:
    """The words of a pool with the adapter ``lora``."""
    return pool(folder, "a", {"name": "lora", "adapter": folder / "lora", "base": folder / "base"})


def lora_config(folder: Path, **changes: Any) -> None:
    """Change the adapter's config."""
    path = folder / "lora" / "adapter_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def shards(folder: Path) -> None:
    """Write the source ``a`` again, in shards with an index."""
    model = AutoModelForCausalLM.from_pretrained(folder / "a")
    (folder / "a" / "model.safetensors").unlink()
    model.save_pretrained(folder / "a", max_shard_size="5KB")


def index(folder: Path) -> dict[str, Any]:
    """The index of the shards of ``a``."""
    written: dict[str, Any] = json.loads((folder / "a" / "model.safetensors.index.json").read_text())
    return written


# --- files ----------------------------------------------------------------------------------------------------------------


@_entry("not_found", "there is no model folder")
def _no_such_folder(folder: Path) -> Words:
    return pool(folder, "a", "nowhere")


@_entry("no_weights", "the folder is empty")
def _empty_folder(folder: Path) -> Words:
    (folder / "empty").mkdir()
    return pool(folder, "a", "empty")


@_entry("no_weights", "it holds a tokenizer and nothing else")
def _tokenizer_only(folder: Path) -> Words:
    new_tokenizer().save_pretrained(folder / "words")
    return pool(folder, "a", "words")


@_entry("no_weights", "it holds a config without weights")
def _config_without_weights(folder: Path) -> None:
    (folder / "b" / "model.safetensors").unlink()


@_entry("no_config", "has no config.json, so it is no model folder")
def _weights_without_config(folder: Path) -> None:
    (folder / "b" / "config.json").unlink()


@_entry("unreadable_config", "has a config that transformers cannot read")
def _config_cut_short(folder: Path) -> None:
    (folder / "b" / "config.json").write_text("{")


@_entry("unreadable_config", "has a config that transformers cannot read")
def _unknown_architecture(folder: Path) -> None:
    config(folder / "b", model_type="no_such_model")


@_entry("unreadable_config", "has a config that transformers cannot read")
def _setting_of_another_type(folder: Path) -> None:
    config(folder / "b", num_hidden_layers="two")


@_entry("unreadable_config", "has a config that transformers cannot read")
def _no_heads(folder: Path) -> None:
    path = folder / "b" / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"num_attention_heads": 0, "head_dim": None}))


@_entry("unreadable_config", "asks for a model that cannot be")
def _pad_token_without_a_row(folder: Path) -> None:
    config(folder / "b", pad_token_id=64)


@_entry("pickles_only", "has only pickled weights")
def _pickles(folder: Path) -> None:
    torch.save(load_file(folder / "b" / "model.safetensors"), folder / "b" / "pytorch_model.bin")
    (folder / "b" / "model.safetensors").unlink()


@_entry("missing_shard", "lacks the shard 'model-00002-of-")
def _missing_shard(folder: Path) -> None:
    shards(folder)
    next((folder / "a").glob("model-00002-of-*")).unlink()


@_entry("broken_index", "is not a safetensors index")
def _index_of_another_kind(folder: Path) -> None:
    shards(folder)
    (folder / "a" / "model.safetensors.index.json").write_text("[]")


@_entry("index_mismatch", "names 'model.layers.7.mlp.up_proj.weight', which no shard holds")
def _index_of_another_model(folder: Path) -> None:
    shards(folder)
    written = index(folder)
    written["weight_map"]["model.layers.7.mlp.up_proj.weight"] = written["weight_map"]["model.norm.weight"]
    (folder / "a" / "model.safetensors.index.json").write_text(json.dumps(written))


@_entry("truncated", "is truncated or corrupted")
def _download_cut_short(folder: Path) -> None:
    path = folder / "b" / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])


@_entry("truncated", "is truncated or corrupted")
def _header_overwritten(folder: Path) -> None:
    path = folder / "b" / "model.safetensors"
    path.write_bytes(b"\xff" * 64 + path.read_bytes()[64:])


@_entry("lfs_pointer", "is a Git LFS pointer and not the weights; run 'git lfs pull'")
def _lfs_pointer(folder: Path) -> None:
    pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:" + "0" * 64 + "\nsize 1000\n"
    (folder / "b" / "model.safetensors").write_text(pointer)


@_entry("adapter_as_model", "is an adapter and no whole model; write {adapter:")
def _adapter_named_as_a_model(folder: Path) -> Words:
    adapter(folder)
    return pool(folder, "a", "lora")


@_entry("quantised", "is quantised (gptq)")
def _gptq(folder: Path) -> None:
    config(folder / "b", quantization_config={"quant_method": "gptq", "bits": 4, "group_size": 128})

    def pack(held: dict[str, torch.Tensor]) -> None:
        for name in [name for name in held if "_proj" in name]:
            held[name.replace(".weight", ".qweight")] = torch.zeros(2, held.pop(name).shape[0], dtype=torch.int32)

    tensors(folder / "b", pack)


@_entry("quantised", "is quantised (awq)")
def _awq(folder: Path) -> None:
    config(folder / "b", quantization_config={"quant_method": "awq", "bits": 4, "group_size": 128})


@_entry("quantised", "is quantised (bitsandbytes)")
def _bitsandbytes(folder: Path) -> None:
    config(folder / "b", quantization_config={"quant_method": "bitsandbytes", "load_in_4bit": True})


@_entry("quantised", "as F8_E4M3, which cannot be merged")
def _fp8(folder: Path) -> None:
    tensors(folder / "b", lambda held: held.update({n: t.to(torch.float8_e4m3fn) for n, t in held.items() if "_proj" in n}))


@_entry("unreadable_tokenizer", "has a tokenizer that transformers cannot read")
def _tokenizer_cut_short(folder: Path) -> None:
    path = folder / "b" / "tokenizer.json"
    path.write_text(path.read_text()[:200])


@_entry("unreadable_tokenizer", "has a tokenizer that transformers cannot read: data did not match any variant")
def _tokenizer_of_another_version(folder: Path) -> None:
    path = folder / "b" / "tokenizer.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"pre_tokenizer": {"type": "OfTomorrow"}}))


@_entry("no_tokenizer", "has no tokenizer")
def _no_tokenizer(folder: Path) -> None:
    for path in (folder / "b").glob("tokenizer*"):
        path.unlink()


@_entry("not_a_language_model", "is a LlamaForSequenceClassification, which is no causal language model")
def _reward_model(folder: Path) -> None:
    LlamaForSequenceClassification(good_families.CONFIGS["llama"]()).save_pretrained(folder / "b")


@_entry("not_a_language_model", "is a BertModel, which is no causal language model")
def _encoder(folder: Path) -> None:
    sizes = {"vocab_size": 64, "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 24}
    BertModel(BertConfig(**sizes)).save_pretrained(folder / "b")


@_entry("not_a_language_model", "is of type 't5', which is no causal language model")
def _encoder_and_decoder(folder: Path) -> None:
    settings = T5Config(vocab_size=64, d_model=16, d_kv=4, d_ff=24, num_layers=2, num_heads=4)
    T5ForConditionalGeneration(settings).save_pretrained(folder / "b")


@_entry("incomplete", "has no tensor 'model.layers.1.mlp.up_proj.weight', which its architecture needs")
def _tensor_missing(folder: Path) -> None:
    tensors(folder / "b", lambda held: held.pop("model.layers.1.mlp.up_proj.weight"))


@_entry("incomplete", "set tie_word_embeddings to true")
def _untied_by_its_config_without_a_head(folder: Path) -> None:
    tensors(folder / "b", lambda held: held.pop("lm_head.weight"))


@_entry("config_mismatch", "does not fit its config: model.embed_tokens.weight (64, 16) in the file, (60, 16) by its config")
def _config_of_another_size(folder: Path) -> None:
    config(folder / "b", vocab_size=60)


@_entry("extra_tensors", "has tensors that its architecture does not use: v_head.weight")
def _value_head(folder: Path) -> None:
    tensors(folder / "b", lambda held: held.update({"v_head.weight": torch.ones(1, 16)}))


@_entry("token_out_of_range", "has 64 rows of embeddings and the tokens '<pad>' (64)")
def _token_without_a_row(folder: Path) -> None:
    new_tokenizer("<pad>").save_pretrained(folder / "b")


@_entry("licence_unknown", "states no licence")
def _no_licence(folder: Path) -> None:
    (folder / "b" / "README.md").unlink()


@_entry("licence_conflict", "the licences do not allow a merge to be shared")
def _no_derivatives(folder: Path) -> None:
    (folder / "b" / "README.md").write_text("---\nlicense: cc-by-nc-nd-4.0\n---\n")


@_entry("rearranged", "is of type 'hrm_text', whose weights transformers rearranges when it loads them")
def _weights_in_another_order(folder: Path) -> None:
    sizes = {"hidden_size": 16, "head_dim": 4, "num_attention_heads": 4, "num_key_value_heads": 4, "intermediate_size": 24}
    settings = AutoConfig.for_model("hrm_text", vocab_size=64, num_hidden_layers=2, **sizes)
    for seed, name in enumerate(("base", "a", "b"), start=1):
        shutil.rmtree(folder / name)
        save(folder / name, settings, seed, near=1)


@_entry("unfoldable", "is of type 'gemma2', and searched paths run through llama, mistral", family="gemma2")
def _no_scales_for_paths(folder: Path) -> Words:
    return (*pool(folder, base=None), "paths=true")


# --- values ---------------------------------------------------------------------------------------------------------------


@_entry("not_finite", "has a NaN or an infinity in 'model.layers.0.self_attn.q_proj.weight'")
def _nan(folder: Path) -> None:
    tensors(folder / "b", lambda held: held["model.layers.0.self_attn.q_proj.weight"].view(-1)[3:4].fill_(float("nan")))


@_entry("not_finite", "has a NaN or an infinity in 'model.norm.weight'")
def _overflow_in_the_base(folder: Path) -> None:
    tensors(folder / "base", lambda held: held["model.norm.weight"].view(-1)[:1].fill_(float("inf")))


@_entry("zero_tensors", "has nothing but zeros in model.layers.1.mlp.down_proj.weight")
def _zeros(folder: Path) -> None:
    tensors(folder / "b", lambda held: held["model.layers.1.mlp.down_proj.weight"].zero_())


@_entry("tied_copy_differs", "ties its head to its embeddings, but stores 'lm_head.weight' with other numbers", family="smollm")
def _tied_by_its_config_with_a_head(folder: Path) -> None:
    tensors(folder / "b", lambda held: held.update({"lm_head.weight": torch.randn(64, 16)}))


# --- adapters -------------------------------------------------------------------------------------------------------------


@_entry("adapter_config", "has a config that cannot be read")
def _adapter_config_cut_short(folder: Path) -> Words:
    words = adapter(folder)
    (folder / "lora" / "adapter_config.json").write_text("{")
    return words


@_entry("adapter_kind", "is of type IA3; LoRA and DoRA adapters can be merged")
def _adapter_of_another_kind(folder: Path) -> Words:
    words = adapter(folder)
    lora_config(folder, peft_type="IA3")
    return words


@_entry("adapter_kind", "works on some tokens only (aLoRA)")
def _adapter_that_works_on_some_tokens(folder: Path) -> Words:
    return adapter(folder, alora_invocation_tokens=[3])


@_entry("adapter_kind", "was started with init_lora_weights=pissa, which also changes its base")
def _adapter_on_what_pissa_left_of_its_base(folder: Path) -> Words:
    words = adapter(folder)
    lora_config(folder, init_lora_weights="pissa")
    return words


@_entry("adapter_targets", "changes 'model.layers.0.self_attn.q_proj.bias', which its base does not have")
def _adapter_of_biases_that_are_not_there(folder: Path) -> Words:
    return adapter(folder, lora_bias=True)


@_entry("adapter_shapes", "does not fit its base: model.layers.0.self_attn.q_proj.weight (16, 16), and the adapter's (32, 32)")
def _adapter_of_a_larger_model(folder: Path) -> Words:
    other(folder, "b", hidden_size=32, head_dim=8)
    return adapter(folder, "b")


@_entry(
    "adapter_targets", "changes model.layers.2.self_attn.q_proj.weight, model.layers.2.self_attn.v_proj.weight, which its base"
)
def _adapter_of_a_deeper_model(folder: Path) -> Words:
    other(folder, "b", num_hidden_layers=3)
    return adapter(folder, "b")


@_entry("adapter_targets", "has no LoRA matrices")
def _adapter_without_matrices(folder: Path) -> Words:
    words = adapter(folder)
    save_file({"w": torch.ones(2)}, folder / "lora" / "adapter_model.safetensors")
    return words


@_entry(
    "adapter_rank", "has matrices of another rank than its config says (4): model.layers.0.self_attn.q_proj.weight of rank 2"
)
def _adapter_with_the_config_of_another_rank(folder: Path) -> Words:
    words = adapter(folder)
    lora_config(folder, r=4)
    return words


@_entry("adapter_base", "was made for 'meta-llama/Llama-3.1-8B' by its config, and is put on")
def _adapter_made_for_another_base(folder: Path) -> Words:
    words = adapter(folder)
    lora_config(folder, base_model_name_or_path="meta-llama/Llama-3.1-8B")
    return words


@_entry("adapter_without_effect", "adds nothing to its base: all its matrices B are zero")
def _adapter_never_trained(folder: Path) -> Words:
    return adapter(folder, trained=False)


@_entry("adapter_without_effect", "adds nothing to its base: its lora_alpha is 0")
def _adapter_scaled_by_zero(folder: Path) -> Words:
    words = adapter(folder)
    lora_config(folder, lora_alpha=0)
    return words


@_entry("adapter_tied", "adds to 'model.embed_tokens.weight', which is also the head of its base; put it on a copy of the base")
def _adapter_of_embeddings_that_are_also_the_head(folder: Path) -> Words:
    other(folder, "base", seed=1, near=1, tie_word_embeddings=True)
    other(folder, "a", near=1, tie_word_embeddings=True)
    return adapter(folder, target_modules=["embed_tokens", "q_proj"])


@_entry("not_finite", "the adapter 'lora'")
def _nan_in_an_adapter(folder: Path) -> Words:
    words = adapter(folder)
    tensors(folder / "lora", lambda held: next(iter(held.values())).fill_(float("nan")), "adapter_model.safetensors")
    return words


@_entry("truncated", "adapter_model.safetensors' is truncated or corrupted")
def _adapter_cut_short(folder: Path) -> Words:
    words = adapter(folder)
    path = folder / "lora" / "adapter_model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])
    return words


@_entry("pickles_only", "has no adapter_model.safetensors; pickled weights (.bin, .pt) are refused")
def _pickled_adapter(folder: Path) -> Words:
    words = adapter(folder)
    (folder / "lora" / "adapter_model.safetensors").rename(folder / "lora" / "adapter_model.bin")
    return words


# --- what two models compute ----------------------------------------------------------------------------------------------


@_entry("architecture", "differ in model_type: mistral and llama")
def _another_type_of_equal_shapes(folder: Path) -> None:
    config(folder / "b", model_type="mistral", architectures=["MistralForCausalLM"])


@_entry("layers", "differ in num_hidden_layers: 3 and 2")
def _deeper(folder: Path) -> None:
    other(folder, "b", num_hidden_layers=3)


@_entry("sizes", "differ in intermediate_size: 32 and 24")
def _wider(folder: Path) -> None:
    other(folder, "b", intermediate_size=32)


@_entry("sizes", "differ in num_local_experts: 4 and 2", family="mixtral")
def _more_experts(folder: Path) -> None:
    other(folder, "b", "mixtral", num_local_experts=4)


@_entry("heads", "differ in num_attention_heads: 2 and 4, num_key_value_heads: 1 and 2, head_dim: 8 and 4")
def _other_heads_of_equal_shapes(folder: Path) -> None:
    config(folder / "b", num_attention_heads=2, num_key_value_heads=1, head_dim=8)


@_entry("activation", "differ in hidden_act: gelu and silu")
def _another_activation(folder: Path) -> None:
    config(folder / "b", hidden_act="gelu")


@_entry("tied_weights", "differ in tie_word_embeddings: True and False")
def _tied_beside_untied(folder: Path) -> None:
    config(folder / "b", tie_word_embeddings=True)
    tensors(folder / "b", lambda held: held.pop("lm_head.weight"))


@_entry("biases", "differ in attention_bias: True and False")
def _biases_in_one_alone(folder: Path) -> None:
    other(folder, "b", near=1, attention_bias=True)


@_entry("missing_tensors", "differ in tensors: the first lacks v_head.weight")
def _value_head_of_the_base(folder: Path) -> None:
    tensors(folder / "base", lambda held: held.update({"v_head.weight": torch.ones(1, 16)}))


@_entry("shapes", "differ in shapes: model.norm.weight (17,) and (16,)")
def _one_tensor_of_another_shape(folder: Path) -> None:
    tensors(folder / "b", lambda held: held.update({"model.norm.weight": torch.ones(17)}))


@_entry("rotary", "'rope_theta': 1000000.0")
def _another_rotary_base(folder: Path) -> None:
    config(folder / "b", rope_parameters={"rope_type": "default", "rope_theta": 1e6})


@_entry("rotary", "'rope_type': 'linear'")
def _scaled_positions(folder: Path) -> None:
    config(folder / "b", rope_parameters={"rope_type": "linear", "rope_theta": 1e4, "factor": 4.0})


@_entry("norm_eps", "differ in rms_norm_eps: 0.001 and 1e-06")
def _another_epsilon(folder: Path) -> None:
    config(folder / "b", rms_norm_eps=1e-3)


@_entry("sliding_window", "differ in sliding_window: 16 and 32", family="mistral")
def _another_window(folder: Path) -> None:
    config(folder / "b", sliding_window=16)


@_entry("sliding_window", "differ in sliding_window: None and 32", family="mistral")
def _no_window(folder: Path) -> None:
    path = folder / "b" / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"sliding_window": None}))


@_entry("max_positions", "differ in max_position_embeddings: 128 and 64")
def _longer_inputs(folder: Path) -> None:
    config(folder / "b", max_position_embeddings=128)


@_entry("other_settings", "differ in num_experts_per_tok: 1 and 2", family="mixtral")
def _fewer_experts_a_token(folder: Path) -> None:
    config(folder / "b", num_experts_per_tok=1)


@_entry("other_settings", "differ in query_pre_attn_scalar: 16 and 256", family="gemma2")
def _another_scale_of_queries(folder: Path) -> None:
    config(folder / "b", query_pre_attn_scalar=16)


@_entry("dtype", "are stored in bfloat16 and float32")
def _another_precision(folder: Path) -> None:
    tensors(folder / "b", lambda held: held.update({name: tensor.bfloat16() for name, tensor in held.items()}))


# --- what two models call their words -------------------------------------------------------------------------------------


@_entry("vocabulary_size", "differ in vocab_size: 66 and 64")
def _more_rows_for_tokens_that_nobody_knows(folder: Path) -> None:
    other(folder, "b", vocab_size=66)
    for file in (folder / "b").glob("tokenizer*"):
        file.unlink()


@_entry("vocabulary", "vocabulary: 66 and 64 tokens; tokens in one alone: '</think>', '<think>'; vocab_size: 66 and 64")
def _more_tokens(folder: Path) -> None:
    other(folder, "b", vocab_size=66)
    new_tokenizer("<think>", "</think>").save_pretrained(folder / "b")


@_entry("padded_vocabulary", "differ in vocab_size: 72 and 64")
def _padded(folder: Path) -> None:
    other(folder, "b", vocab_size=72)


@_entry("vocabulary", "differ in vocabulary: 64 and 64 tokens; tokens in one alone: 'odd', 'w59'")
def _other_tokens(folder: Path) -> None:
    new_tokenizer("odd", n_tokens=63).save_pretrained(folder / "b")


@_entry("token_numbers", "token numbers: 'w1' is 6 and 5, 'w2' is 5 and 6")
def _tokens_of_other_numbers(folder: Path) -> None:
    new_tokenizer(moved=True).save_pretrained(folder / "b")


@_entry("added_tokens", "differ in vocabulary: 63 and 64 tokens; tokens in one alone: 'w59'")
def _fewer_tokens_in_as_many_rows(folder: Path) -> None:
    new_tokenizer(n_tokens=63).save_pretrained(folder / "b")


@_entry("tokenizer_rules", "differ in their tokenizers' normalizer")
def _lower_case(folder: Path) -> None:
    path = folder / "b" / "tokenizer.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"normalizer": {"type": "Lowercase"}}))


@_entry("token_spelling", "spell tokens differently: words with a mark (▁) and bytes as letters (Ġ)")
def _another_mark_before_words(folder: Path) -> Words:
    new_tokenizer("odd", n_tokens=63).save_pretrained(folder / "b")
    rules = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
    marked = {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "always", "split": True}
    for name, rule in (("base", rules), ("a", rules), ("b", marked)):
        path = folder / name / "tokenizer.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | {"pre_tokenizer": rule}))
    return (*pool(folder), "models.tokenizer=base")


@_entry("few_shared_tokens", "share 31 tokens, of 64 and 64")
def _mostly_other_tokens(folder: Path) -> Words:
    new_tokenizer(*(f"x{i}" for i in range(33)), n_tokens=31).save_pretrained(folder / "b")
    return (*pool(folder), "models.tokenizer=union")


@_entry("special_tokens", "differ in eos_token: '<unk>' and '</s>'")
def _another_end_token(folder: Path) -> None:
    tokenizer = new_tokenizer()
    tokenizer.eos_token = "<unk>"
    tokenizer.save_pretrained(folder / "b")


@_entry("special_tokens", "differ in bos_token_id: 5 and 0, eos_token_id: 7 and 1")
def _other_numbers_of_special_tokens(folder: Path) -> None:
    config(folder / "b", bos_token_id=5, eos_token_id=7)


@_entry("special_tokens", "differ in pad_token_id: 1 and 2")
def _another_pad(folder: Path) -> None:
    config(folder / "base", pad_token_id=2)
    config(folder / "b", pad_token_id=1)


@_entry("chat_template", "have different chat templates")
def _other_chat_templates(folder: Path) -> Words:
    for name in "ab":
        tokenizer = new_tokenizer()
        tokenizer.chat_template = f"{{{{ messages }}}} {name}"
        tokenizer.save_pretrained(folder / name)
    return pool(folder)


# --- where the weights come from ------------------------------------------------------------------------------------------


@_entry("copies", "are copies of one model (all tensors are equal)")
def _copied_folder(folder: Path) -> Words:
    shutil.copytree(folder / "a", folder / "c")
    return pool(folder, "a", "b", "c")


@_entry("copies", "are copies of one model (all tensors are equal)")
def _copy_in_other_shards_and_another_precision(folder: Path) -> Words:
    tensors(folder / "a", lambda held: held.update({name: tensor.bfloat16() for name, tensor in held.items()}))
    model = AutoModelForCausalLM.from_pretrained(folder / "a", dtype=torch.float32)
    shutil.copytree(folder / "a", folder / "c", ignore=shutil.ignore_patterns("*.safetensors"))
    model.save_pretrained(folder / "c", max_shard_size="5KB")
    return pool(folder, "a", "b", "c")


@_entry("copies", "are copies of one model (the same reference)")
def _one_folder_twice(folder: Path) -> Words:
    named = [{"name": name, "model": folder / "a"} for name in ("one", "two")]
    return pool(folder, *named)


@_entry("same_as_base", "is the base itself")
def _the_base_as_a_source(folder: Path) -> Words:
    shutil.copytree(folder / "base", folder / "c")
    return pool(folder, "a", "c")


@_entry("not_descended", "does not descend from the base")
def _stranger(folder: Path) -> None:
    shutil.rmtree(folder / "b")
    save(folder / "b", good_families.CONFIGS["llama"](), 9)


@_entry("far_from_base", "is far from the base")
def _trained_for_very_long(folder: Path) -> None:
    shutil.rmtree(folder / "b")
    save(folder / "b", good_families.CONFIGS["llama"](), 9, near=1, distance=0.02)


@_entry("no_common_ancestor", "have no ancestor in common")
def _strangers_without_a_base(folder: Path) -> Words:
    shutil.rmtree(folder / "b")
    save(folder / "b", good_families.CONFIGS["llama"](), 9)
    return pool(folder, base=None)


if __name__ == "__main__":
    for broken in CATALOGUE:
        root = Path(sys.argv[1]) / broken.name
        good_families.make(root, broken.family)
        print(broken.finding, *broken.make(root))  # noqa: T201
