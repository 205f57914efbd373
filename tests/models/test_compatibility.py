"""Which models can be merged: every difference in one report, found without reading a weight."""

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import PreTrainedTokenizerFast

from evo_merge.errors import IncompatibleModelsError
from evo_merge.models.assemble import Assembler
from evo_merge.models.building import check_buildable
from evo_merge.models.checkpoint import write_checkpoint
from evo_merge.models.compatibility import refuse_unmixable, refuse_unroutable
from evo_merge.models.merging import TensorMerger
from evo_merge.models.pool import Pool
from evo_merge.models.safetensors_weights import SafetensorsWeights
from evo_merge.recipe import DataFlowRecipe, ModelReference, ParameterRule, ParameterSpaceRecipe, Source, Step

SavePico = Callable[..., Path]
MakeTokenizer = Callable[..., PreTrainedTokenizerFast]


def mixing(base: Path | None, *sources: Path) -> list[str]:
    """The warnings."""
    pool = Pool(base=None if base is None else str(base), sources=[str(source) for source in sources])
    return refuse_unmixable(pool.base, pool.sources)


def report(base: Path | None, *sources: Path) -> str:
    with pytest.raises(IncompatibleModelsError) as caught:
        mixing(base, *sources)
    message = str(caught.value)
    assert message.startswith("these models cannot be merged")
    _one_line_a_refusal(message)
    return message


def _one_line_a_refusal(message: str) -> None:
    """One sentence, or each refusal in a line of its own after their number; each says what to do."""
    head, *refused = message.split("\n- ")
    if refused:
        assert head.endswith(f", for {len(refused)} reasons:")
    for each in refused or [head]:
        assert "\n" not in each
        assert "; " in each


def changed(folder: Path, original: Path, **config: Any) -> Path:
    """A copy with another config."""
    shutil.copytree(original, folder)
    written = json.loads((folder / "config.json").read_text()) | config
    (folder / "config.json").write_text(json.dumps(written))
    return folder


def test_a_family_is_compatible_without_a_warning(family: Path) -> None:
    assert mixing(family / "base", *(family / name for name in "abc")) == []
    assert routing(*(family / name for name in "abc")) == []


def test_every_difference_stands_in_one_report(
    tmp_path: Path, family: Path, save_pico: SavePico, make_tokenizer: MakeTokenizer
) -> None:
    larger = save_pico(tmp_path / "larger", 1, vocab_size=34, num_key_value_heads=4, tokenizer=make_tokenizer("neu", "er"))
    deeper = save_pico(tmp_path / "deeper", 1, num_hidden_layers=3)
    message = report(family / "base", larger, family / "a", deeper)
    assert f"'larger' ({larger}) and 'base' ({family / 'base'}) differ in num_key_value_heads: 4 and 2" in message
    assert "shapes: " not in message  # they follow from the sizes
    assert "vocabulary: 33 and 31 tokens" in message
    assert "tokens in one alone: 'er', 'neu'; vocab_size: 34 and 32" in message
    assert f"'deeper' ({deeper}) and 'base'" in message
    assert "differ in num_hidden_layers: 3 and 2" in message
    assert "tensors: " not in message
    assert "'a' (" not in message


def test_without_a_base_sources_are_compared_with_the_first(tmp_path: Path, family: Path, save_pico: SavePico) -> None:
    message = report(None, family / "a", save_pico(tmp_path / "wide", 1, intermediate_size=32), family / "b")
    assert f"'wide' ({tmp_path / 'wide'}) and 'a' ({family / 'a'}) differ in intermediate_size: 32 and 24" in message
    assert "'b' (" not in message


def test_missing_tensors_are_named_from_the_side_that_lacks_them(tmp_path: Path, family: Path, save_pico: SavePico) -> None:
    tensors = load_file(family / "base" / "model.safetensors")
    spare = {f"spare.{i}.weight": torch.ones(2) for i in range(5)}
    base = changed(tmp_path / "base", family / "base")
    save_file(tensors | spare, base / "model.safetensors", metadata={"format": "pt"})
    message = report(base, family / "a")
    assert "tensors: the first lacks spare.0.weight, spare.1.weight, spare.2.weight and 2 more" in message


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ({"model_type": "mistral", "architectures": ["MistralForCausalLM"]}, "model_type: mistral and llama"),
        ({"num_attention_heads": 2, "head_dim": 8}, "num_attention_heads: 2 and 4"),
        ({"hidden_act": "gelu"}, "hidden_act: gelu and silu"),
    ],
)
def test_settings_that_change_the_computation_are_refused_although_shapes_agree(
    tmp_path: Path, family: Path, setting: dict[str, Any], said: str
) -> None:
    assert said in report(family / "base", changed(tmp_path / "other", family / "a", **setting))


@pytest.mark.parametrize("setting", [{"rms_norm_eps": 1e-3}, {"max_position_embeddings": 128}])
def test_settings_that_matter_little_are_a_warning(tmp_path: Path, family: Path, setting: dict[str, Any]) -> None:
    other = changed(tmp_path / "other", family / "a", **setting)
    (warning,) = mixing(family / "base", other)
    name, value = next(iter(setting.items()))
    assert f"'other' ({other}) and 'base' ({family / 'base'}) differ in {name}: {value} and" in warning


def test_the_same_words_under_other_numbers_are_refused(
    tmp_path: Path, family: Path, save_pico: SavePico, make_tokenizer: MakeTokenizer
) -> None:
    tokenizer = make_tokenizer()
    turned = save_pico(tmp_path / "turned", 1, near=family / "base", tokenizer=tokenizer)
    written = json.loads((turned / "tokenizer.json").read_text())
    vocabulary = written["model"]["vocab"]
    vocabulary["w1"], vocabulary["w2"] = vocabulary["w2"], vocabulary["w1"]
    (turned / "tokenizer.json").write_text(json.dumps(written))
    message = report(family / "base", turned)
    assert "vocabulary: 31 and 31 tokens" in message
    assert "token numbers: 'w1' is 5 and 4, 'w2' is 4 and 5" in message


def test_every_model_without_a_tokenizer_is_warned_of_once(tmp_path: Path, family: Path, save_pico: SavePico) -> None:
    mute = [save_pico(tmp_path / name, 1, near=family / "base") for name in ("m", "n")]
    found = mixing(None, mute[0], family / "a", mute[1])
    assert [warning.partition(";")[0] for warning in found] == [f"'{f.name}' ({f}) has no tokenizer" for f in mute]


def test_no_weight_is_read(tmp_path: Path, family: Path, save_pico: SavePico, monkeypatch: pytest.MonkeyPatch) -> None:
    def read(self: SafetensorsWeights, name: str) -> None:
        raise AssertionError(f"'{name}' was read")

    monkeypatch.setattr(SafetensorsWeights, "read", read)
    mixing(family / "base", family / "a")
    report(family / "base", save_pico(tmp_path / "deep", 1, num_hidden_layers=3))
    routing(family / "a", tmp_path / "deep")
    recipe = through(family / "a", tmp_path / "deep")
    check_buildable(recipe, Pool.of_recipe(recipe))


# --- layers of several models in one path ---------------------------------------------------------------------------------


def routing(*models: Path) -> list[str]:
    """The warnings."""
    return refuse_unroutable(Pool(base=None, sources=[str(model) for model in models]).for_paths().sources)


def through(*models: Path) -> DataFlowRecipe:
    """The first layer of each model."""
    sources = tuple(Source(model.name, ModelReference(str(model))) for model in models)
    return DataFlowRecipe(sources, tuple(Step(model.name, 0) for model in models), "residual", "float32")


def unroutable(*models: Path) -> str:
    with pytest.raises(IncompatibleModelsError) as caught:
        routing(*models)
    message = str(caught.value)
    assert message.startswith("no path can run through the layers of these models")
    _one_line_a_refusal(message)
    recipe = through(*models)
    for refuse in (check_buildable, lambda recipe, pool: Assembler(pool, torch.device("cpu")).assemble(recipe)):
        with pytest.raises(IncompatibleModelsError, match=re.escape(message)):
            refuse(recipe, Pool.of_recipe(recipe))
    return message


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ({"hidden_size": 32, "head_dim": 4}, "hidden_size: 32 and 16"),
        ({"intermediate_size": 32}, "intermediate_size: 32 and 24"),
        ({"num_attention_heads": 2, "head_dim": 4}, "num_attention_heads: 2 and 4"),
        ({"num_key_value_heads": 4}, "num_key_value_heads: 4 and 2"),
        ({"head_dim": 8}, "head_dim: 8 and 4"),
        ({"rms_norm_eps": 1e-5}, "rms_norm_eps: 1e-05 and 1e-06"),
        ({"hidden_act": "gelu"}, "hidden_act: gelu and silu"),
        ({"attention_bias": True}, "attention_bias: True and False"),
        ({"rope_parameters": {"rope_type": "default", "rope_theta": 5e5}}, "rope_parameters: {"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, dict) else None,
)
def test_what_the_layers_of_one_path_must_share_is_refused(
    tmp_path: Path, family: Path, save_pico: SavePico, make_tokenizer: MakeTokenizer, setting: dict[str, Any], said: str
) -> None:
    other = save_pico(tmp_path / "other", 1, tokenizer=make_tokenizer(), **setting)
    message = unroutable(family / "a", family / "b", other)
    assert f"'other' ({other}) and 'a' ({family / 'a'}) differ in {said}" in message
    assert "'b' (" not in message
    assert message.count(" differ in ") == 1


def test_layers_of_another_architecture_are_refused(tmp_path: Path, family: Path) -> None:
    other = changed(tmp_path / "other", family / "a", model_type="mistral", architectures=["MistralForCausalLM"])
    assert "differ in model_type: mistral and llama" in unroutable(family / "a", other)


def test_another_vocabulary_is_refused(
    tmp_path: Path, family: Path, save_pico: SavePico, make_tokenizer: MakeTokenizer
) -> None:
    turned = save_pico(tmp_path / "turned", 1, tokenizer=make_tokenizer())
    text = (turned / "tokenizer.json").read_text()
    (turned / "tokenizer.json").write_text(text.replace('"w1"', '"w2 "').replace('"w2"', '"w1"').replace('"w2 "', '"w2"'))
    message = unroutable(family / "a", turned)
    assert "differ in vocabulary: 31 and 31 tokens" in message
    assert "token numbers: 'w1' is 5 and 4, 'w2' is 4 and 5" in message


@pytest.mark.parametrize("grown_first", [False, True])
def test_a_vocabulary_that_only_grew_is_a_warning(
    tmp_path: Path, family: Path, save_pico: SavePico, make_tokenizer: MakeTokenizer, grown_first: bool
) -> None:
    grown = save_pico(tmp_path / "grown", 1, vocab_size=34, tokenizer=make_tokenizer("neu", "er"))
    models = (grown, family / "a") if grown_first else (family / "a", grown)
    pair = f"'{models[1].name}' ({models[1]}) and '{models[0].name}' ({models[0]}) differ in "
    counts = ("31 and 33", "32 and 34") if grown_first else ("33 and 31", "34 and 32")
    (words,) = routing(*models)  # the rows follow from the tokens
    assert words.startswith(f"{pair}vocabulary: {counts[0]} tokens; tokens in one alone: 'er', 'neu'; vocab_size: {counts[1]};")
    recipe = through(*models)
    assert sorted(check_buildable(recipe, Pool.of_recipe(recipe))) == sorted(routing(*models))
    model = Assembler(Pool.of_recipe(recipe), torch.device("cpu")).assemble(recipe)
    assert model.config.vocab_size == (34 if grown_first else 32)  # the first model's


def test_depth_window_and_tying_are_a_warning(tmp_path: Path, family: Path, save_pico: SavePico) -> None:
    other = save_pico(tmp_path / "other", 1, num_hidden_layers=3, max_position_embeddings=128, tie_word_embeddings=True)
    found = routing(family / "a", other)
    for said in ("num_hidden_layers: 3 and 2", "max_position_embeddings: 128 and 64", "tie_word_embeddings: True and False"):
        assert any(each.startswith(f"'other' ({other}) and 'a' ({family / 'a'}) differ in {said}") for each in found)


def test_every_difference_of_layers_stands_in_one_report(
    tmp_path: Path, family: Path, save_pico: SavePico, make_tokenizer: MakeTokenizer
) -> None:
    wide = save_pico(tmp_path / "wide", 1, hidden_size=32, rms_norm_eps=1e-5, num_hidden_layers=3, tokenizer=make_tokenizer())
    grown = save_pico(tmp_path / "grown", 1, vocab_size=33, intermediate_size=32, tokenizer=make_tokenizer("neu"))
    message = unroutable(family / "a", wide, family / "b", grown)
    for said in ("hidden_size: 32 and 16", "head_dim: 8 and 4", "rms_norm_eps: 1e-05 and 1e-06"):
        assert f"'wide' ({wide}) and 'a' ({family / 'a'}) differ in {said}" in message
    assert f"'grown' ({grown}) and 'a' ({family / 'a'}) differ in intermediate_size: 32 and 24" in message
    assert "num_hidden_layers" not in message  # which is no reason
    assert "vocabulary" not in message


def test_whoever_mixes_refuses_what_cannot_be_mixed(
    tmp_path: Path, family: Path, save_pico: SavePico, make_recipe: Callable[..., ParameterSpaceRecipe]
) -> None:
    deep = save_pico(tmp_path / "deep", 1, num_hidden_layers=3)
    recipe = make_recipe("linear", None, {"a": family / "a", "deep": deep}, ParameterRule(("*",), {"weight": (1.0, 1.0)}))
    pool = Pool.of_recipe(recipe)
    for refuse in (
        lambda: check_buildable(recipe, pool),
        lambda: TensorMerger(pool, torch.device("cpu")),
        lambda: write_checkpoint(recipe, pool, tmp_path / "model"),
    ):
        with pytest.raises(IncompatibleModelsError, match=r"'deep' .* differ in num_hidden_layers: 3 and 2"):
            refuse()
    assert not (tmp_path / "model").exists()
