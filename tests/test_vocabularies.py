"""A whole run over models whose tokens have other numbers: it finds what the run over the same models as they were finds."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, AutoTokenizer

import evo_merge.models.tiny
from evo_merge.recipe_file import load
from evo_merge.study import Study, opened

FAMILY = Path(evo_merge.models.tiny.__file__).parent / "tiny_ja_math"
SMALL = (
    "models=custom",
    f"models.base={FAMILY / 'base'}",
    "merge=ties",
    "tracker=none",
    "task.limit.search=6",
    "task.limit.test=6",
    "optimizer.population_size=4",
    "budget.generations=2",
)


def renumbered(folder: Path) -> Path:
    """The math model with its words in another order, and one more word, which no text has."""
    shutil.copytree(FAMILY / "math_a", folder)
    written = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))
    words = written["model"]["vocab"]
    n_words = len(words)
    special = {entry["id"] for entry in written["added_tokens"]}
    free = [number for number in range(n_words) if number not in special]
    moved = dict(zip(free, reversed(free), strict=True))
    written["model"]["vocab"] = {word: moved.get(number, number) for word, number in words.items()} | {"never": n_words}
    (folder / "tokenizer.json").write_text(json.dumps(written, ensure_ascii=False), encoding="utf-8")
    tensors = load_file(folder / "model.safetensors")
    row = torch.arange(len(tensors["model.embed_tokens.weight"]))
    row[list(moved.values())] = torch.tensor(list(moved))
    for name in {"model.embed_tokens.weight", "lm_head.weight"} & tensors.keys():
        tensors[name] = torch.cat([tensors[name][row], torch.ones(1, tensors[name].shape[1])])
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    config = json.loads((folder / "config.json").read_text()) | {"vocab_size": len(row) + 1}
    (folder / "config.json").write_text(json.dumps(config))
    return folder


def scores(folder: Path) -> list[list[float]]:
    """Of every candidate, and of everyone beside them, on the search split."""
    with opened(Study.read(folder)) as study:
        recipes = [each.recipe for each in study.candidates()] + [each.recipe for each in study.entrants()]
        found = [study.evaluation(recipe, "search") for recipe in recipes]
        return [each.scores.tolist() for each in found if each is not None]


def test_the_numbers_of_tokens_change_nothing(command, tmp_path: Path) -> None:
    other = renumbered(tmp_path / "math_a")
    pair = f"models.sources=[{{name: ja, model: {FAMILY / 'ja'}}}, {{name: math_a, model: {FAMILY / 'math_a'}}}]"
    plain = command(*SMALL, pair, "hydra.run.dir=plain")
    assert (plain.code, plain.err) == (0, "")
    refused = command(*SMALL, pair.replace(str(FAMILY / "math_a"), str(other)), "hydra.run.dir=refused")
    assert refused.code == 2
    assert "models.tokenizer=base or union" in refused.err
    aligned = command(
        *SMALL, pair.replace(str(FAMILY / "math_a"), str(other)), "models.tokenizer=base", "hydra.run.dir=aligned"
    )
    assert aligned.code == 0, aligned.err
    assert len(scores(tmp_path / "plain")) > 6
    assert scores(tmp_path / "plain") == scores(tmp_path / "aligned")
    assert any(any(row) for each in scores(tmp_path / "plain") for row in each)

    models = [AutoModelForCausalLM.from_pretrained(tmp_path / run / "model").state_dict() for run in ("plain", "aligned")]
    assert all(torch.equal(models[0][name], models[1][name]) for name in models[0])
    assert (
        AutoTokenizer.from_pretrained(tmp_path / "aligned" / "model").get_vocab()
        == AutoTokenizer.from_pretrained(FAMILY / "base").get_vocab()
    )
    recipe = tmp_path / "aligned" / "recipe.yaml"
    assert "tokenizer: {source: base}" in recipe.read_text(encoding="utf-8")
    assert load(recipe).tokenizer is not None
    built = command(f"recipe={recipe}", f"out={tmp_path / 'again'}", verb="build")
    assert built.code == 0, built.err
    again, written = (load_file(path / "model.safetensors") for path in (tmp_path / "again", tmp_path / "aligned" / "model"))
    assert all(torch.equal(again[name], tensor) for name, tensor in written.items())


@pytest.mark.parametrize("merge", ["dfs", "hybrid"])
def test_paths_are_refused(command, tmp_path: Path, merge: str) -> None:
    sources = f"models.sources=[{FAMILY / 'ja'},{FAMILY / 'math_a'}]"
    words = [word for word in SMALL if not word.startswith("merge=")]
    ended = command(*words, sources, f"merge={merge}", "models.tokenizer=union")
    assert ended.code == 2
    (sentence,) = ended.err.splitlines()
    assert "models.tokenizer" in sentence
