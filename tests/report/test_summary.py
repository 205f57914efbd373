"""The numbers of ``summary.json``."""

import io
import json
from collections.abc import Callable
from pathlib import Path

import pytest
from rich.console import Console

from evo_merge.recipe_file import from_record
from evo_merge.report.results import read_results
from evo_merge.report.summary import summarise
from evo_merge.statistics.correction import holm
from evo_merge.statistics.intervals import wilson
from evo_merge.statistics.paired import paired_test
from evo_merge.study import Study, opened
from evo_merge.tasks.base import Portion
from evo_merge.trackers.table import result_table

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


def test_stages_and_the_ablation_are_compared_with_the_best(make_path_run: Callable[[str], Path]) -> None:
    with opened(Study.read(make_path_run("hybrid"))) as study:
        summary = summarise(read_results(study))
        by_role = {e.role: study.evaluation(e.recipe, "test").column("score") for e in study.entrants()}
    test = summary["test"]
    assert list(test["stages"]) == ["ps, parameter space alone"]
    assert test["ablation"]["evolved, all scales 1"]["score"] == by_role["ablation"].mean()
    assert set(test["ablation"]["evolved, all scales 1"]) == {"score", "interval"}
    assert list(test["unoptimised"]) == ["dare_ties, un-optimised"]
    others = [*test["sources"], *test["unoptimised"], *test["stages"], *test["ablation"]]
    assert list(test["paired"]) == others
    for role, name in (("stage", "ps, parameter space alone"), ("ablation", "evolved, all scales 1")):
        expected = paired_test(by_role["best"], by_role[role])
        assert (test["paired"][name]["difference"], test["paired"][name]["p"]) == (expected.difference, expected.p)
    corrected = holm([test["paired"][name]["p"] for name in others])
    assert [test["paired"][name]["p_holm"] for name in others] == corrected


def test_generations_are_counted_over_all_stages(make_path_run: Callable[[str], Path]) -> None:
    with opened(Study.read(make_path_run("hybrid"))) as study:
        search = summarise(read_results(study))["search"]
    assert (search["generations"], search["candidates"], search["stage"]) == (6, 17, "ps>ja")
    assert search["stages"]["ps>ja"] == {"generations": 2, "candidates": 6}
    assert search["best"] == 0.7


def test_a_run_of_one_stage_has_no_keys_of_stages(make_run: MakeRun) -> None:
    with opened(Study.read(make_run())) as study:
        summary = summarise(read_results(study))
    assert not {"stages", "ablation"} & set(summary["test"])
    assert not {"stages", "stage", "batches"} & set(summary["search"])


def test_the_console_names_stages_and_the_ablation(make_path_run: Callable[[str], Path]) -> None:
    with opened(Study.read(make_path_run("hybrid"))) as study:
        summary = summarise(read_results(study))
    console = Console(file=io.StringIO(), width=120)
    console.print(result_table(summary))
    rows = [line for line in console.file.getvalue().splitlines() if "%" in line and "interval" not in line]
    assert [row.split("  ")[1].strip() for row in rows] == [
        "ja",
        "math_a",
        "math_b",
        "dare_ties, un-optimised",
        "ps, parameter space alone",
        "evolved, all scales 1",
        "evolved merge",
    ]
    assert "+5.0 points" in rows[-2]
