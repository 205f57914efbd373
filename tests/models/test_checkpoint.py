"""Checkpoints: ordinary folders that load anywhere, the same bytes every time, whole or not at all."""

import json
import logging
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig

from evo_merge.errors import ModelError, UnusableCandidateError
from evo_merge.models import checkpoint
from evo_merge.models.assemble import Assembler
from evo_merge.models.checkpoint import write_checkpoint
from evo_merge.models.pool import Pool
from evo_merge.recipe import ParameterRule, ParameterSpaceRecipe, to_yaml
from evo_merge.recipe_file import from_yaml

TOKENS = torch.tensor([[3, 9, 27, 4, 11, 2]])
SavePico = Callable[..., Path]
MakeRecipe = Callable[..., ParameterSpaceRecipe]


def write(recipe: ParameterSpaceRecipe, folder: Path) -> Path:
    write_checkpoint(recipe, Pool.of_recipe(recipe), folder)
    return folder


def logits(model: Any) -> torch.Tensor:
    with torch.no_grad():
        answer: torch.Tensor = model(TOKENS).logits
    return answer


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


# --- what is written -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_a_loaded_checkpoint_answers_as_the_candidate_did(
    tmp_path: Path, family: Path, make_recipe: MakeRecipe, dare: ParameterSpaceRecipe, dtype: str
) -> None:
    recipe = make_recipe("dare_ties", family / "base", {n: family / n for n in "abc"}, *dare.parameters, out_dtype=dtype)
    model = Assembler(Pool.of_recipe(recipe), torch.device("cpu")).assemble(recipe)
    loaded = AutoModelForCausalLM.from_pretrained(write(recipe, tmp_path / "model"))
    assert loaded.dtype == getattr(torch, dtype)
    assert torch.equal(logits(loaded), logits(model))


def test_the_folder_holds_all_that_a_model_needs(tmp_path: Path, dare: ParameterSpaceRecipe, family: Path) -> None:
    folder = write(dare, tmp_path / "runs" / "model")
    assert {path.name for path in folder.iterdir()} == {
        "config.json", "generation_config.json", "model.safetensors", "recipe.yaml", "tokenizer.json", "tokenizer_config.json",
    }  # fmt: skip
    config = json.loads((folder / "config.json").read_text())
    assert config["architectures"] == ["LlamaForCausalLM"]
    assert config["dtype"] == "float32"
    assert AutoTokenizer.from_pretrained(folder).get_vocab() == AutoTokenizer.from_pretrained(family / "base").get_vocab()
    assert GenerationConfig.from_pretrained(folder).eos_token_id == 1
    assert [path.name for path in (tmp_path / "runs").iterdir()] == ["model"]  # nothing is left beside it


def test_the_recipe_travels_inside_the_weights(tmp_path: Path, dare: ParameterSpaceRecipe) -> None:
    with safe_open(write(dare, tmp_path / "model") / "model.safetensors", "pt") as file:
        metadata = file.metadata()
    assert metadata == {"format": "pt", "recipe": to_yaml(dare)}
    assert from_yaml(metadata["recipe"]) == dare


def test_a_recipe_of_any_text_is_kept(tmp_path: Path, family: Path, make_recipe: MakeRecipe) -> None:
    """The header is written anew, in order; quotes, control characters and Japanese must come out as they went in."""
    name = '日本語 "quoted" \\ \t \x7f \u2028 emoji \U0001f600'
    recipe = make_recipe("linear", None, {name: family / "a"}, ParameterRule(("*",), {"weight": (1.0,)}))
    folder = write(recipe, tmp_path / "model")
    with safe_open(folder / "model.safetensors", "pt") as file:
        assert from_yaml(file.metadata()["recipe"]) == recipe
    expected = load_file(family / "a" / "model.safetensors")
    assert all(torch.equal(tensor, expected[name]) for name, tensor in load_file(folder / "model.safetensors").items())


def test_the_same_recipe_gives_the_same_bytes(tmp_path: Path, dare: ParameterSpaceRecipe) -> None:
    first = contents(write(dare, tmp_path / "0"))
    # Many times: a hash map of two entries comes out in the same order by chance every other time.
    assert all(contents(write(dare, tmp_path / str(i))) == first for i in range(1, 8))


def test_tied_embeddings_are_written_once(tmp_path: Path, save_pico: SavePico, make_recipe: MakeRecipe) -> None:
    a, b = (save_pico(tmp_path / name, seed, tie_word_embeddings=True) for seed, name in enumerate("ab"))
    recipe = make_recipe("linear", None, {"a": a, "b": b}, ParameterRule(("*",), {"weight": (1.0, 3.0)}))
    folder = write(recipe, tmp_path / "model")
    assert "lm_head.weight" not in load_file(folder / "model.safetensors")
    loaded = AutoModelForCausalLM.from_pretrained(folder)
    assert loaded.lm_head.weight.data_ptr() == loaded.model.embed_tokens.weight.data_ptr()
    model = Assembler(Pool.of_recipe(recipe), torch.device("cpu")).assemble(recipe)
    assert torch.equal(logits(loaded), logits(model))


def test_a_second_copy_of_tied_embeddings_is_left_out(tmp_path: Path, save_pico: SavePico, make_recipe: MakeRecipe) -> None:
    """Some trainers store it; merged by another rule it would untie the checkpoint, unlike the candidate."""
    a, b = (save_pico(tmp_path / name, seed, tie_word_embeddings=True) for seed, name in enumerate("ab"))
    weights = load_file(a / "model.safetensors")
    copied = {"lm_head.weight": weights["model.embed_tokens.weight"].clone()}
    save_file(weights | copied, a / "model.safetensors", metadata={"format": "pt"})
    rules = (ParameterRule(("*embed*",), {"weight": (1.0, 3.0)}), ParameterRule(("*",), {"weight": (3.0, 1.0)}))
    recipe = make_recipe("linear", None, {"a": a, "b": b}, *rules)
    folder = write(recipe, tmp_path / "model")
    assert "lm_head.weight" not in load_file(folder / "model.safetensors")
    model = Assembler(Pool.of_recipe(recipe), torch.device("cpu")).assemble(recipe)
    assert torch.equal(logits(AutoModelForCausalLM.from_pretrained(folder)), logits(model))


def test_large_models_are_written_in_shards(
    tmp_path: Path, dare: ParameterSpaceRecipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = write(dare, tmp_path / "whole")
    monkeypatch.setattr(checkpoint, "SHARD_BYTES", 4000)
    sharded, again = write(dare, tmp_path / "sharded"), write(dare, tmp_path / "again")
    files = sorted(sharded.glob("*.safetensors"))
    assert len(files) > 3
    assert files[0].name == f"model-00001-of-{len(files):05d}.safetensors"
    expected = load_file(whole / "model.safetensors")
    index = json.loads((sharded / "model.safetensors.index.json").read_text())
    assert index["metadata"]["total_size"] == sum(tensor.nbytes for tensor in expected.values())
    assert index["weight_map"].keys() == expected.keys()
    for path in files:
        tensors = load_file(path)
        assert len(tensors) == 1 or sum(tensor.nbytes for tensor in tensors.values()) <= 4000
        for name, tensor in tensors.items():
            assert index["weight_map"][name] == path.name
            assert torch.equal(tensor, expected[name])
        with safe_open(path, "pt") as file:
            assert from_yaml(file.metadata()["recipe"]) == dare
    assert torch.equal(
        logits(AutoModelForCausalLM.from_pretrained(sharded)), logits(AutoModelForCausalLM.from_pretrained(whole))
    )
    assert contents(sharded) == contents(again)


def test_a_merge_without_any_tokenizer_is_written_without_one(
    tmp_path: Path, save_pico: SavePico, make_recipe: MakeRecipe
) -> None:
    a, b = (save_pico(tmp_path / name, seed) for seed, name in enumerate("ab"))
    recipe = make_recipe("linear", None, {"a": a, "b": b}, ParameterRule(("*",), {"weight": (1.0, 1.0)}))
    folder = write(recipe, tmp_path / "model")
    assert not list(folder.glob("tokenizer*"))
    AutoModelForCausalLM.from_pretrained(folder)


def test_a_checkpoint_can_be_merged_again(tmp_path: Path, dare: ParameterSpaceRecipe, make_recipe: MakeRecipe) -> None:
    folder = write(dare, tmp_path / "model")
    again = write(make_recipe("linear", None, {"m": folder}, ParameterRule(("*",), {"weight": (1.0,)})), tmp_path / "again")
    first, second = load_file(folder / "model.safetensors"), load_file(again / "model.safetensors")
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_whole_numbers_among_the_tensors_are_copied(tmp_path: Path, family: Path, make_recipe: MakeRecipe) -> None:
    for name in "ab":
        shutil.copytree(family / name, tmp_path / name)
        path = tmp_path / name / "model.safetensors"
        save_file(load_file(path) | {"steps": torch.tensor([7])}, path, metadata={"format": "pt"})
    rule = ParameterRule(("*",), {"weight": (1.0, 1.0)})
    folder = write(make_recipe("linear", None, {n: tmp_path / n for n in "ab"}, rule), tmp_path / "model")
    steps = load_file(folder / "model.safetensors")["steps"]
    assert steps.tolist() == [7]
    assert steps.dtype == torch.int64


def test_settings_of_quantised_files_are_left_out(tmp_path: Path, family: Path, make_recipe: MakeRecipe) -> None:
    shutil.copytree(family / "a", tmp_path / "a")
    config = json.loads((tmp_path / "a" / "config.json").read_text())
    config["quantization_config"] = {"quant_method": "gguf", "dequantize": True}
    (tmp_path / "a" / "config.json").write_text(json.dumps(config))
    rule = ParameterRule(("*",), {"weight": (1.0,)})
    folder = write(make_recipe("linear", None, {"a": tmp_path / "a"}, rule), tmp_path / "model")
    assert "quantization_config" not in json.loads((folder / "config.json").read_text())


# --- whole or not at all ---------------------------------------------------------------------------------------------


def test_an_existing_folder_is_refused_and_left_alone(tmp_path: Path, dare: ParameterSpaceRecipe) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "notes.txt").write_text("mine")
    with pytest.raises(ModelError, match="model' exists and is not empty; choose another folder"):
        write(dare, tmp_path / "model")
    assert contents(tmp_path) == {"model/notes.txt": b"mine"}
    (tmp_path / "file").write_text("mine")
    with pytest.raises(ModelError, match="file' exists and is not empty"):
        write(dare, tmp_path / "file")


def test_an_empty_folder_is_filled(tmp_path: Path, dare: ParameterSpaceRecipe) -> None:
    (tmp_path / "model").mkdir()
    assert (write(dare, tmp_path / "model") / "model.safetensors").is_file()


def test_why_there_is_no_mergekit_yaml_is_said(
    tmp_path: Path, family: Path, make_recipe: MakeRecipe, dare: ParameterSpaceRecipe, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO):
        folder = write(dare, tmp_path / "dare")
    assert not (folder / "mergekit.yaml").exists()
    assert caplog.messages == ["no mergekit.yaml is written: mergekit has no 'rescale: density'"]
    caplog.clear()
    recipe = make_recipe("linear", None, {"a": family / "a"}, ParameterRule(("*",), {"weight": (1.0,)}))
    with caplog.at_level(logging.INFO):
        assert (write(recipe, tmp_path / "linear") / "mergekit.yaml").is_file()
    assert not caplog.messages


@pytest.mark.parametrize("step", ["_write_description", "write_tensor", "mergekit_yaml"])
@pytest.mark.parametrize("failure", [KeyboardInterrupt, OSError("broken disk")])
def test_a_failed_write_leaves_nothing_and_an_interrupted_one_what_it_goes_on_with(
    tmp_path: Path, dare: ParameterSpaceRecipe, monkeypatch: pytest.MonkeyPatch, step: str, failure: BaseException
) -> None:
    def fail(*args: object, **kwargs: object) -> None:
        raise failure

    with monkeypatch.context() as patch:
        patch.setattr(f"evo_merge.models.checkpoint.{step}", fail)
        with pytest.raises((KeyboardInterrupt, OSError)):
            write(dare, tmp_path / "out" / "model")
    left = ["model.partial"] if failure is KeyboardInterrupt else []
    assert [path.name for path in (tmp_path / "out").iterdir()] == left
    folder = write(dare, tmp_path / "out" / "model")
    assert contents(folder) == contents(write(dare, tmp_path / "whole"))
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["model"]


def test_what_a_killed_process_left_is_cleared(tmp_path: Path, dare: ParameterSpaceRecipe) -> None:
    (tmp_path / "model.partial").mkdir()
    (tmp_path / "model.partial" / "stray.safetensors").write_bytes(b"half")
    folder = write(dare, tmp_path / "model")
    assert not (folder / "stray.safetensors").exists()
    assert not (tmp_path / "model.partial").exists()


def test_weights_that_are_not_finite_are_not_written(tmp_path: Path, family: Path, make_recipe: MakeRecipe) -> None:
    rule = ParameterRule(("*",), {"weight": (1e39,)})
    with pytest.raises(UnusableCandidateError):
        write(make_recipe("task_arithmetic", family / "base", {"a": family / "a"}, rule), tmp_path / "out" / "model")
    assert not list((tmp_path / "out").iterdir())


def test_too_little_room_is_said_before_anything_is_written(
    tmp_path: Path, dare: ParameterSpaceRecipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=1_000_000))
    with pytest.raises(ModelError, match=r"writing the model to '.*model' needs 0.05 GB, and 1.0 MB are free"):
        write(dare, tmp_path / "out" / "model")
    assert not list((tmp_path / "out").iterdir())
