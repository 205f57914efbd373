"""Runs with several objectives, made by hand, whose every number can be told without a computer."""

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np

from evo_merge.evaluation.base import Evaluation
from evo_merge.evaluation.cost import Cost
from evo_merge.genome import Gene
from evo_merge.recipe import ModelReference, ParameterRule, ParameterSpaceRecipe, Source
from evo_merge.study import Study
from evo_merge.study_records import Entrant
from evo_merge.tasks.base import Example, Portion

SEVERAL = ("ja/accuracy", "en/accuracy", "brevity")
N_PART = 20  # problems of each part; both splits ask those of ja, then those of en
WEIGHTS = (
    (0.2, 0.2),
    (0.9, 0.1),
    (0.1, 0.9),
    (0.6, 0.6),
    (0.7, 0.5),
    (0.3, 0.3),
)  # of the candidates; 1, 2, 3 and 4 are in front


def linear(weights: Sequence[float]) -> ParameterSpaceRecipe:
    """The recipe of a candidate."""
    return ParameterSpaceRecipe(
        base=None,
        sources=tuple(Source(name, ModelReference(f"builtin:tiny_ja_math/{name}")) for name in ("ja", "en")),
        method="linear",
        options={},
        parameters=(ParameterRule(("*",), {"weight": tuple(weights)}),),
        seed=7,
        dtype="float32",
        out_dtype="float32",
    )


def write_several_run(folder: Path, kind: str, *, objectives: Sequence[str] = SEVERAL[:2], is_finished: bool = True) -> None:
    """6 candidates in 3 generations that solve their first weight of the Japanese problems, their second of the English ones.

    On the test split all solve two problems fewer of each. ``kind`` is ``front``, ``weighted_sum`` (twice the first objective
    plus the second), ``constrained`` (en/accuracy at least 0.5, and ja/accuracy at least that of ja; only candidate 5 keeps to
    both), ``infeasible`` (the same, and none does) or ``one`` (of the several objectives only en/accuracy).
    """
    folder.mkdir(parents=True, exist_ok=True)
    study = Study.create(folder)
    is_constrained, is_finished = kind in ("constrained", "infeasible"), is_finished and kind != "infeasible"
    if kind == "one":
        objectives = ["en/accuracy"]
    described = {
        "stages": json.dumps({"": [asdict(Gene(f"weight/{source}", 0.0, 1.0, 0.5)) for source in ("ja", "en")]}),
        "objectives": json.dumps(objectives),
        "fitness": json.dumps(["weighted_sum"] if kind == "weighted_sum" else objectives),
        "constraints": json.dumps({"en/accuracy": 0.5, "ja/accuracy": "ja"} if is_constrained else {}),
        "config": f"scalarize: {{_target_: x, weights: {{{SEVERAL[0]}: 2, {SEVERAL[1]}: 1}}}}\n",
        "selection": "search",
        "seed": "3",
        "task": "several",
        "merge": "linear",
        "optimizer": "nsga2",
        "evo_merge_version": "0.1.0",
    }
    for key, value in described.items():
        study.set(key, value)
    for split in ("search", "test"):
        asked = [Example(f"{part}/{split}-{i}", f"{i}?", str(i)) for part in ("ja", "en") for i in range(N_PART)]
        study.record_examples(split, asked)

    def score(weights: Sequence[float], portion: Portion) -> None:
        fewer = 2 if portion.split == "test" else 0
        scores = np.full((2 * N_PART, 3), np.nan)
        for part, weight in enumerate(weights):
            rows = slice(part * N_PART, (part + 1) * N_PART)
            scores[rows, part] = np.arange(N_PART) < max(0, round(weight * N_PART) - fewer)
        scores[:, 2] = -10.0 - np.arange(2 * N_PART) % 3 - 5 * weights[0]
        metrics = tuple(dict.fromkeys((*objectives, *SEVERAL)))
        ordered = scores[:, [SEVERAL.index(name) for name in metrics]]
        scalar = float(2 * weights[0] + weights[1]) if kind == "weighted_sum" else None
        missed = max(0.0, 0.5 - weights[1]) + max(0.0, 0.8 - weights[0]) if is_constrained else 0.0
        found = Evaluation(
            metrics,
            len(objectives),
            ordered,
            tuple(f"{SEVERAL[0 if i < N_PART else 1]} {i}" for i in range(2 * N_PART)),
            cost=Cost(0.01, 0.5, 900),
            scalar=scalar,
            violation=missed,
        )
        study.record_evaluation(linear(weights), portion, found)

    beside = [("source", "ja", (0.8, 0.0)), ("source", "en", (0.0, 0.8)), ("unoptimised", "linear, un-optimised", (0.5, 0.5))]
    for role, name, weights in beside:
        study.record_entrant(Entrant(role, name, linear(weights)))
        score(weights, Portion("search"))
    candidates = [*WEIGHTS[:5], (0.85, 0.5)] if kind == "constrained" else WEIGHTS
    recipes = [linear(weights) for weights in candidates]
    for generation in range(3):
        members = slice(2 * generation, 2 * generation + 2)
        genomes = [np.asarray(weights) for weights in candidates[members]]
        study.record_generation("", generation, Portion("search"), genomes, recipes[members])
        for weights in candidates[members]:
            score(weights, Portion("search"))
    if is_finished:
        chosen = {"front": 3, "weighted_sum": 4, "constrained": 5, "one": 2}[kind]
        study.record_choice(chosen)
        study.record_entrant(Entrant("best", "evolved", recipes[chosen]))
        others = [1, 2, 4] if kind == "front" else []
        for number in others:
            study.record_entrant(Entrant("front", f"candidate {number}", recipes[number]))
        for weights in [*(weights for _, _, weights in beside), *(candidates[number] for number in (chosen, *others))]:
            score(weights, Portion("test"))
    study.close()
