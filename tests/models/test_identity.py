"""An interrupted build goes on only with the models that it began with: whatever its bytes come from is looked at."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from evo_merge.calibration.write import write_statistics
from evo_merge.models import checkpoint
from evo_merge.models.checkpoint import write_checkpoint
from evo_merge.models.pool import Pool
from evo_merge.recipe import ModelReference, ParameterRule, ParameterSpaceRecipe, Source
from evo_merge.study import Study, StudyError, opened
from evo_merge.tokenizer_rule import TokenizerRule

Save = Callable[..., Path]
Begun = tuple[ParameterSpaceRecipe, Callable[[], None]]  # what is built, and what changes while it is interrupted
HALF = ParameterRule(("*",), {"weight": (0.5, 0.5)})


def adapters(folder: Path, family: Path, save_adapter: Save) -> Begun:
    base = ModelReference(str(family / "base"))
    for seed, name in enumerate("ab"):
        save_adapter(folder / name, family / "base", seed)
    sources = tuple(Source(name, ModelReference(adapter=str(folder / name), base=base)) for name in "ab")
    recipe = ParameterSpaceRecipe(base, sources, "task_arithmetic", {}, (HALF,), 0, "float32", "float32")
    return recipe, lambda: edit(folder / "a" / "adapter_config.json", lora_alpha=64)


def statistics(folder: Path, family: Path, save_adapter: Save) -> Begun:
    sources = tuple(Source(name, ModelReference(str(family / name))) for name in "ab")
    options = {"statistics": str(folder / "fisher")}
    gather(folder / "fisher", sources, 3)
    recipe = ParameterSpaceRecipe(None, sources, "fisher", options, (HALF,), 0, "float32", "float32")

    def again() -> None:
        for path in (folder / "fisher").iterdir():
            path.unlink()
        gather(folder / "fisher", sources, 11)

    return recipe, again


def tokenizers(folder: Path, family: Path, save_adapter: Save) -> Begun:
    return of_rows(folder, family, lambda: swap_words(folder / "b" / "tokenizer.json"), TokenizerRule("base"))


def givers(folder: Path, family: Path, save_adapter: Save) -> Begun:
    """Only ``a`` is merged; ``b`` gives it the rows of the words that it lacks."""
    rows = tuple(Source(name, ModelReference(str(folder / name))) for name in "ab")

    def change() -> None:
        path = folder / "b" / "model.safetensors"
        save_file({name: tensor + 1 for name, tensor in load_file(path).items()}, path, metadata={"format": "pt"})

    return of_rows(folder, family, change, TokenizerRule("union", sources=rows), names="a")


def of_rows(folder: Path, family: Path, change: Callable[[], None], rule: TokenizerRule, names: str = "ab") -> Begun:
    for name in "ab":
        (folder / name).mkdir()
        for path in (family / name).iterdir():
            (folder / name / path.name).write_bytes(path.read_bytes())
    vocabulary = json.loads((folder / "b" / "tokenizer.json").read_text())
    words = vocabulary["model"]["vocab"]
    words["never"] = words.pop("w7")
    (folder / "b" / "tokenizer.json").write_text(json.dumps(vocabulary))
    sources = tuple(Source(name, ModelReference(str(folder / name))) for name in names)
    rules = (ParameterRule(("*",), {"weight": (1.0,) * len(names)}),)
    recipe = ParameterSpaceRecipe(None, sources, "linear", {}, rules, 0, "float32", "float32", rule)
    return recipe, change


def edit(path: Path, **changes: Any) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def swap_words(path: Path) -> None:
    vocabulary = json.loads(path.read_text())
    words = vocabulary["model"]["vocab"]
    words["w3"], words["w4"] = words["w4"], words["w3"]
    path.write_text(json.dumps(vocabulary))


def gather(folder: Path, sources: tuple[Source, ...], n_tokens: int) -> None:
    pool = Pool(base=None, sources=[{"name": source.name, "model": source.reference.model} for source in sources])
    write_statistics(
        folder, pool.sources, lambda _: [list(range(2, 2 + n_tokens))], kind="fisher", labels="text", seed=0, limit=10**9,
        device=torch.device("cpu"), settings={},
    )  # fmt: skip


def write(recipe: ParameterSpaceRecipe, folder: Path) -> Path:
    write_checkpoint(recipe, Pool.of_recipe(recipe), folder)
    return folder


@pytest.mark.parametrize("begun", [adapters, statistics, tokenizers, givers])
def test_a_build_over_what_changed_meanwhile_starts_over(
    begun: Callable[..., Begun], tmp_path: Path, family: Path, save_adapter: Save, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe, change = begun(tmp_path, family, save_adapter)
    made: list[str] = []
    whole = checkpoint.write_tensor

    def interrupted(file: Any, shard: Any, name: str, tensor: torch.Tensor) -> None:
        made.append(name)
        if len(made) == n_before:
            raise KeyboardInterrupt
        whole(file, shard, name, tensor)

    monkeypatch.setattr(checkpoint, "MARK_BYTES", 1)
    monkeypatch.setattr(checkpoint, "write_tensor", interrupted)
    n_before = 15
    with pytest.raises(KeyboardInterrupt):
        write(recipe, tmp_path / "model")
    n_before = 0
    change()
    expected = load_file(write(recipe, tmp_path / "fresh") / "model.safetensors")
    made.clear()
    found = load_file(write(recipe, tmp_path / "model") / "model.safetensors")
    assert all(torch.equal(tensor, expected[name]) for name, tensor in found.items())
    assert len(made) == len(expected)


@pytest.mark.parametrize("begun", [adapters, statistics, tokenizers, givers])
def test_a_build_over_what_is_as_it_was_goes_on(
    begun: Callable[..., Begun], tmp_path: Path, family: Path, save_adapter: Save
) -> None:
    recipe, _ = begun(tmp_path, family, save_adapter)
    first, again = (told(recipe) for _ in range(2))
    assert first == again


def told(recipe: ParameterSpaceRecipe) -> str:
    pool = Pool.of_recipe(recipe)
    return checkpoint._identity(recipe, pool, (), ())


def test_a_study_from_before_adapters_had_their_settings_in_it_goes_on_and_keeps_them_from_now(
    tmp_path: Path, family: Path, save_adapter: Save
) -> None:
    recipe, change = adapters(tmp_path, family, save_adapter)

    def fingerprints() -> dict[str, str]:
        return {str(model.reference): model.fingerprint for model in Pool.of_recipe(recipe).models}

    now = fingerprints()
    before = {name: value.partition("+")[0] for name, value in now.items()}
    assert before != now
    with opened(Study.create(tmp_path)) as study:
        study.record_fingerprints(before)
        study.record_fingerprints(now)
        assert study.fingerprints == now
        change()
        with pytest.raises(StudyError, match="changed since the run began"):
            study.record_fingerprints(fingerprints())
