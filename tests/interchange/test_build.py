"""The build command on a mergekit YAML: the checkpoint, and what it says of a broken one."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file

YAML = """\
merge_method: task_arithmetic
base_model: builtin:tiny_ja_math/base
models:
- model: builtin:tiny_ja_math/ja
  parameters: {weight: 0.8}
- model: builtin:tiny_ja_math/math_a
  parameters: {weight: -0.3}
parameters: {lambda: 0.5, int8_mask: true}
dtype: float32
"""
TINY = Path(__file__).parents[2] / "src" / "evo_merge" / "models" / "tiny" / "tiny_ja_math"


def test_a_mergekit_yaml_is_built(command: Callable[..., Any], tmp_path: Path) -> None:
    (tmp_path / "merge.yml").write_text(YAML)
    ended = command("recipe=merge.yml", "out=merged", verb="build")
    assert ended.code == 0
    base, ja, math = (load_file(TINY / name / "model.safetensors") for name in ("base", "ja", "math_a"))
    merged = load_file(tmp_path / "merged" / "model.safetensors")
    assert merged.keys() == base.keys()
    for name, tensor in merged.items():
        start = base[name].float()
        expected = start + 0.5 * (0.8 * (ja[name].float() - start) - 0.3 * (math[name].float() - start))
        torch.testing.assert_close(tensor, expected, rtol=0, atol=1e-6)


def test_a_misspelt_key_ends_with_its_line_and_code_2(command: Callable[..., Any], tmp_path: Path) -> None:
    (tmp_path / "merge.yml").write_text(YAML.replace("lambda", "lamda"))
    ended = command("recipe=merge.yml", "out=merged", verb="build")
    assert ended.code == 2
    assert "'merge.yml', line 8: unknown key 'lamda'; did you mean 'lambda'?" in ended.err
    assert not (tmp_path / "merged").exists()


def test_a_recipe_whose_glob_matches_nothing_is_refused(command: Callable[..., Any], tmp_path: Path) -> None:
    (tmp_path / "recipe.yaml").write_text(
        "{kind: parameter_space, sources: ['builtin:tiny_ja_math/ja'], method: {name: linear}, "
        "parameters: [{tensors: '*mpl*', weight: [1]}, {tensors: '*', weight: [1]}]}"
    )
    ended = command("recipe=recipe.yaml", "out=merged", verb="build")
    assert ended.code == 2
    assert "no tensor matches '*mpl*'" in ended.err


def test_what_is_built_can_be_built_again_from_its_own_folder(
    command: Callable[..., Any], tmp_path: Path, pico: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    pico("base"), pico("first", seed=1), pico("second", seed=2)
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    (tmp_path / "work" / "merge.yml").write_text(
        "merge_method: task_arithmetic\nbase_model: ../base\ndtype: float32\nmodels:\n"
        "- model: ../first\n  parameters: {weight: 0.3}\n- model: ../second\n  parameters: {weight: 0.4}\n"
    )
    assert command("recipe=merge.yml", "out=built", verb="build").code == 0
    built = load_file("built/model.safetensors")
    monkeypatch.chdir("built")
    for recipe in ("recipe.yaml", "mergekit.yaml"):
        assert str(tmp_path / "first") in Path(recipe).read_text()
        ended = command(f"recipe={recipe}", f"out=../again_{recipe}", verb="build")
        assert ended.code == 0, ended.err
        again = load_file(f"../again_{recipe}/model.safetensors")
        assert all(torch.equal(tensor, built[name]) for name, tensor in again.items())
    with safe_open("model.safetensors", "pt") as file:  # the bytes are the recipe's, wherever its models lie
        assert "model: ../first" in file.metadata()["recipe"]
