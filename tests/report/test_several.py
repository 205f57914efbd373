"""Reports of runs with several objectives: each by itself, the front, one number made of them, constraints."""

import html
import io
import itertools
import json
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
from rich.console import Console

from evo_merge.evaluation.base import failed
from evo_merge.recipe import ParameterRule
from evo_merge.recipe_file import from_record
from evo_merge.report.figures.answer_sheet import answer_sheet
from evo_merge.report.figures.front import front_figure
from evo_merge.report.figures.hypervolume import hypervolume_figure
from evo_merge.report.html import FIGURES
from evo_merge.report.hypervolumes import hypervolumes, reference_point
from evo_merge.report.model_card import model_card
from evo_merge.report.narrative import Narrative
from evo_merge.report.narrative_several import narrate_several
from evo_merge.report.results import Model, RunResults, read_results
from evo_merge.report.summary import summarise
from evo_merge.report.wording import recipe_in_words
from evo_merge.report.write import write_report
from evo_merge.statistics.correction import holm
from evo_merge.statistics.intervals import wilson
from evo_merge.statistics.paired import paired_test
from evo_merge.study import Study, opened
from evo_merge.study_records import Entrant
from evo_merge.tasks.base import Portion
from evo_merge.trackers.table import result_table
from several_run import N_PART, SEVERAL, WEIGHTS, linear, write_several_run

SVG = "{http://www.w3.org/2000/svg}"
FRONT = [1, 2, 3, 4]
JA, EN, BREVITY = SEVERAL


def results_of(folder: Path, kind: str, **options: Any) -> RunResults:
    if not folder.exists():
        write_several_run(folder, kind, **options)
    with opened(Study.read(folder)) as study:
        return read_results(study)


def summary_of(folder: Path, kind: str, **options: Any) -> dict[str, Any]:
    return summarise(results_of(folder, kind, **options))


def page_of(folder: Path, kind: str | None, **options: Any) -> str:
    """What a reader sees of the run, which is made unless ``kind`` is ``None``."""
    if kind is not None:
        write_several_run(folder, kind, **options)
    with opened(Study.read(folder)) as study:
        write_report(folder, study)
    text = (folder / "report.html").read_text(encoding="utf-8")
    body = re.sub("<[^>]+>", " ", text[text.index("<main>") : text.index("</main>")])
    return " ".join(html.unescape(body).replace("\N{NO-BREAK SPACE}", " ").split())


def texts(figure: Any, tag: str = "text") -> list[str]:
    root = ElementTree.fromstring(figure.standalone())
    return ["".join(found.itertext()).replace("\N{NO-BREAK SPACE}", " ") for found in root.iter(f"{SVG}{tag}")]


def solved(weight: float, fewer: int = 2) -> np.ndarray[Any, np.dtype[np.float64]]:
    """What a candidate of that weight has on the problems of one part, on the test split unless ``fewer`` is 0."""
    return (np.arange(N_PART) < max(0, round(weight * N_PART) - fewer)).astype(float)


def test_each_objective_has_the_numbers_of_its_own_problems(tmp_path: Path) -> None:
    test = summary_of(tmp_path / "run", "front")["test"]
    assert list(test["objectives"]) == [JA, EN]
    best = WEIGHTS[3]
    everyone = {"ja": (0.8, 0.0), "en": (0.0, 0.8), "linear, un-optimised": (0.5, 0.5)}
    expected = {}
    for part, name in enumerate((JA, EN)):
        found = test["objectives"][name]
        assert found["n"] == N_PART
        assert found["best"]["score"] == pytest.approx(best[part] - 0.1)
        bounds = wilson(round(best[part] * N_PART) - 2, N_PART)
        assert found["best"]["interval"] == [bounds.low, bounds.high]
        assert {n: s["score"] for n, s in found["front"].items()} == pytest.approx(
            {f"candidate {number}": max(0.0, WEIGHTS[number][part] - 0.1) for number in (1, 2, 4)}
        )
        for other, weights in everyone.items():
            expected[name, other] = paired_test(solved(best[part]), solved(weights[part]))
    corrected = dict(zip(expected, holm([found.p for found in expected.values()]), strict=True))
    for (name, other), found in expected.items():
        pair = test["objectives"][name]["paired"][other]
        assert (pair["difference"], pair["p"], pair["p_holm"]) == (found.difference, found.p, corrected[name, other])


def test_the_keys_of_one_objective_are_about_the_first(tmp_path: Path) -> None:
    summary = summary_of(tmp_path / "run", "front")
    first = summary["test"]["objectives"][JA]
    assert summary["objective"] == JA
    assert {key: summary["test"][key] for key in ("n", "sources", "unoptimised", "paired")} == {
        key: first[key] for key in ("n", "sources", "unoptimised", "paired")
    }
    assert summary["test"]["best"]["score"] == first["best"]["score"]
    assert from_record(summary["test"]["best"]["recipe"]) == linear(WEIGHTS[3])
    assert (summary["objectives"], summary["fitness"]) == ([JA, EN], [JA, EN])
    json.dumps(summary, allow_nan=False)


def test_the_front_and_its_growth_are_in_the_summary(tmp_path: Path) -> None:
    search = summary_of(tmp_path / "run", "front")["search"]
    assert [member["number"] for member in search["front"]] == FRONT
    for member in search["front"]:
        weights = WEIGHTS[member["number"]]
        assert list(member["fitness"].values()) == pytest.approx(weights)
        assert list(member["test"].values()) == pytest.approx([max(0.0, weight - 0.1) for weight in weights])
    volume = search["hypervolume"]
    # By hand: 0.9 x 0.1 and what (0.2, 0.2) adds; then 0.9 x 0.1 + 0.6 x 0.5 + 0.1 x 0.3; then 0.1 x 0.4 for (0.7, 0.5).
    assert volume["by_generation"] == pytest.approx([0.11, 0.42, 0.46])
    assert volume["reference"] == [0.0, 0.0]
    assert volume["before"] == pytest.approx(0.25)


def test_an_unfinished_run_shows_the_front_so_far(tmp_path: Path) -> None:
    summary = summary_of(tmp_path / "run", "front", is_finished=False)
    assert [member["number"] for member in summary["search"]["front"]] == FRONT
    assert "test" not in summary
    said = page_of(tmp_path / "page", "front", is_finished=False)
    assert "The Pareto front so far" in said
    assert (
        "The front so far has 4 members; its knee, candidate 3, scores 60.0 % in ja/accuracy and 60.0 % in en/accuracy" in said
    )
    assert "evo_merge.build" not in said


@pytest.mark.parametrize("name", ["scores", "front", "hypervolume", "fitness", "genes", "answer_sheet"])
@pytest.mark.parametrize("objectives", [SEVERAL[:2], SEVERAL])
@pytest.mark.parametrize("width", [880.0, 360.0])
def test_every_figure_is_valid_svg_inside_its_frame(
    tmp_path: Path, name: str, objectives: tuple[str, ...], width: float
) -> None:
    figure = FIGURES[name](results_of(tmp_path / "run", "front", objectives=objectives), width)
    assert figure is not None
    root = ElementTree.fromstring(figure.inline())
    assert "var(" not in figure.standalone()
    for text in root.iter(f"{SVG}text"):
        assert 0 <= float(text.get("x", "nan")) <= width
        assert 0 <= float(text.get("y", "nan")) <= figure.height


def test_the_front_tells_every_point(tmp_path: Path) -> None:
    figure = front_figure(results_of(tmp_path / "run", "front"), 880.0)
    assert figure is not None
    told = texts(figure, "title")
    for number, weights in enumerate(WEIGHTS):
        start = f"candidate {number}, generation {number // 2}: ja/accuracy {100 * weights[0]:.1f} %"
        found = next(title for title in told if title.startswith(start))
        assert recipe_in_words(linear(weights)) in found
    assert [title for title in told if title.startswith("ja (source model): ja/accuracy 80.0 %, en/accuracy 0.0 %")]
    assert len([title for title in told if "on the test split" in title]) == len(FRONT)
    root = ElementTree.fromstring(figure.inline())
    marks = [circle.get("class") for circle in root.iter(f"{SVG}circle") if circle.find(f"{SVG}title") is not None]
    assert (marks.count("ring"), marks.count("open")) == (1, len(FRONT))


def test_the_staircase_runs_along_the_front_and_leaves_nobody_outside(tmp_path: Path) -> None:
    figure = front_figure(results_of(tmp_path / "run", "front"), 880.0)
    assert figure is not None
    root = ElementTree.fromstring(figure.inline())
    drawn = next(path.get("d", "") for path in root.iter(f"{SVG}path") if path.get("class") == "line")
    steps = [tuple(map(float, point.split())) for point in drawn.removeprefix("M").split("L")]
    marked = [
        (float(circle.get("cx", "nan")), float(circle.get("cy", "nan")))
        for circle in root.iter(f"{SVG}circle")
        if circle.findtext(f"{SVG}title", "").startswith("candidate")
        and "on the test" not in circle.findtext(f"{SVG}title", "")
    ]
    assert len(marked) == len(WEIGHTS)
    corners = [point for point in marked if any(np.allclose(point, step, atol=0.02) for step in steps)]
    assert len(corners) == len(FRONT)
    for (ax, ay), (bx, by) in itertools.pairwise(steps):
        assert ax == bx or ay == by  # only level and upright
        assert bx >= ax  # to the right
        assert by >= ay  # and down
    for x, y in marked:  # somebody on the line is at least as far right and as high up
        assert any(cx >= x - 0.02 and cy <= y + 0.02 for cx, cy in corners)


def test_three_objectives_are_drawn_pair_by_pair(tmp_path: Path) -> None:
    results = results_of(tmp_path / "run", "front", objectives=SEVERAL)
    figure = front_figure(results, 880.0)
    assert figure is not None
    assert [text for text in texts(figure) if text.endswith(("↑", "→"))] == [
        f"{EN} ↑", f"{JA} →", f"{BREVITY} ↑", f"{JA} →", f"{BREVITY} ↑", f"{EN} →",
    ]  # fmt: skip
    assert results.hypervolumes is not None
    assert results.hypervolumes.is_worst == (False, False, True)
    assert results.hypervolumes.reference[2] == min(c.fitness[2] for c in results.candidates)


def test_the_hypervolume_counts_what_keeps_to_the_constraints_only(tmp_path: Path) -> None:
    assert results_of(tmp_path / "run", "constrained").hypervolumes is not None
    volumes = results_of(tmp_path / "run", "constrained").hypervolumes
    assert volumes is not None
    assert volumes.by_generation == pytest.approx([0.0, 0.0, 0.85 * 0.5])
    assert volumes.before == 0.0  # the sources and the un-optimised merge miss a constraint each
    assert results_of(tmp_path / "none", "infeasible").hypervolumes is None


def test_a_hypervolume_never_shrinks_and_needs_a_score() -> None:
    rows = [[tuple(row)] for row in np.random.default_rng(0).random((30, 3)).tolist()]
    found = hypervolumes(rows, [])
    assert found is not None
    assert all(a <= b for a, b in itertools.pairwise(found.by_generation))
    assert found.by_generation[0] == pytest.approx(float(np.prod(rows[0][0])))
    assert hypervolumes([[]], [(0.5, 0.5)]) is None


def test_the_reference_point_is_0_for_fractions_and_else_the_worst_value() -> None:
    assert reference_point([(0.5, -3.0, 1.0), (0.2, 0.5, 2.0)]) == (0.0, -3.0, 1.0)
    assert reference_point([]) == ()


def test_the_page_says_what_was_found(tmp_path: Path) -> None:
    said = page_of(tmp_path / "run", "front")
    assert (
        "A front of 4 merges. The one at its knee does not clearly differ from the best source in ja/accuracy and en/accuracy. "
    ) in said
    assert "In ja/accuracy and en/accuracy it does not clearly differ from the best source and the un-optimised merge." in said
    assert "Nowhere below it" not in said
    assert "candidate 3, is the knee, furthest from the line through its ends." in said
    assert "4 candidates are on the Pareto front" in said
    assert "ja/accuracy, 20 test problems: 50.0 % (95 % interval" in said
    assert "20.0 points below ja (70.0 %, p = " in said
    assert "Values of p are corrected for the 6 comparisons of all objectives" in said
    for number in FRONT:
        assert f"front/{number}.yaml" in said
    assert f"python -m evo_merge.build recipe={tmp_path / 'run'}/front/1.yaml out=merged" in said
    assert "here from 0 in ja/accuracy and 0 in en/accuracy" in said
    assert "It ends at 0.46." in said
    assert "this report is about the first" not in said


def test_answer_sheets_name_the_problems_of_their_own_part(tmp_path: Path) -> None:
    figure = answer_sheet(results_of(tmp_path / "run", "front", objectives=SEVERAL), 880.0)
    assert figure is not None
    told = texts(figure, "title")
    assert {title.split("-")[0] for title in told[:N_PART]} == {"ja/test"}
    assert {title.split("-")[0] for title in told[N_PART:]} == {"en/test"}
    assert len(told) == 2 * N_PART  # lengths of answers have no sheet
    assert not [text for text in texts(figure) if text == BREVITY]


def test_one_objective_of_several_tasks_is_about_its_own_problems(tmp_path: Path) -> None:
    summary = summary_of(tmp_path / "run", "one")
    assert summary["test"]["n"] == N_PART
    assert "objectives" not in summary["test"]
    assert "front" not in summary["search"]
    said = page_of(tmp_path / "page", "one")
    assert "Mean en/accuracy on 20 problems" in said
    assert "its score on the 20 problems of the search split" in said
    assert "Problem en/test-0" in said
    assert "ja/test-" not in said


def test_one_number_of_several_objectives_is_named_and_compared_with_like(tmp_path: Path) -> None:
    results = results_of(tmp_path / "run", "weighted_sum")
    summary = summarise(results)
    assert summary["fitness"] == ["weighted_sum"]
    assert summary["search"]["best"] == pytest.approx(2 * 0.7 + 0.5)
    assert summary["search"]["sources"] == pytest.approx({"ja": 1.6, "en": 0.8})
    assert "front" not in summary["search"]
    figure = FIGURES["fitness"](results, 880.0)
    assert figure is not None
    assert [text for text in texts(figure) if text.startswith("ja")] == ["ja1.600"]
    said = page_of(tmp_path / "page", "weighted_sum")
    assert "weighted_sum, 2 times ja/accuracy plus 1 times en/accuracy" in said
    assert "The Pareto front" not in said
    assert summary["test"]["objectives"][EN]["best"]["score"] == pytest.approx(0.4)


def test_constraints_are_checked_on_both_splits(tmp_path: Path) -> None:
    summary = summary_of(tmp_path / "run", "constrained")
    assert summary["constraints"][EN]["search"] == {"least": 0.5, "reached": 0.5, "kept": True}
    assert summary["constraints"][EN]["test"] == {"least": 0.5, "reached": 0.4, "kept": False}
    assert summary["constraints"][JA]["at_least"] == "ja"
    assert summary["constraints"][JA]["test"] == {"least": 0.7, "reached": 0.75, "kept": True}
    assert summary["search"]["missed_constraints"] == 5
    said = page_of(tmp_path / "page", "constrained")
    assert (
        "Constraint: en/accuracy at least 50.0 %; kept on the search split (50.0 %) and missed on the test split (40.0 %)."
        in said
    )
    assert "5 candidates of 6 missed a constraint." in said
    assert "ring is the whole front: none of the candidates that keep to the constraints is better than it in an" in said
    assert "All candidates by objective" in said  # a front of one is no chapter
    assert "The Pareto front" not in said
    assert "misses the constraints by" in said
    assert "candidate, number 5, is in no objective worse than any of all that were tried and keep to the constraints" in said


def test_the_console_has_a_column_for_each_objective(tmp_path: Path) -> None:
    console = Console(file=io.StringIO(), width=120)
    console.print(result_table(summary_of(tmp_path / "run", "front")))
    lines = console.file.getvalue().splitlines()  # type: ignore[attr-defined]
    assert "ja/accuracy (20 examples)" in lines[2]
    assert "en/accuracy (20 examples)" in lines[2]
    rows = {line.split("  ")[1].strip(): line for line in lines[4:] if line.strip()}
    assert list(rows)[-1] == "evolved merge"
    assert rows["candidate 1, on the front"].count("%") == 2
    assert "70.0 % (-20.0, 0.50)" in rows["ja"]  # 0.125 and 0.00195 of the tests, corrected by Holm as on the page
    assert "0.0 % (+50.0, 0.012)" in rows["ja"]
    assert "p (Holm)" in lines[0]


def test_the_card_has_a_table_for_each_objective(tmp_path: Path) -> None:
    card = model_card(summary_of(tmp_path / "run", "front"), linear(WEIGHTS[3]), name="tiny", licences={})
    assert card.count("| **evolved merge** |") == 2
    assert "### en/accuracy" in card
    assert "one of 4 merges that are on the Pareto front of all candidates." in card
    assert "type: en/accuracy" in card


def test_the_card_tells_the_constraints_and_which_was_missed(tmp_path: Path) -> None:
    summary = summary_of(tmp_path / "run", "constrained")
    card = model_card(summary, linear(WEIGHTS[3]), name="tiny", licences={}).replace("\N{NO-BREAK SPACE}", " ")
    results, limits = card.split("## Results")[1].split("## Use")[0], card.split("## Limits")[1].split("## Licence")[0]
    missed = "Constraint: en/accuracy at least 50.0 %; kept on the search split (50.0 %) and missed on the test split (40.0 %)."
    kept = "- Constraint: ja/accuracy at least that of ja; kept on the search split (85.0 %, at least 80.0 % wanted)"
    assert f"- {missed}" in results
    assert kept in results
    assert f"**It misses a constraint on the test split.** {missed}" in limits
    assert "ja/accuracy" not in limits
    assert "the only merge that is on the Pareto front of all candidates that keep to the constraints." in results
    finalists = model_card(summary | {"selection": "validation"}, linear(WEIGHTS[3]), name="tiny", licences={})
    assert "of the finalists that keep to the constraints, by their scores on the validation split." in finalists


def test_a_run_in_which_none_keeps_to_the_constraints_names_the_nearest(tmp_path: Path) -> None:
    said = page_of(tmp_path / "run", "infeasible")
    assert "No candidate keeps to the constraints, so no merge has been chosen; the nearest is candidate 4 with " in said
    assert "en/accuracy 50.0 % (at least 50.0 % wanted) and ja/accuracy 70.0 % (at least 80.0 % wanted)." in said
    assert "The nearest candidate scores 70.0 % in ja/accuracy and 50.0 % in en/accuracy" in said
    for untrue in ("not finished", "best candidate", "best so far", "chosen one", "the front:", "knee,"):
        assert untrue not in said


def test_a_run_in_which_no_finalist_keeps_to_the_constraints_says_so(tmp_path: Path) -> None:
    write_several_run(tmp_path / "run", "constrained", is_finished=False)
    with opened(Study.resume(tmp_path / "run")) as study:
        study.set("selection", "validation")
        for number, missed in ((5, 0.2), (4, 0.1)):
            recipe = study.candidate(number).recipe
            found = study.evaluation(recipe, "search")
            assert found is not None
            study.record_evaluation(recipe, Portion("validation"), replace(found, violation=missed))
    said = page_of(tmp_path / "run", None)
    assert "No finalist keeps to the constraints on the validation split, so no merge has been chosen; the nearest is" in said
    assert "the nearest is candidate 4. Everything below" in said
    assert "not finished" not in said


def test_of_one_objective_the_nearest_is_not_called_the_best(tmp_path: Path) -> None:
    write_several_run(tmp_path / "run", "infeasible", objectives=[EN])
    said = page_of(tmp_path / "run", None)
    assert "the nearest is candidate 4 with en/accuracy 50.0 %" in said
    assert "The nearest candidate scores 50.0 % on the 20 problems of the search split." in said
    for untrue in ("not finished", "best candidate", "best so far"):
        assert untrue not in said


def test_a_front_of_one_member_so_far_has_no_knee(tmp_path: Path) -> None:
    said = page_of(tmp_path / "run", "constrained", is_finished=False)
    assert "The front so far has one member, candidate 5, which scores 85.0 % in ja/accuracy and 50.0 % in en/accuracy" in said


def test_a_run_killed_before_its_sources_were_scored_still_has_a_report(tmp_path: Path) -> None:
    with opened(Study.create(tmp_path)) as study:
        study.set("objectives", json.dumps([JA, EN]))
        study.set("constraints", json.dumps({JA: "ja", EN: 0.5}))
    said = page_of(tmp_path, None)
    assert "Constraint: ja/accuracy at least that of ja; nothing was scored yet." in said
    assert "This run is not finished" in said


def test_a_constraint_of_a_source_that_failed_says_so(tmp_path: Path) -> None:
    write_several_run(tmp_path / "run", "constrained")
    with opened(Study.resume(tmp_path / "run")) as study:
        study.drop_entrant("source")
        broken = linear((0.8, 0.01))
        study.record_entrant(Entrant("source", "ja", broken))
        study.record_evaluation(broken, Portion("test"), failed(SEVERAL, 2, "weights became NaN"))
    said = page_of(tmp_path / "run", None)
    assert "Constraint: ja/accuracy at least that of ja; its source could not be scored on the test split." in said


def test_a_baseline_that_is_better_in_every_objective_is_in_the_headline(tmp_path: Path) -> None:
    results = results_of(tmp_path / "run", "front")
    assert results.best is not None
    assert results.best.test is not None
    scores = results.best.test.scores

    def told(*better: np.ndarray[Any, Any]) -> Narrative:
        beside = [
            Model("baseline", f"{name}, un-tuned", linear((0.1, place)), None, replace(results.best.test, scores=found))
            for place, (name, found) in enumerate(zip(("ties", "task_arithmetic"), better, strict=False))
        ]
        changed = replace(results, models=(*results.models, *beside))
        return narrate_several(changed, summarise(changed))

    all_solved = np.where(np.isnan(scores), np.nan, np.maximum(scores, 1.0))
    one_more = scores.copy()
    one_more[10, 0] = 1.0  # best solves 10 of 20
    both = told(one_more, all_solved)
    assert both.verdict.endswith("Nowhere below it: the un-tuned merge task_arithmetic and the un-tuned merge ties.")
    assert (
        "Nowhere below it on the test split: the un-tuned merge task_arithmetic (above it in every objective, clearly in "
        "ja/accuracy and en/accuracy) and the un-tuned merge ties (above it in ja/accuracy, which chance alone could explain)."
    ) in both.result
    assert "is worse than the best un-tuned merge by another method" in told(all_solved).result
    one_more[N_PART, 1] = 0.0  # and one fewer in the other objective
    assert "Nowhere below it" not in told(one_more).verdict + told(one_more).result


def test_of_three_objectives_the_knee_has_the_greatest_sum(tmp_path: Path) -> None:
    said = page_of(tmp_path / "run", "front", objectives=SEVERAL)
    assert "is the knee: with each objective scaled from 0 to 1 over the front, its sum is the greatest." in said
    assert "furthest from the line" not in said


def test_one_objective_under_another_name_keeps_its_candidates(tmp_path: Path) -> None:
    said = page_of(tmp_path / "run", "weighted_sum", objectives=[EN])
    assert "nsga2 tried 6 candidates" in said
    assert "The chosen candidate is the best of 6 by its score" in said
    assert "search weighted_sum 1.900" in said


def test_a_recipe_is_told_in_a_line() -> None:
    assert recipe_in_words(linear((0.25, 0.5))) == "linear of ja (weight 0.25) and en (weight 0.5)"
    recipe = linear((0.25, 0.5))
    several = (
        ParameterRule(("a.*",), {"weight": (0.1, 0.2), "t": 0.3}),
        ParameterRule(("*",), {"weight": (0.9, 0.2), "t": 0.4}),
    )
    two = type(recipe)(None, recipe.sources, "linear", {}, several, 7, "float32", "float32")
    assert recipe_in_words(two) == "linear of ja (weight 0.1 to 0.9) and en (weight 0.2), t 0.3 to 0.4"


def test_nothing_is_measured_where_one_number_decides(tmp_path: Path) -> None:
    results = results_of(tmp_path / "run", "weighted_sum")
    assert front_figure(results, 880.0) is None
    assert hypervolume_figure(results, 880.0) is None
    assert results.hypervolumes is None


def test_the_command_loads_no_torch_for_a_front(tmp_path: Path) -> None:
    write_several_run(tmp_path / "run", "front")
    code = (
        "import sys, runpy\n"
        f"sys.argv = ['report', {str(tmp_path / 'run')!r}]\n"
        "try: runpy.run_module('evo_merge.report', run_name='__main__')\n"
        "except SystemExit as end: assert end.code == 0, end.code\n"
        "assert not {'torch', 'transformers', 'lightning', 'huggingface_hub'} & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)
    assert (tmp_path / "run" / "figures" / "front.svg").is_file()
