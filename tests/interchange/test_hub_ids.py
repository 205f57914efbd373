"""Files that name models on the hub without a commit: the one in the cache is meant, and written down."""

import shutil
from pathlib import Path

import pytest
import yaml
from huggingface_hub import constants
from safetensors.torch import load_file

COMMIT = "0123456789abcdef0123456789abcdef01234567"
MERGEKIT = """
merge_method: task_arithmetic
base_model: org/base
models:
  - {model: org/a, parameters: {weight: 0.5}}
  - {model: org/b, parameters: {weight: 0.25}}
dtype: float32
"""


@pytest.fixture
def cached(tmp_path: Path, pico, monkeypatch: pytest.MonkeyPatch) -> None:
    """``org/base``, ``org/a`` and ``org/b`` in the hub's cache, as a download leaves them."""
    cache = tmp_path / "cache"
    for seed, name in enumerate(("base", "a", "b")):
        folder = cache / f"models--org--{name}"
        shutil.copytree(pico(name, seed=seed), folder / "snapshots" / COMMIT)
        (folder / "refs").mkdir()
        (folder / "refs" / "main").write_text(COMMIT)
        (folder / "snapshots" / COMMIT / "README.md").write_text("---\nlicense: mit\n---\n")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(cache))


@pytest.mark.usefixtures("cached")
def test_a_yaml_of_hub_ids_is_built_and_its_commits_written_down(command, tmp_path: Path) -> None:
    (tmp_path / "merge.yml").write_text(MERGEKIT)
    ended = command("recipe=merge.yml", "out=first", verb="build")
    assert (ended.code, ended.err) == (0, "")
    written = yaml.safe_load((tmp_path / "first" / "mergekit.yaml").read_text())
    assert written["models"][0]["model"]["model"] == {"path": "org/a", "revision": COMMIT}
    assert "mit" in (tmp_path / "first" / "README.md").read_text()

    # A recipe of the merge, and a model that is such a recipe.
    outer = {"kind": "parameter_space", "base": "org/base", "method": {"name": "task_arithmetic"}}
    outer |= {"sources": [{"name": "merge", "recipe": "merge.yaml"}], "parameters": [{"tensors": "*", "weight": [1.0]}]}
    inner = outer | {"sources": [{"name": "a", "model": "org/a"}, {"name": "b", "model": "org/b"}]}
    inner["parameters"] = [{"tensors": "*", "weight": [0.5, 0.25]}]
    for name, recipe in (("merge", inner), ("outer", outer)):
        (tmp_path / f"{name}.yaml").write_text(yaml.safe_dump(recipe | {"seed": 0, "dtype": "float32", "out_dtype": "float32"}))
        ended = command(f"recipe={name}.yaml", f"out={name}", verb="build")
        assert (ended.code, ended.err) == (0, "")
    first, merge = (load_file(tmp_path / name / "model.safetensors") for name in ("first", "merge"))
    assert all((merge[key] == tensor).all() for key, tensor in first.items())


@pytest.mark.usefixtures("cached")
def test_a_model_on_the_hub_is_evaluated(command) -> None:
    ended = command("model=org/a", "task=tiny_ja_math", "task.limit.test=2", verb="evaluate")
    assert ended.code == 0
