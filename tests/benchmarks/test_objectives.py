"""NSGA-II against a weighted sum: both get the same words but for the search, and are compared by as many candidates."""

import argparse
import importlib
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from omegaconf import OmegaConf

from evo_merge.evaluation.base import Evaluation
from evo_merge.recipe import ModelReference, ParameterRule, ParameterSpaceRecipe, Source
from evo_merge.study import Study, opened
from evo_merge.tasks.base import Portion

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
OPTIONS = argparse.Namespace(problems=7, tests=9, budget=20, out=Path("out"))


@pytest.fixture
def objectives(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return importlib.import_module("objectives")


def recipe(weight: float) -> ParameterSpaceRecipe:
    return ParameterSpaceRecipe(
        base=None,
        sources=(Source("ja", ModelReference("./ja")),),
        method="linear",
        options={},
        parameters=(ParameterRule(("*",), {"weight": (weight,)}),),
        seed=1,
        dtype="float32",
        out_dtype="float32",
    )


def test_recipes_are_the_distinct_evaluated_ones_in_the_order_of_the_search(objectives: ModuleType, tmp_path: Path) -> None:
    asked, search = [recipe(weight) for weight in (0.3, 0.1, 0.3, 0.2, 0.4)], Portion("search")
    with opened(Study.create(tmp_path)) as study:
        study.record_generation("", 0, search, [np.zeros(1)] * 5, asked)
        for evaluated in (0.2, 0.1, 0.3):
            scores = np.array([[1.0, 0.0]])
            study.record_evaluation(recipe(evaluated), search, Evaluation(("ja", "en"), 2, scores, ("",)))
        found = list(objectives.recipes(study))
    assert found == [recipe(0.3), recipe(0.1), recipe(0.2)]


def test_the_first_candidates_of_both_are_compared_as_many_as_both_have(objectives: ModuleType) -> None:
    found = {
        ("nsga2", 1): np.array([[0.5, 0.2], [0.2, 0.5]]),
        ("weighted_sum", 1): np.array([[0.4, 0.4], [0.1, 0.1], [1.0, 1.0]]),  # the last is one more than the other has
        ("nsga2", 2): np.array([[0.5, 0.2]]),
        ("weighted_sum", 2): np.array([[0.3, 0.4]]),
    }
    assert list(objectives.table(found, {1: 4, 2: 1}))[2:] == [
        "| 1 | 2 | 0.160 | 2 | 4 | 0.160 | 1 |",
        "| 2 | 1 | 0.100 | 1 | 1 | 0.120 | 1 |",
        "| mean ± sd | | 0.130 ± 0.042 | | | 0.140 ± 0.028 | |",
    ]


def test_one_seed_has_no_deviation(objectives: ModuleType) -> None:
    found = {("nsga2", 1): np.array([[0.5, 0.2]]), ("weighted_sum", 1): np.array([[0.3, 0.4]])}
    assert list(objectives.table(found, {1: 1}))[-1] == "| mean ± sd | | 0.100 | | | 0.120 | |"


def test_a_run_of_other_words_is_refused(objectives: ModuleType, tmp_path: Path) -> None:
    words = objectives.words_of("nsga2", 3, OPTIONS, ["generator.batch_size=4"])
    assert {"optimizer=nsga2", "task.parts.en.limit.search=7", "seed=3", "budget.evaluations=20"} < set(words)
    assert words[-1] == "generator.batch_size=4"
    objectives.refuse_other_words(tmp_path, words)  # nothing is there
    (tmp_path / "study.sqlite").touch()
    with pytest.raises(SystemExit, match="holds a run of other words"):
        objectives.refuse_other_words(tmp_path, words)  # nobody knows whose it is
    (tmp_path / ".hydra").mkdir()
    OmegaConf.save(OmegaConf.create(words), tmp_path / ".hydra" / "overrides.yaml")
    objectives.refuse_other_words(tmp_path, words)
    more = argparse.Namespace(**vars(OPTIONS) | {"budget": 40})
    for other in (objectives.words_of("nsga2", 3, OPTIONS, []), objectives.words_of("nsga2", 3, more, words[-1:])):
        with pytest.raises(SystemExit, match="choose another --out"):
            objectives.refuse_other_words(tmp_path, other)
