"""What a comparison reads of one run."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from evo_merge.report.comparison.run import read_compared, run_folders
from swept_runs import AGAIN, FAILED, KNOWN, write_swept

pytestmark = pytest.mark.usefixtures("quick_commits")


def test_the_best_so_far_counts_what_the_budget_counts(tmp_path: Path) -> None:
    run = read_compared(write_swept(tmp_path / "run", search=(FAILED, KNOWN, 0.25, AGAIN, 0.2, 0.5), test=0.6))

    # A failed candidate costs one, a known one and a repeated one nothing; the known one's score counts all the same.
    assert run.best_so_far.tolist() == [0.1, 0.25, 0.25, 0.5]
    assert (run.evaluations, run.generations, run.chosen_after) == (4, 1, 4)
    assert (run.best_search, run.test, run.best_source, run.unoptimised) == (0.5, 0.6, 0.2, 0.3)
    assert run.test_interval is not None
    assert run.test_interval.low < 0.6 < run.test_interval.high


def test_there_is_no_best_before_a_candidate_scores_and_meets_the_constraints(tmp_path: Path) -> None:
    run = read_compared(write_swept(tmp_path / "run", search=(FAILED, 0.9, 0.3), violations=(0, 0.2, 0)))

    assert np.isnan(run.best_so_far[:2]).all()
    assert run.best_so_far[2] == 0.3


def test_a_stages_own_task_counts_and_says_nothing_about_the_best(make_path_run: Callable[[str], Path]) -> None:
    run = read_compared(make_path_run("hybrid"))

    assert run.best_search == pytest.approx(0.7)  # the stage with a task of its own has 0.9 and 1.0
    assert run.evaluations == 17
    assert run.best_so_far[5] == run.best_so_far[7] == pytest.approx(0.5)  # before and after that stage
    assert not run.has_batches


def test_a_folder_of_a_sweep_stands_for_its_runs_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    for number in (10, 9, 0):
        write_swept(tmp_path / "sweep" / str(number), seed=number)

    assert [folder.name for folder in run_folders(tmp_path / "sweep")] == ["0", "9", "10"]
    assert run_folders(tmp_path / "sweep" / "9") == [tmp_path / "sweep" / "9"]
