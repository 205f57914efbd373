"""The build command on a mergekit YAML: the checkpoint, and what it says of a broken one."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file

from evo_merge.errors import RecipeError
from evo_merge.interchange.document import Document
from evo_merge.interchange.mergekit_config import parse
from evo_merge.interchange.mergekit_early import check_early

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


EARLY = """\
merge_method: METHOD
base_model: builtin:tiny_ja_math/base
models:
- model: MODEL
  parameters:
    weight: WEIGHT
    density: DENSITY
- model: builtin:tiny_ja_math/math_a
  parameters: {weight: 1}
"""
RIGHT = {"METHOD": "ties", "MODEL": "builtin:tiny_ja_math/ja", "WEIGHT": "1", "DENSITY": "1"}


@pytest.mark.parametrize(
    ("changes", "line", "said"),
    [
        ({"MODEL": "builtin:nobody"}, 4, "there is no embedded model 'builtin:nobody'; there are builtin:"),
        ({"MODEL": "./nowhere"}, 4, "there is no model folder './nowhere'"),
        ({"MODEL": "empty"}, 4, "the model folder 'empty' is empty"),
        ({"MODEL": "plain"}, 4, "'plain' has no config.json, so it is no model folder"),
        (
            {"MODEL": "nobody/nothing"},
            4,
            "the hub cannot be reached for a model of that name; name a local folder in its place",
        ),
        ({"WEIGHT": "abc"}, 6, "'abc' is no number"),
        ({"WEIGHT": ".nan"}, 6, "'nan' is no finite number"),
        ({"WEIGHT": "[0, x]"}, 6, "'x' is no number"),
        ({"WEIGHT": "{filter: mlp, value: x}"}, 6, "'x' is no number"),
        ({"WEIGHT": "null"}, 4, "'weight' is missing, and 'ties' needs it"),
        ({"DENSITY": "0"}, 7, "density 0 keeps nothing of 'builtin:tiny_ja_math/ja'; leave the model out"),
        ({"METHOD": "linear", "WEIGHT": "-1"}, 6, "the weights sum to 0 for all tensors, and 'linear' divides by their sum"),
    ],
)
def test_what_needs_no_model_is_told_with_its_line_before_any_is_opened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, changes: dict[str, str], line: int, said: str
) -> None:
    monkeypatch.chdir(tmp_path)
    for folder in ("empty", "plain"):
        (tmp_path / folder).mkdir()
    (tmp_path / "plain" / "notes.txt").write_text("no model")
    text = EARLY
    for name, value in {**RIGHT, **changes}.items():
        text = text.replace(name, value)
    with pytest.raises(RecipeError) as caught:
        check_early(parse(Document.read(text, "'merge.yml'")))
    assert str(caught.value).startswith(f"'merge.yml', line {line}: ")
    assert said in str(caught.value)


def test_a_wrong_yaml_does_not_wait_for_torch(tmp_path: Path) -> None:
    (tmp_path / "merge.yml").write_text(EARLY.replace("METHOD", "ties").replace("MODEL", "builtin:nobody"))
    script = (
        "import sys; from pathlib import Path; from evo_merge.errors import RecipeError\n"
        "from evo_merge.interchange.read import load_any\n"
        "try: load_any(Path('merge.yml'))\n"
        "except RecipeError as error: print(error, {'torch', 'transformers'} & set(sys.modules))\n"
    )
    ended = subprocess.run([sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert ended.stdout.strip().endswith("set()")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (f"{YAML}dtype: float16\n", "'merge.yml', line 10: 'dtype' stands twice here, first on line 9; keep one of them"),
        (YAML.replace("0.8}", "0.8, weight: 0.9}"), "'merge.yml', line 5: 'weight' stands twice here"),
        (
            YAML.replace("dtype: float32", "dtype: float32 x: y"),
            "'merge.yml', line 9, column 17: no YAML: mapping values are not allowed here",
        ),
    ],
)
def test_broken_yaml_is_one_sentence_with_its_place(text: str, said: str) -> None:
    with pytest.raises(RecipeError) as caught:
        Document.read(text, "'merge.yml'")
    assert str(caught.value).startswith(said)
    assert "unicode string" not in str(caught.value)


def test_a_chat_template_of_its_own_is_refused_and_auto_is_not() -> None:
    parse(Document.read(f"{YAML}chat_template: auto\n", "'merge.yml'"))
    with pytest.raises(RecipeError, match="line 10: 'chat_template' is not carried over"):
        parse(Document.read(f"{YAML}chat_template: chatml\n", "'merge.yml'"))
