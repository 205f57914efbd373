"""The page: well-formed, complete without a network, and safe against what models say."""

import re
from collections.abc import Callable
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from evo_merge.genome import Gene
from evo_merge.recipe import ParameterRule, ParameterSpaceRecipe
from evo_merge.report.figures.genes import genes_figure
from evo_merge.report.html import render_html
from evo_merge.report.narrative import what_was_done
from evo_merge.report.results import read_results
from evo_merge.report.summary import summarise
from evo_merge.report.svg import clean
from evo_merge.report.write import write_report
from evo_merge.study import Study, opened
from evo_merge.study_records import Entrant

MakeRun = Callable[..., Path]
MakePathRun = Callable[[str], Path]
VOID = {"meta", "link", "br", "img", "hr", "input"}


class Outline(HTMLParser):
    """Checks that tags close in order, and gathers what a reader sees and what a browser would load."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.tags: list[str] = []
        self.loads: list[str] = []
        self.text: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.loads += [f"{tag} {key}={value}" for key, value in attrs if key in ("src", "href", "srcset", "data", "action")]
        assert not [key for key, _ in attrs if key.startswith("on")]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self.open.pop()

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] not in ("style", "title"):
            self.text.append(data)


def report_of(folder: Path) -> str:
    with opened(Study.read(folder)) as study:
        write_report(folder, study)
    return (folder / "report.html").read_text(encoding="utf-8")


def outline(page: str) -> Outline:
    found = Outline()
    found.feed(page)
    found.close()
    assert found.open == []
    return found


def words(page: str) -> str:
    return " ".join("".join(outline(page).text).replace("\N{NO-BREAK SPACE}", " ").split())


def test_a_finished_run_is_told_in_full(make_run: MakeRun) -> None:
    page = report_of(make_run())
    said = words(page)
    for heading in (
        "Final scores on the test split",
        "How the search went",
        "How each gene moved and where it ended",
        "The answer sheet",
        "What emerged, and what was lost",
        "The recipe",
        "How to read this",
        "Failed candidates",
    ):
        assert heading in said
    assert "cmaes tried 18 candidates" in said
    assert "above the best source, ja" in said
    assert "became NaN" in said
    assert "kind: parameter_space" in said
    assert "python -m evo_merge.build recipe=" in said
    assert "note: <config>" in said
    assert page.count("<svg") == 8  # four figures, each for a desk and for a phone


def test_what_models_say_is_only_text(make_run: MakeRun) -> None:
    page = report_of(make_run())
    assert "script" not in outline(page).tags
    assert "<script>alert('x')</script>" in words(page)
    assert "&lt;script&gt;alert" in page
    assert "\x00" not in page
    assert "\x1b" not in page


def test_the_page_loads_nothing(make_run: MakeRun) -> None:
    page = report_of(make_run())
    assert outline(page).loads == []
    styles = "".join(re.findall(r"<style>(.*?)</style>", page, re.S)) + "".join(re.findall(r'style="([^"]*)"', page))
    assert "@import" not in styles
    assert "url(" not in styles
    assert "default-src 'none'" in page


def test_a_merge_that_gained_nothing_is_not_praised(make_run: MakeRun) -> None:
    said = words(report_of(make_run(best_rate=0.05)))
    assert "The evolved merge does not clearly differ from the best source; it is worse than the un-optimised merge" in said
    assert "points below the un-optimised merge" in said


def test_an_unfinished_run_says_so(make_run: MakeRun) -> None:
    said = words(report_of(make_run(is_finished=False)))
    assert "This run is not finished: no merge has been chosen yet, and 4 proposed candidates are not scored." in said
    assert "Final scores" not in said
    assert "best candidate so far" in said


def test_a_run_killed_while_the_test_split_is_asked_shows_what_is_there(make_run: MakeRun) -> None:
    folder = make_run()
    with opened(Study.resume(folder)) as study:
        study.drop_entrant("best")
        untested = replace(study.candidates()[0].recipe, seed=99)
        study.record_entrant(Entrant("best", "best", untested))
    said = words(report_of(folder))
    assert "no test score of it" in said
    assert "Final scores on the test split" in said
    assert "a source solves it" in said


def test_a_run_without_a_single_candidate_gives_a_page(tmp_path: Path) -> None:
    study = Study.create(tmp_path)
    study.close()
    assert "This run is not finished" in words(report_of(tmp_path))


def test_graded_scores_are_not_called_percent(make_run: MakeRun) -> None:
    said = words(report_of(make_run(is_graded=True)))
    assert re.search(r"the evolved merge scores \d\.\d+ \(95 % interval \d", said)
    assert "Scores are not just right or wrong" in said


@pytest.mark.parametrize("text", ["\ud800", "\ufffe"])
def test_characters_that_no_file_can_hold_are_left_out(text: str) -> None:
    assert clean(f"a{text}b") == "ab"


def test_a_path_is_shown_and_its_words_explained(make_path_run: MakePathRun) -> None:
    page = report_of(make_path_run("dfs"))
    said = words(page)
    assert (
        "Layers 0 to 1 of math_a (inputs times 1 and 1.5), then 2 to 3 of ja (inputs times -0.5 and 1.02), then 1 of ja" in said
    )
    assert page.count("<svg") == 10
    assert re.search(r"Setting all its scales to 1 costs 60\.0 points \(it then scores 30\.0 %, p < 0\.0001\)\.", said)
    assert "all layers stacked, un-optimised (0.0 %" in said
    assert (
        "The search began at math_a, model A: 2 of the 5 candidates of generation 0 "
        "(40 %) have exactly that model's path, and on average "
        "they all score 30.0 %, where math_a itself scores 10.0 %."
    ) in said
    for word in ("Path, hop", "Scale", "Ablation"):
        assert word in outline(page).text
    assert "Stage" not in outline(page).text
    assert "weights are mixed" not in said
    assert "whether a layer is on the path" in said
    for box in ("unbounded", "on or off", "whole, 0 to 8"):
        assert box in outline(page).text


def test_a_hybrid_is_told_stage_by_stage(make_path_run: MakePathRun) -> None:
    page = report_of(make_path_run("hybrid"))
    said = words(page)
    assert "its stages: ps, en, ps>ja, math_a>ja." in said
    assert "en had a task of its own" in said
    assert "points above its own parameter-space stage, ps (60.0 %" in said
    assert "then 2 to 3 of ja" in said
    assert "ps is itself a merge, found by an earlier stage" in said
    assert "These are the genes of stage ps>ja" in said
    assert "1 of the 3 candidates of generation 0 (33 %) has exactly that model's path" in said
    assert "where ps itself scores 50.0 %" in said
    assert "The chosen candidate is the best of 15 by its score" in said  # the 2 of stage en were asked other problems
    assert re.search(r"candidates proposed, generations over all stages ?17, 6", said)
    assert "Stage" in outline(page).text
    assert "merge.budget.evaluations=" in said  # the pairs go on; an earlier stage that did would feed them something else


def test_a_hybrid_whose_first_stage_stays_the_best_says_so(make_path_run: MakePathRun) -> None:
    said = words(report_of(make_path_run("stage")))
    assert "No later stage found a better one: the evolved merge is that of its own parameter-space stage, ps." in said
    assert "its own parameter-space stage." not in said.split("models (")[0]  # no rival of itself in the verdict
    assert "The path of" not in said


def test_generations_with_problems_of_their_own_are_not_compared(make_path_run: MakePathRun) -> None:
    said = words(report_of(make_path_run("batches")))
    assert "Every generation was asked other problems of the search split, 10 of its 40" in said
    assert "So the choice was not made by these scores: the best of each generation was asked a validation split" in said
    assert "best so far" not in said
    assert "where math_a itself scores 10.0 % on the whole search split" in said


def test_thousands_of_genes_stay_a_small_page(make_path_run: MakePathRun) -> None:
    folder = make_path_run("dfs")
    with opened(Study.read(folder)) as study:
        results = read_results(study)
    n = 4_286
    genes = tuple(Gene(f"scale/some_model.{i}>another_model.{i}", -np.inf, np.inf, 0.0, span=0.6) for i in range(n))
    random = np.random.default_rng(0)
    candidates = tuple(replace(results.candidates[i % 5], number=i, genome=random.normal(0, 0.1, n)) for i in range(2_000))
    large = replace(results, genes=genes, candidates=candidates)
    page = render_html(large, summarise(large), folder)
    assert len(page.encode()) < 1_000_000
    said = words(page)
    assert "The 200 of 4,286 genes that ended furthest from where they started, as numbers" in said
    assert page.count("<td>scale/") == 200


def test_of_a_choice_the_most_frequent_value_is_told(make_path_run: MakePathRun) -> None:
    folder = make_path_run("dfs")
    with opened(Study.read(folder)) as study:
        results = read_results(study)
    slots = [5, 1, 3, 1, 3, *[7, 3, 7, 0, 3]]  # the last generation has 3 and 7 twice each
    moved = [np.array([0.25, 1.0, slot, 0.5]) for slot in slots]
    candidates = tuple(replace(c, genome=genome) for c, genome in zip(results.candidates, moved, strict=True))
    page = render_html(replace(results, candidates=candidates), summarise(results), folder)
    rows = {
        row[0]: row[3:] for row in (re.findall(r"<td[^>]*>([^<]*)</td>", row) for row in page.split("<tr>")) if len(row) == 5
    }
    assert rows["slot/3"] == ["3", "3"]
    assert rows["slot/1/math_a.1"] == ["0.250", "0.250"]
    assert rows["slot/2/math_a.2"] == ["on", "on"]
    figure = genes_figure(replace(results, candidates=candidates), 880.0)
    assert figure is not None
    panels = "".join(figure.body).split("<title>")[1:]
    means = {panel.partition(":")[0]: 'class="axis thick"' in panel for panel in panels}
    assert [name for name, has_mean in means.items() if not has_mean] == ["slot/3"]  # whose values have no order
    assert "of choices the most frequent" in words(page)


def test_the_models_of_the_chosen_recipe_are_counted(make_run: MakeRun) -> None:
    with opened(Study.read(make_run())) as study:
        results = read_results(study)
    assert what_was_done(results).startswith("3 models (ja, math_a and math_b) were merged by dare_ties;")
    recipe = results.models[0].recipe
    assert isinstance(recipe, ParameterSpaceRecipe)
    pair = replace(recipe, sources=recipe.sources[::2], parameters=(ParameterRule(("*",), {"weight": (0.5, 0.5)}),))
    models = tuple(replace(model, recipe=pair) if model.role == "best" else model for model in results.models)
    assert what_was_done(replace(results, models=models)).startswith("2 of 3 models (ja and math_b) were merged by dare_ties;")


def test_an_unfinished_hybrid_shows_the_leading_candidate_of_the_runs_own_task(make_path_run: MakePathRun) -> None:
    said = words(report_of(make_path_run("unfinished")))
    assert "The best candidate so far, number 15, scores 70.0 % on the 40 problems of the search split" in said
    assert "where ps itself scores 50.0 %" in said
    assert "The path of the best candidate so far" in said
    assert "Go on where the run stopped" in said
