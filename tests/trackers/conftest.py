"""A short search as the trackers are told of it: two generations of three, one candidate failed, one repeated."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from evo_merge.evaluation.base import Evaluation, failed
from evo_merge.genome import Gene
from evo_merge.trackers.base import Candidate, Generation, SearchStart, Tracker

METRICS = ("score", "correct")
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


@pytest.fixture
def story(tmp_path: Path) -> Story:
    source = np.random.default_rng(0)
    candidates = []
    for number in range(6):
        rows = np.stack([source.integers(0, 2, 7), np.ones(7)], axis=1).astype(float)
        evaluation = Evaluation(METRICS, 1, rows, ("x",) * 7, None, 0.125, 0.25, 70)
        if number == 1:
            evaluation = failed(METRICS, 1, "logits are not finite at new token 1", 0.125)
        candidates.append(Candidate(number, number // 3, source.random(2), evaluation, repeated=number == 4))
    files = tuple(tmp_path / name for name in ("recipe.yaml", "report.html"))
    for file in files:
        file.write_text(file.name)
    entry = {"interval": [0.07, 0.12]}
    return Story(
        SearchStart(
            run_folder=tmp_path,
            config={"merge": {"method": {"_target_": "x.DareTies"}}, "seed": 7},
            genes=GENES,
            objectives=("score",),
            baselines={"ja": 0.118, "math_a": 0.0, "dare_ties": 0.66},
            evaluations=9,
            evaluated=0,
            seconds=0.0,
        ),
        (Generation(0, candidates[:3]), Generation(1, candidates[3:])),
        {
            "task": "tiny_ja_math",
            "objective": "score",
            "search": {"best": 0.885},
            "test": {
                "n": 500,
                "sources": {"ja": {"score": 0.094, **entry}, "math_a": {"score": 0.0, "interval": [0.0, 0.008]}},
                "unoptimised": {"dare_ties": {"score": 0.66, "interval": [0.617, 0.7]}},
                "best": {"score": 0.875, "interval": [0.843, 0.902], "recipe": "recipe.yaml"},
                "paired": {
                    "ja": {"difference": 0.781, "p": 1e-60},
                    "math_a": {"difference": 0.875, "p": 1e-70},
                    "dare_ties": {"difference": 0.215, "p": 0.0312},
                },
            },
        },
        files,
    )
