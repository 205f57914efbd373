"""Which models can be merged: every difference in one report, found without reading a weight."""

import json
import logging
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from transformers import PreTrainedTokenizerFast

from evo_merge.errors import IncompatibleModelsError
from evo_merge.models.pool import Pool
from evo_merge.models.weights import SafetensorsWeights

SavePico = Callable[..., Path]
MakeTokenizer = Callable[..., PreTrainedTokenizerFast]


def report(base: Path | None, *sources: Path) -> str:
    with pytest.raises(IncompatibleModelsError) as caught:
        Pool(base=None if base is None else str(base), sources=[str(source) for source in sources])
    message = str(caught.value)
    assert message.startswith("these models cannot be merged: ")
    assert message.endswith("; choose models tuned from one base")
    assert "\n" not in message
    return message


def changed(folder: Path, original: Path, **config: Any) -> Path:
    """A copy with another config."""
    shutil.copytree(original, folder)
    written = json.loads((folder / "config.json").read_text()) | config
    (folder / "config.json").write_text(json.dumps(written))
    return folder


def test_a_family_is_compatible_without_a_warning(family: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        Pool(base=str(family / "base"), sources=[str(family / name) for name in "abc"])
    assert not caplog.records


def test_every_difference_stands_in_one_report(
    tmp_path: Path, family: Path, save_pico: SavePico, make_tokenizer: MakeTokenizer
) -> None:
    larger = save_pico(tmp_path / "larger", 1, vocab_size=34, num_key_value_heads=4, tokenizer=make_tokenizer("neu", "er"))
    deeper = save_pico(tmp_path / "deeper", 1, num_hidden_layers=3)
    message = report(family / "base", larger, family / "a", deeper)
    assert f"'larger' ({larger}) and 'base' ({family / 'base'}) differ in num_key_value_heads: 4 and 2" in message
    assert "shapes: " in message
    assert "lm_head.weight (34, 16) and (32, 16)" in message
    assert "vocabulary: 33 and 31 tokens" in message
    assert "tokens in one alone: 'er', 'neu'" in message
    assert f"'deeper' ({deeper}) and 'base'" in message
    assert "tensors: the second lacks model.layers.2." in message
    assert "'a' (" not in message


def test_without_a_base_sources_are_compared_with_the_first(tmp_path: Path, family: Path, save_pico: SavePico) -> None:
    message = report(None, family / "a", save_pico(tmp_path / "wide", 1, intermediate_size=32), family / "b")
    assert f"'wide' ({tmp_path / 'wide'}) and 'a' ({family / 'a'}) differ in shapes: " in message
    assert "'b' (" not in message


def test_a_missing_layer_is_named_from_the_side_that_lacks_it(tmp_path: Path, family: Path, save_pico: SavePico) -> None:
    shallow = save_pico(tmp_path / "shallow", 1, num_hidden_layers=1)
    assert "tensors: the first lacks model.layers.1.input_layernorm.weight" in report(family / "base", shallow)
    assert "and 6 more" in report(family / "base", shallow)


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ({"model_type": "mistral", "architectures": ["MistralForCausalLM"]}, "model_type: mistral and llama"),
        ({"num_attention_heads": 2, "head_dim": 8}, "num_attention_heads: 2 and 4"),
        ({"hidden_act": "gelu"}, "hidden_act: gelu and silu"),
        ({"tie_word_embeddings": True}, "tie_word_embeddings: True and False"),
    ],
)
def test_settings_that_change_the_computation_are_refused_although_shapes_agree(
    tmp_path: Path, family: Path, setting: dict[str, Any], said: str
) -> None:
    assert said in report(family / "base", changed(tmp_path / "other", family / "a", **setting))


@pytest.mark.parametrize("setting", [{"rms_norm_eps": 1e-3}, {"max_position_embeddings": 128}])
def test_settings_that_matter_little_are_a_warning(
    tmp_path: Path, family: Path, setting: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    other = changed(tmp_path / "other", family / "a", **setting)
    with caplog.at_level(logging.WARNING):
        Pool(base=str(family / "base"), sources=[str(other)])
    name, value = next(iter(setting.items()))
    assert [f"'other' ({other}) and 'base' ({family / 'base'}) differ in {name}: {value} and" in r.getMessage()
            for r in caplog.records] == [True]  # fmt: skip


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


def test_every_model_without_a_tokenizer_is_warned_of_once(
    tmp_path: Path, family: Path, save_pico: SavePico, caplog: pytest.LogCaptureFixture
) -> None:
    mute = [save_pico(tmp_path / name, 1, near=family / "base") for name in ("m", "n")]
    with caplog.at_level(logging.WARNING):
        Pool(base=None, sources=[str(mute[0]), str(family / "a"), str(mute[1])])
    assert [record.getMessage() for record in caplog.records] == [f"'{f.name}' ({f}) has no tokenizer" for f in mute]


def test_no_weight_is_read(tmp_path: Path, family: Path, save_pico: SavePico, monkeypatch: pytest.MonkeyPatch) -> None:
    def read(self: SafetensorsWeights, name: str) -> None:
        raise AssertionError(f"'{name}' was read")

    monkeypatch.setattr(SafetensorsWeights, "read", read)
    Pool(base=str(family / "base"), sources=[str(family / "a")])
    report(family / "base", save_pico(tmp_path / "deep", 1, num_hidden_layers=3))
