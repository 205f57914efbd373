"""A short search as the trackers are told of it: two generations of three, one candidate failed, one repeated."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from evo_merge.evaluation.base import Evaluation, failed
from evo_merge.evaluation.cost import Cost
from evo_merge.genome import Gene, Genome
from evo_merge.recipe import (
    DataFlowRecipe,
    ModelReference,
    ParameterRule,
    ParameterSpaceRecipe,
    Recipe,
    Source,
    Step,
)
from evo_merge.trackers.base import Candidate, Generation, SearchStart, Tracker

METRICS = ("score", "correct")
MIXTURE = ParameterSpaceRecipe(
    base=None,
    sources=(Source("ja", ModelReference("./ja")),),
    method="linear",
    options={},
    parameters=(ParameterRule(("*",), {"weight": (1.0,)}),),
    seed=0,
    dtype="float32",
    out_dtype="float32",
)
PATH = DataFlowRecipe(MIXTURE.sources, (Step("ja", 0), Step("ja", 2, 1.25), Step("ja", 2, -1 / 3)), "residual", "float32")
GENES = (Gene("weight/ja", 0.0, 1.0, 0.5), Gene("density/ja", 0.0, 1.0, 0.5))


@dataclass(frozen=True)
class Story:
    """What happens in a search.

    Attributes:
        start: Told first.
        generations: Told in order, each after its candidates.
        summary: Told at the end.
        files: Written to the run's folder.
    """

    start: SearchStart
    generations: tuple[Generation, ...]
    summary: dict[str, Any]
    files: tuple[Path, ...]

    def tell(self, tracker: Tracker, generations: slice = slice(None)) -> None:
        """All of it, or some generations of it, without the end."""
        tracker.start(self.start)
        for generation in self.generations[generations]:
            for candidate in generation.candidates:
                tracker.candidate(candidate)
            tracker.generation(generation)


def candidate_of(
    number: int, genome: Genome, evaluation: Evaluation, *, recipe: Recipe = MIXTURE, repeated: bool = False
) -> Candidate:
    """One of a search of its own, three a generation."""
    return Candidate(number, "", number // 3, number // 3, genome, recipe, evaluation, repeated=repeated)


@pytest.fixture
def story(tmp_path: Path) -> Story:
    source = np.random.default_rng(0)
    candidates = []
    for number in range(6):
        rows = np.stack([source.integers(0, 2, 7), np.ones(7)], axis=1).astype(float)
        evaluation = Evaluation(METRICS, 1, rows, ("x",) * 7, None, Cost(0.125, 0.25, 70))
        if number == 1:
            evaluation = failed(METRICS, 1, "logits are not finite at new token 1", Cost(0.125))
        candidates.append(candidate_of(number, source.random(2), evaluation, repeated=number == 4))
    files = tuple(tmp_path / name for name in ("recipe.yaml", "report.html"))
    for file in files:
        file.write_text(file.name)
    entry = {"interval": [0.07, 0.12]}
    return Story(
        SearchStart(
            stage="",
            run_folder=tmp_path,
            config={"merge": {"method": {"_target_": "x.DareTies"}}, "seed": 7},
            genes=GENES,
            objectives=("score",),
            baselines={"ja": 0.118, "math_a": 0.0, "dare_ties": 0.66},
            evaluations=9,
            evaluated=0,
            seconds=0.0,
        ),
        (Generation(0, 0, candidates[:3]), Generation(1, 1, candidates[3:])),
        {
            "task": "tiny_ja_math",
            "objective": "score",
            "objectives": ["score"],
            "constraints": {},
            "search": {"best": 0.885},
            "test": {
                "n": 500,
                "sources": {"ja": {"score": 0.094, **entry}, "math_a": {"score": 0.0, "interval": [0.0, 0.008]}},
                "unoptimised": {"dare_ties": {"score": 0.66, "interval": [0.617, 0.7]}},
                "best": {"score": 0.875, "interval": [0.843, 0.902], "recipe": "recipe.yaml"},
                "paired": {
                    "ja": {"difference": 0.781, "interval": [0.74, 0.82], "p": 1e-60, "p_adjusted": 2e-60},
                    "math_a": {"difference": 0.875, "interval": [0.84, 0.9], "p": 1e-70, "p_adjusted": 3e-70},
                    "dare_ties": {"difference": 0.215, "interval": [0.16, 0.27], "p": 0.0312, "p_adjusted": 0.0312},
                },
            },
        },
        files,
    )


@pytest.fixture
def hybrid(story: Story) -> tuple[Story, Story, Story]:
    """Two stages of one run that take turns: mixing, paths, and paths again. The second has genes and a path of its own."""
    first, second = story.generations
    paths = [
        replace(
            candidate,
            stage="ps>ja",
            generation=generation,
            round=generation + 1,
            recipe=PATH,
            genome=candidate.genome[:1],
            number=3 + 3 * generation + place,
        )
        for generation, candidates in enumerate((first.candidates, second.candidates))
        for place, candidate in enumerate(candidates)
    ]
    start = replace(story.start, stage="ps")
    other = replace(start, stage="ps>ja", genes=(Gene("cut/1", 0.0, 1.0, 0.5),), evaluations=None)
    mixed = tuple(replace(candidate, stage="ps") for candidate in first.candidates)
    return (
        replace(story, start=start, generations=(Generation(0, 0, mixed),)),
        replace(story, start=other, generations=(Generation(0, 1, paths[:3]),)),
        replace(story, start=replace(other, evaluated=3), generations=(Generation(1, 2, paths[3:]),)),
    )
