"""The numbers of ``summary.json``."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from evo_merge.recipe import from_record
from evo_merge.report.results import read_results
from evo_merge.report.statistics import paired_test, wilson
from evo_merge.report.summary import summarise
from evo_merge.study import Study, opened
from evo_merge.tasks.base import Portion

MakeRun = Callable[..., Path]


def test_a_finished_run_has_the_keys_of_the_design(make_run: MakeRun) -> None:
    with opened(Study.read(make_run())) as study:
        summary = summarise(read_results(study))
        best = next(e for e in study.entrants() if e.role == "best")
        ja = next(e for e in study.entrants() if e.name == "ja")
        best_scores = study.evaluation(best.recipe, "test").column("score")
        ja_scores = study.evaluation(ja.recipe, "test").column("score")
    for key in ("task", "merge", "optimizer", "seed", "evaluations", "seconds", "objective", "test", "search"):
        assert key in summary
    assert (summary["task"], summary["seed"], summary["evaluations"]) == ("tiny_ja_math", 3, 18)
    test = summary["test"]
    assert test["n"] == 60
    assert list(test["sources"]) == ["ja", "math_a", "math_b"]
    assert list(test["unoptimised"]) == ["dare_ties at 0.5", "linear", "ties"]
    assert list(test["paired"]) == [*test["sources"], *test["unoptimised"]]
    assert from_record(test["best"]["recipe"]) == best.recipe
    assert test["best"]["score"] == pytest.approx(best_scores.mean())
    bounds = wilson(int(ja_scores.sum()), 60)
    assert test["sources"]["ja"]["interval"] == [bounds.low, bounds.high]
    expected = paired_test(best_scores, ja_scores)
    assert test["paired"]["ja"]["difference"] == expected.difference
    assert test["paired"]["ja"]["p"] == expected.p
    assert test["paired"]["ja"]["p_holm"] >= expected.p
    assert summary["failed_candidates"]["count"] == 1
    json.dumps(summary, allow_nan=False)


def test_the_search_score_is_the_chosen_candidates(make_run: MakeRun) -> None:
    with opened(Study.read(make_run())) as study:
        summary = summarise(read_results(study))
        chosen = study.candidates()[int(study.get("best_number") or -1)]
        assert summary["search"]["best"] == study.evaluation(chosen.recipe, "search").fitness[0]


def test_an_unfinished_run_has_no_test_scores(make_run: MakeRun) -> None:
    with opened(Study.read(make_run(is_finished=False))) as study:
        summary = summarise(read_results(study))
    assert "test" not in summary
    assert summary["finished"] is False
    assert summary["evaluations"] == 14
    assert summary["search"]["best"] > 0


def test_a_repeated_recipe_counts_once(make_run: MakeRun) -> None:
    with opened(Study.resume(make_run())) as study:
        again = study.candidates()[0]
        known = next(e.recipe for e in study.entrants() if e.role == "unoptimised")
        study.record_generation("", 2, Portion("search"), [again.genome, again.genome], [again.recipe, known])
        results = read_results(study)
    assert results.evaluations == 18
    assert [c.repeated for c in results.candidates[-2:]] == [True, True]


def test_a_run_killed_before_its_first_candidate_is_read_too(tmp_path: Path) -> None:
    with opened(Study.create(tmp_path)) as study:
        summary = summarise(read_results(study))
    assert summary["evaluations"] == 0
    assert summary["search"]["best"] is None
