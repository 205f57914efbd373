"""The simulation of ``benchmarks/selection.py``, small."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest

PATH = Path(__file__).parents[2] / "benchmarks" / "selection.py"
SPEC = importlib.util.spec_from_file_location("selection_benchmark", PATH)
assert SPEC is not None
assert SPEC.loader is not None
selection = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(selection)


@pytest.mark.parametrize("name", ["equal", "alike"])
def test_the_corrected_score_is_nearer_to_the_truth_than_the_observed(name: str) -> None:
    errors = selection.errors_of(selection.SEARCHES[name], 100, runs=40, seed=1, n_candidates=200)
    means = dict(zip(selection.ESTIMATES, errors.mean(axis=0), strict=True))
    assert means["observed"] > 0.8
    assert abs(means["corrected"]) < 0.3  # standard errors; 40 runs leave it uncertain by 0.15
    assert abs(means["corrected"]) < means["bootstrap"]


@pytest.mark.parametrize("name", ["equal", "spread", "broken", "few good", "alike", "adaptive"])
def test_truths_are_what_candidates_solve_of_many_problems(name: str) -> None:
    truth, scores = selection.SEARCHES[name](np.random.default_rng(0), 80, 20_000)
    assert np.abs(scores.mean(axis=1) - truth).max() < 0.03


def test_a_source_that_is_as_good_is_seldom_beaten() -> None:
    raw, corrected = selection.wrong_claims(100, members=3, sources=2, runs=150, seed=0)
    assert corrected <= 0.06
    assert corrected <= raw
