"""What the console says under the final table, of whole runs as their reports know them."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from evo_merge.report.results import Model, RunResults, read_results
from evo_merge.report.summary import summarise
from evo_merge.study import Study, opened
from evo_merge.trackers.remarks import remarks
from several_run import SEVERAL, linear, write_several_run


def results_of(folder: Path, kind: str, **options: Any) -> RunResults:
    write_several_run(folder, kind, **options)
    with opened(Study.read(folder)) as study:
        return read_results(study)


def told(results: RunResults) -> list[str]:
    return [line.replace("\N{NO-BREAK SPACE}", " ") for line in remarks(summarise(results))]


def with_baseline(results: RunResults, scores: np.ndarray[Any, Any]) -> RunResults:
    assert results.best is not None
    assert results.best.test is not None
    rival = Model("baseline", "ties, un-tuned", linear((0.1, 0.2)), None, replace(results.best.test, scores=scores))
    return replace(results, models=(*results.models, rival))


def test_the_chosen_member_of_a_front_is_named(tmp_path: Path) -> None:
    said = told(results_of(tmp_path / "run", "front"))
    assert said == ["The evolved merge is candidate 3, the knee of a front of 4; recipes of all are in front/."]


def test_a_front_of_one_and_one_number_of_several_have_nothing_to_name(tmp_path: Path) -> None:
    assert not any("front" in line for line in told(results_of(tmp_path / "one", "one")))
    assert not any("front" in line for line in told(results_of(tmp_path / "sum", "weighted_sum")))


def test_a_constraint_that_is_missed_on_the_test_split_is_told_and_one_that_is_kept_is_not(tmp_path: Path) -> None:
    results = results_of(tmp_path / "run", "constrained")
    said = [line for line in told(results) if line.startswith("Constraint")]
    assert said == [
        "Constraint: en/accuracy at least 50.0 %; kept on the search split (50.0 %) and missed on the test split (40.0 %)."
    ]


def test_who_is_above_the_evolved_merge_in_everything_is_told(tmp_path: Path) -> None:
    results = results_of(tmp_path / "run", "front")
    assert results.best is not None
    assert results.best.test is not None
    scores = results.best.test.scores
    all_solved = np.where(np.isnan(scores), np.nan, np.maximum(scores, 1.0))
    above = told(with_baseline(results, all_solved))[-1]
    assert above.startswith(
        "'ties, un-tuned' scores above the evolved merge in ja/accuracy and en/accuracy and nowhere below it (p = 0.0"
    )
    assert "chance" not in above
    one_more = scores.copy()
    one_more[10, SEVERAL.index("ja/accuracy")] = 1.0  # the evolved merge solves 10 of 20
    assert told(with_baseline(results, one_more))[-1].endswith(", which chance alone could explain.")
    one_more[20, SEVERAL.index("en/accuracy")] = 0.0  # and one fewer in the other
    assert not any("ties" in line for line in told(with_baseline(results, one_more)))


def test_of_one_objective_no_objective_is_named(tmp_path: Path) -> None:
    results = results_of(tmp_path / "run", "one")
    assert results.best is not None
    assert results.best.test is not None
    solved = np.where(np.isnan(results.best.test.scores), np.nan, np.maximum(results.best.test.scores, 1.0))
    (line,) = (line for line in told(with_baseline(results, solved)) if "ties" in line)
    assert line.startswith("'ties, un-tuned' scores above the evolved merge (p = ")
