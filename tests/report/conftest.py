"""Runs made by hand: a finished one with everything a report may meet, and what makes others."""

import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from evo_merge.evaluation.base import Evaluation, failed
from evo_merge.evaluation.cost import Cost
from evo_merge.genome import Gene
from evo_merge.recipe import (
    DataFlowRecipe,
    ModelReference,
    ParameterRule,
    ParameterSpaceRecipe,
    Recipe,
    Source,
    Step,
    without_scales,
)
from evo_merge.study import Study
from evo_merge.study_records import Entrant
from evo_merge.tasks.base import Example, Portion

SOURCES = ("ja", "math_a", "math_b")
METRICS = ("score", "language_ok")
FAILURE = "weight 'lm_head.weight' became NaN"
HOSTILE = "<script>alert('x')</script><img src=http://evil.example/x.png> \x00\x1b ]]> \"quoted\""
N_SEARCH, N_TEST = 40, 60
SEARCH, TEST = Portion("search"), Portion("test")


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
    return Evaluation(METRICS, 1, scores, tuple(f"{text} ({i})" for i in range(n)), None, Cost(0.01, 0.5, 40 * n))


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
        "stages": json.dumps({"": [asdict(gene) for gene in genes]}),
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
        study.record_evaluation(entrant.recipe, SEARCH, change(evaluation_of(rate, N_SEARCH, i)))
    random = np.random.default_rng(1)
    for generation in range(2):
        genomes = [random.random(3) for _ in range(9)]
        recipes = [recipe_of(genome.tolist()) for genome in genomes]
        numbers = study.record_generation("", generation, SEARCH, genomes, recipes)
        for number, recipe in zip(numbers, recipes, strict=True):
            if number == 4:
                study.record_evaluation(recipe, SEARCH, failed(METRICS, 1, FAILURE))
            elif is_finished or number < 14:
                rate = 0.3 + 0.03 * number
                study.record_evaluation(recipe, SEARCH, change(evaluation_of(rate, N_SEARCH, 10 + number)))
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
            study.record_evaluation(entrant.recipe, TEST, change(evaluation_of(rate, N_TEST, 50 + i, text)))
        study.record_evaluation(best, TEST, change(evaluation_of(best_rate, N_TEST, 99, HOSTILE)))
    study.close()


# -- searches through layers ---------------------------------------------------------------------------------------------------

A_LAYERS = 4
PATH_GENES = (
    Gene("slot/1/math_a.1", -np.inf, np.inf, 0.1, span=0.6),
    Gene("slot/2/math_a.2", 0.0, 1.0, 1.0, kind="binary"),
    Gene("slot/3", 0.0, 8.0, 0.0, kind="choice"),
    Gene("scale/math_a.0>ja.1", -np.inf, np.inf, 0.0, span=0.6),
)


def path_of(*steps: tuple[str, int, float], reference: ModelReference | None = None) -> DataFlowRecipe:
    """A recipe of that path; model A may be something else than an embedded model."""
    names = dict.fromkeys(model for model, _, _ in steps)
    models = [Source(name, ModelReference(f"builtin:tiny_ja_math/{name}")) for name in names]
    if reference is not None:
        models[0] = Source(models[0].name, reference)
    return DataFlowRecipe(tuple(models), tuple(Step(*step) for step in steps), "residual", "float32")


def own_path(name: str, reference: ModelReference | None = None) -> DataFlowRecipe:
    """A model by itself."""
    return path_of(*((name, layer, 1.0) for layer in range(A_LAYERS)), reference=reference)


def found_path(name: str, change: int, reference: ModelReference | None = None) -> DataFlowRecipe:
    """A path through model A and ja, another for every number; with a negative scale."""
    steps = [(name, 0, 1.0), (name, 1, 1.5), ("ja", 2, -0.5), ("ja", 3, 1 + change / 100), ("ja", 1, 1.0)]
    return path_of(*steps, (name, A_LAYERS - 1, 2.0), reference=reference)


class Recorder:
    """Writes a run of any number of stages into a study, a candidate after the other."""

    def __init__(self, folder: Path, merge: str, stages: dict[str, Sequence[Gene]], selection: str = "search") -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.study = Study.create(folder)
        self._seed = 0
        described = {
            "stages": json.dumps({name: [asdict(gene) for gene in genes] for name, genes in stages.items()}),
            "objectives": json.dumps(["score"]),
            "selection": selection,
            "seed": "3",
            "task": "tiny_ja_math",
            "merge": merge,
            "optimizer": "cmaes",
            "evo_merge_version": "0.1.0",
        }
        for key, value in described.items():
            self.study.set(key, value)
        self.study.record_examples("search", example_set("search", N_SEARCH))
        self.study.record_examples("test", example_set("test", N_TEST))

    def entrant(self, role: str, name: str, recipe: Recipe, search: float | None, test: float | None) -> None:
        """Record a model and its scores."""
        self.study.record_entrant(Entrant(role, name, recipe))
        for portion, rate in ((SEARCH, search), (TEST, test)):
            if rate is not None and not self.study.is_evaluated(recipe, portion.key):
                self.evaluation(recipe, portion, rate)

    def generation(
        self, stage: str, number: int, recipes: Sequence[Recipe], rates: Sequence[float], **options: Any
    ) -> list[int]:
        """Record a generation; ``dim`` genes a candidate, asked ``portion``."""
        portion, dim = options.get("portion", SEARCH), options.get("dim", len(PATH_GENES))
        genomes = [np.random.default_rng([number, i]).random(dim) for i in range(len(recipes))]
        numbers = self.study.record_generation(stage, number, portion, genomes, recipes)
        for recipe, rate in zip(recipes, rates, strict=True):
            if not self.study.is_evaluated(recipe, portion.key):
                self.evaluation(recipe, portion, rate)
        return numbers

    def evaluation(self, recipe: Recipe, portion: Portion, rate: float) -> None:
        """Record an evaluation that solves just that share of the problems."""
        n = N_TEST if portion.split == "test" else len(portion.positions or range(N_SEARCH))
        self._seed += 1
        solved = np.random.default_rng(self._seed).permutation(np.arange(n) < round(rate * n)).astype(float)
        scores = np.stack([solved, np.ones(n)], axis=1)
        found = Evaluation(
            METRICS, 1, scores, ("答えは9個です。",) * n, None, Cost(0.01, 0.5, 40 * n), positions=portion.positions
        )
        self.study.record_evaluation(recipe, portion, found)


def write_path_run(folder: Path, *, has_batches: bool) -> None:
    """A search through the layers of math_a and ja: 2 generations of 5, the first two of generation 0 on math_a's own path."""
    run = Recorder(folder, "dfs", {"": PATH_GENES}, "validation" if has_batches else "search")
    stacked = path_of(*((name, layer, 1.0) for name in ("math_a", "ja") for layer in range(A_LAYERS)), ("math_a", 3, 1.0))
    run.entrant("source", "math_a", own_path("math_a"), 0.1, 0.05)
    run.entrant("source", "ja", own_path("ja"), 0.2, 0.2)
    run.entrant("unoptimised", "layers stacked, un-optimised", stacked, 0.0, 0.0)
    run.entrant("baseline", "linear, un-tuned", recipe_of([0.5, 0.5], "linear", ("math_a", "ja")), 0.3, 0.3)
    own = own_path("math_a")
    scaled = replace(own, path=tuple(replace(step, scale=1.1) for step in own.path))
    portions = [SEARCH, SEARCH]
    if has_batches:
        portions = [Portion("search", tuple(range(g, N_SEARCH, 4))) for g in range(2)]
    first = [own, scaled, *(found_path("math_a", i) for i in range(3))]
    run.generation("", 0, first, [0.1, 0.1, 0.2, 0.3, 0.8], portion=portions[0])
    later = [found_path("math_a", i) for i in range(3, 8)]
    numbers = run.generation("", 1, later, [0.4, 0.7, 0.5, 0.6, 0.4], portion=portions[1])
    best = later[1] if has_batches else first[4]
    run.study.record_choice(numbers[1] if has_batches else 4)
    run.entrant("best", "evolved", best, None, 0.9)
    run.entrant("ablation", "evolved, all scales 1", without_scales(best), None, 0.3)
    run.study.close()


def write_hybrid_run(folder: Path, *, is_stage_best: bool = False, is_finished: bool = True) -> None:
    """Stages ps (3 genes) and en (2 genes, a task of its own), then paths through two pairs, one of which goes on."""
    genes = {
        "ps": [Gene(f"weight/{source}", 0.0, 1.0, 0.5) for source in SOURCES],
        "en": [Gene(f"weight/{source}", 0.0, 1.0, 0.5) for source in SOURCES[:2]],
    }
    run = Recorder(folder, "hybrid", {**genes, "ps>ja": PATH_GENES, "math_a>ja": PATH_GENES})
    for i, source in enumerate(SOURCES):
        run.entrant("source", source, recipe_of([float(i == k) for k in range(3)]), 0.1 * i, 0.1 * i)
    run.entrant("unoptimised", "dare_ties, un-optimised", recipe_of([0.5] * 3), 0.4, 0.4)
    mixed = [recipe_of([0.1 * i, 0.7, 0.5]) for i in range(6)]
    run.generation("ps", 0, mixed[:3], [0.3, 0.35, 0.2], dim=3)
    numbers = run.generation("ps", 1, mixed[3:], [0.4, 0.75 if is_stage_best else 0.5, 0.3], dim=3)
    english = [recipe_of([0.1 * i, 0.2], names=SOURCES[:2]) for i in range(2)]
    run.generation("en", 0, english, [0.9, 1.0], dim=2, portion=Portion("search", stage="en"))
    reference = ModelReference(recipe=mixed[4])
    of_ps = [own_path("ps", reference), *(found_path("ps", i, reference) for i in range(5))]
    run.generation("ps>ja", 0, of_ps[:3], [0.5, 0.3, 0.6])
    run.generation("math_a>ja", 0, [found_path("math_a", i) for i in range(3)], [0.0, 0.05, 0.1])
    last = run.generation("ps>ja", 1, of_ps[3:], [0.6, 0.7, 0.4])
    if not is_finished:
        run.study.close()
        return
    best = mixed[4] if is_stage_best else of_ps[4]
    run.study.record_choice(numbers[1] if is_stage_best else last[1])
    run.entrant("stage", "ps, parameter space alone", mixed[4], None, 0.6)
    run.entrant("best", "evolved", best, None, 0.8)
    if isinstance(best, DataFlowRecipe):
        run.entrant("ablation", "evolved, all scales 1", without_scales(best), None, 0.75)
    run.study.close()


@pytest.fixture(scope="session")
def path_runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Searches through layers: ``dfs``, ``batches``, ``hybrid``, ``stage`` (the first stays the best) and ``unfinished``."""
    folders = {name: tmp_path_factory.mktemp(name) / "run" for name in ("dfs", "batches", "hybrid", "stage", "unfinished")}
    write_path_run(folders["dfs"], has_batches=False)
    write_path_run(folders["batches"], has_batches=True)
    write_hybrid_run(folders["hybrid"])
    write_hybrid_run(folders["stage"], is_stage_best=True)
    write_hybrid_run(folders["unfinished"], is_finished=False)
    return folders


@pytest.fixture
def make_path_run(tmp_path: Path, path_runs: dict[str, Path]) -> Callable[[str], Path]:
    """Makes a folder with a run of its own, by the name of its kind."""
    return lambda kind: Path(shutil.copytree(path_runs[kind], tmp_path / kind))
