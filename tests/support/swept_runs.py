"""Writes the study of one run of a sweep by hand: what each candidate scored, and what the chosen one did on the test split."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from evo_merge.evaluation.base import Evaluation, failed
from evo_merge.evaluation.cost import Cost
from evo_merge.recipe import ModelReference, ParameterRule, ParameterSpaceRecipe, Source
from evo_merge.report.comparison.compare import compare
from evo_merge.report.comparison.run import read_compared
from evo_merge.report.comparison.values import FairComparison
from evo_merge.study import Study
from evo_merge.study_records import Entrant
from evo_merge.tasks.base import Example, Portion

N_PROBLEMS = 20  # of each split
KNOWN = "the source again"  # a candidate that costs nothing
SEARCH = Portion("search")
AGAIN = "the candidate before, again"
FAILED = None


def compared(*folders: Path, target: float | None = None) -> FairComparison:
    """The runs of these folders, compared."""
    return compare([read_compared(folder) for folder in folders], target)


def write_swept(
    folder: Path,
    optimizer: str = "cmaes",
    seed: int = 1,
    search: Sequence[float | str | None] = (0.25, 0.5),
    test: float | None = 0.5,
    *,
    config: Mapping[str, Any] | None = None,
    portion: Portion = SEARCH,
    violations: Sequence[float] = (),
    brevity: Sequence[float] = (),
    test_failure: str = "",
    **described: str,
) -> Path:
    """A run of one generation, whose candidates score ``search``; ``test`` of ``None`` leaves it unfinished.

    ``brevity`` is a second objective: of each candidate, and of the chosen one on the test split. ``described`` are keys of the
    study, such as ``task``. The source scores 0.1 and 0.2, the un-optimised merge 0.3.
    ``test_failure`` is why the chosen one could not be scored on the test split.
    """
    folder.mkdir(parents=True)
    study = Study.create(folder)
    composed = {"seed": seed, "optimizer": {"_target_": f"x.{optimizer}", "sigma0": 0.2}, "merge": {"_target_": "x.linear"}}
    values = {"seed": str(seed), "task": "a_task", "merge": "linear", "optimizer": optimizer, "objectives": '["score"]'}
    values["config"] = yaml.safe_dump({**composed, **(config or {})})
    if brevity:
        values["objectives"] = '["score", "brevity"]'
    for key, value in {**values, **described}.items():
        study.set(key, value)
    for split in ("search", "test"):
        study.record_examples(split, [Example(f"{split}-{i}", f"{i}?", str(i)) for i in range(N_PROBLEMS)])
    study.record_entrant(Entrant("source", "a", _recipe(1, 0)))
    study.record_evaluation(_recipe(1, 0), Portion("search"), _evaluation(0.1))
    study.record_evaluation(_recipe(1, 0), Portion("test"), _evaluation(0.2))
    study.record_entrant(Entrant("unoptimised", "linear, un-optimised", _recipe(0.5, 0.5)))
    study.record_evaluation(_recipe(0.5, 0.5), Portion("test"), _evaluation(0.3))
    recipes = []
    for number, score in enumerate(search):
        recipe = _recipe(1, 0) if score == KNOWN else recipes[-1] if score == AGAIN else _recipe(number + 2, seed)
        recipes.append(recipe)
    study.record_generation("", 0, portion, [np.zeros(2)] * len(recipes), recipes)
    for number, (recipe, score) in enumerate(zip(recipes, search, strict=True)):
        if not isinstance(score, str):
            missed = violations[number] if violations else 0.0
            found = failed(("score",), 1, "it was not a number") if score is FAILED else _evaluation(score, missed)
            if brevity and score is not FAILED:
                found = _with_brevity(found, brevity[number])
            study.record_evaluation(recipe, portion, found)
    if test is not None or test_failure:
        numbers = [(score, -number) for number, score in enumerate(search) if isinstance(score, float)]
        best = -max(numbers)[1]
        study.record_choice(best)
        study.record_entrant(Entrant("best", "evolved", recipes[best]))
        tested = failed(("score",), 1, test_failure) if test_failure else _evaluation(test or 0.0)
        study.record_evaluation(recipes[best], Portion("test"), _with_brevity(tested, brevity[-1]) if brevity else tested)
    study.close()
    return folder


def _recipe(a: float, b: float) -> ParameterSpaceRecipe:
    return ParameterSpaceRecipe(
        base=None,
        sources=tuple(Source(name, ModelReference(f"builtin:tiny_ja_math/{name}")) for name in ("ja", "math_a")),
        method="linear",
        options={},
        parameters=(ParameterRule(("*",), {"weight": (float(a), float(b))}),),
        seed=7,
        dtype="float32",
        out_dtype="float32",
    )


def _evaluation(share: float, violation: float = 0.0) -> Evaluation:
    solved = (np.arange(N_PROBLEMS) < round(share * N_PROBLEMS)).astype(float)
    return Evaluation(("score",), 1, solved[:, None], ("a",) * N_PROBLEMS, None, Cost(0.01, 0.5, 40), violation=violation)


def _with_brevity(evaluation: Evaluation, brevity: float) -> Evaluation:
    scores = np.column_stack([evaluation.scores, np.full(N_PROBLEMS, brevity)])
    return replace(evaluation, metrics=("score", "brevity"), n_objectives=2, scores=scores)
