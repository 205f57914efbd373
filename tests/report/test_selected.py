"""What a report says of the choice of the best, and of objectives without chance in them."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from evo_merge.report.results import read_results
from evo_merge.report.summary import summarise
from evo_merge.report.write import write_report
from evo_merge.study import Study, opened

MakeRun = Callable[..., Path]


def test_the_score_that_chose_is_corrected_for_the_choice(make_run: MakeRun) -> None:
    folder = make_run()
    with opened(Study.read(folder)) as study:
        summary = summarise(read_results(study))
        write_report(folder, study)
    selection = summary["search"]["selection"]
    assert (selection["split"], selection["n_candidates"], selection["n_problems"]) == ("search", 17, 40)  # one failed
    assert selection["observed"] == pytest.approx(summary["search"]["best"])
    assert selection["corrected"] < selection["observed"]
    said = f"the best of 17 by its score on 40 search problems, {100 * selection['observed']:.1f}"
    assert said in (folder / "report.html").read_text(encoding="utf-8")


def test_differences_have_intervals_and_one_rule_for_p(make_run: MakeRun) -> None:
    with opened(Study.read(make_run())) as study:
        paired = summarise(read_results(study))["test"]["paired"]
    for pair in paired.values():
        low, high = pair["interval"]
        assert low <= pair["difference"] <= high
        assert pair["p"] <= pair["p_adjusted"] == pair["p_holm"]


def test_a_second_choice_doubles_every_p(make_run: MakeRun) -> None:
    with opened(Study.resume(make_run())) as study:
        once = summarise(read_results(study))["test"]["paired"]
        study.set("choices", json.dumps([0, 1]))
        twice = summarise(read_results(study))["test"]["paired"]
    assert [pair["p_adjusted"] for pair in twice.values()] == pytest.approx(
        [min(1.0, 2 * pair["p_adjusted"]) for pair in once.values()]
    )


def test_a_number_of_the_recipe_has_no_interval_and_no_p(make_run: MakeRun) -> None:
    folder = make_run()
    with opened(Study.resume(folder)) as study:
        metrics = json.dumps(["few_sources", "language_ok"])  # as if the first column had been that number
        study._db.execute("UPDATE evaluations SET metrics = ?", (metrics,))
        study._db.commit()
        study.set("objectives", json.dumps(["few_sources"]))
        results = read_results(study)
        summary = summarise(results)
        write_report(folder, study)
    assert results.selected is None
    assert summary["test"]["best"]["interval"] is None
    assert all(pair["interval"] is pair["p"] is pair["p_adjusted"] is None for pair in summary["test"]["paired"].values())
    page = (folder / "report.html").read_text(encoding="utf-8")
    assert "It was chosen as the best" not in page
    assert "beats the best source" in page
