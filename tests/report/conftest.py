"""Runs made by hand: a finished one with everything a report may meet, and what makes others."""

import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest

from evo_merge.evaluation.base import Evaluation, failed
from evo_merge.genome import Gene
from evo_merge.recipe import ModelReference, ParameterRule, ParameterSpaceRecipe, Source
from evo_merge.study import Entrant, Study
from evo_merge.tasks.base import Example

SOURCES = ("ja", "math_a", "math_b")
METRICS = ("score", "language_ok")
FAILURE = "weight 'lm_head.weight' became NaN"
HOSTILE = "<script>alert('x')</script><img src=http://evil.example/x.png> \x00\x1b ]]> \"quoted\""
N_SEARCH, N_TEST = 40, 60


def recipe_of(weights: Sequence[float], method: str = "dare_ties", names: Sequence[str] = SOURCES) -> ParameterSpaceRecipe:
    """A recipe with one rule."""
    return ParameterSpaceRecipe(
        base=ModelReference("builtin:tiny_ja_math/base"),
        sources=tuple(Source(name, ModelReference(f"builtin:tiny_ja_math/{name}")) for name in names),
        method=method,
        options={},
        parameters=(ParameterRule(("*",), {"weight": tuple(weights)}),),
        seed=7,
        dtype="float32",
        out_dtype="float32",
    )


def evaluation_of(rate: float, n: int, seed: int, text: str = "答えは9個です。") -> Evaluation:
    """An evaluation that solves about that share of the problems."""
    solved = (np.random.default_rng(seed).random(n) < rate).astype(float)
    scores = np.stack([solved, np.ones(n)], axis=1)
    return Evaluation(METRICS, 1, scores, tuple(f"{text} ({i})" for i in range(n)), None, 0.01, 0.5, 40 * n)


def example_set(split: str, n: int) -> list[Example]:
    """Numbered problems."""
    return [Example(f"{split}-{i}", f"太郎は{i}個のりんごを持っています。<b>いくつ</b>?", str(i)) for i in range(n)]


@pytest.fixture(scope="session")
def runs_made(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Makes each kind of run once: every commit of a study waits for the disk."""
    made: dict[tuple[float, bool, bool], Path] = {}

    def run_of(best_rate: float, is_finished: bool, is_graded: bool) -> Path:
        key = (best_rate, is_finished, is_graded)
        if key not in made:
            made[key] = tmp_path_factory.mktemp("made")
            write_run(made[key], best_rate=best_rate, is_finished=is_finished, is_graded=is_graded)
        return made[key]

    return run_of


@pytest.fixture
def make_run(tmp_path: Path, runs_made: Callable[..., Path]) -> Callable[..., Path]:
    """Makes a folder with a run of its own."""

    def make(name: str = "run", *, best_rate: float = 0.9, is_finished: bool = True, is_graded: bool = False) -> Path:
        return Path(shutil.copytree(runs_made(best_rate, is_finished, is_graded), tmp_path / name))

    return make


def write_run(folder: Path, *, best_rate: float, is_finished: bool, is_graded: bool) -> None:
    """2 generations of 9, one candidate failed, 3 sources, 1 un-optimised merge, 2 baselines."""
    (folder / ".hydra").mkdir(parents=True)
    (folder / ".hydra" / "config.yaml").write_text("seed: 3\nnote: <config>\n", encoding="utf-8")
    study = Study.create(folder)
    genes = [Gene(f"weight/{source}", 0.0, 1.0, 0.5) for source in SOURCES]
    for key, value in {
        "genes": json.dumps([asdict(gene) for gene in genes]),
        "objectives": json.dumps(["score"]),
        "selection": "search",
        "seed": "3",
        "task": "tiny_ja_math",
        "merge": "dare_ties",
        "optimizer": "cmaes",
        "evo_merge_version": "0.1.0",
    }.items():
        study.set(key, value)
    study.record_examples("search", example_set("search", N_SEARCH))

    def graded(evaluation: Evaluation) -> Evaluation:
        noise = np.random.default_rng(0).random(len(evaluation.scores)) * 0.3
        scores = evaluation.scores.copy()
        scores[:, 0] = 10 * (0.6 * scores[:, 0] + noise)
        return replace(evaluation, scores=scores)

    change = graded if is_graded else (lambda evaluation: evaluation)
    others = [Entrant("source", source, recipe_of([float(i == k) for k in range(3)])) for i, source in enumerate(SOURCES)]
    others += [
        Entrant("unoptimised", "dare_ties at 0.5", recipe_of([0.5] * 3)),
        Entrant("baseline", "linear", recipe_of([1 / 3] * 3, "linear")),
        Entrant("baseline", "ties", recipe_of([1 / 3] * 3, "ties")),
    ]
    rates = [0.12, 0.0, 0.0, 0.6, 0.4, 0.75]
    for i, (entrant, rate) in enumerate(zip(others, rates, strict=True)):
        study.record_entrant(entrant)
        study.record_evaluation(entrant.recipe, "search", change(evaluation_of(rate, N_SEARCH, i)))
    random = np.random.default_rng(1)
    for generation in range(2):
        genomes = [random.random(3) for _ in range(9)]
        recipes = [recipe_of(genome.tolist()) for genome in genomes]
        numbers = study.record_generation(generation, genomes, recipes)
        for number, recipe in zip(numbers, recipes, strict=True):
            if number == 4:
                study.record_evaluation(recipe, "search", failed(METRICS, 1, FAILURE))
            elif is_finished or number < 14:
                rate = 0.3 + 0.03 * number
                study.record_evaluation(recipe, "search", change(evaluation_of(rate, N_SEARCH, 10 + number)))
    if is_finished:
        study.record_examples("test", example_set("test", N_TEST))
        fitness = {
            c.number: e.fitness[0] for c in study.candidates() if (e := study.evaluation(c.recipe, "search")) is not None
        }
        best_number = max(fitness, key=lambda number: fitness[number])
        study.set("best_number", str(best_number))
        best = study.candidates()[best_number].recipe
        study.record_entrant(Entrant("best", "best", best))
        for i, (entrant, rate) in enumerate(zip(others, rates, strict=True)):
            text = HOSTILE if entrant.name == "math_a" else "答えは9個です。"
            study.record_evaluation(entrant.recipe, "test", change(evaluation_of(rate, N_TEST, 50 + i, text)))
        study.record_evaluation(best, "test", change(evaluation_of(best_rate, N_TEST, 99, HOSTILE)))
    study.close()
