"""The figures: valid SVG whatever the run, labels that do not collide, and the rules for what is left out."""

import json
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest

from evo_merge.genome import Gene
from evo_merge.report.figures.answer_sheet import answer_sheet, problem_groups
from evo_merge.report.figures.fitness import fitness_figure
from evo_merge.report.figures.genes import MOST_PANELS, genes_figure, shown_genes
from evo_merge.report.html import FIGURES
from evo_merge.report.results import RunResults, read_results, scores
from evo_merge.report.svg import spread, ticks
from evo_merge.study import Study, opened

MakeRun = Callable[..., Path]
SVG = "{http://www.w3.org/2000/svg}"


def results_of(folder: Path) -> RunResults:
    with opened(Study.read(folder)) as study:
        return read_results(study)


@pytest.mark.parametrize(
    ("kind", "name"),
    [("parameter", name) for name in FIGURES if name != "path"]
    + [(kind, name) for kind in ("dfs", "batches", "hybrid") for name in FIGURES],
)
@pytest.mark.parametrize("width", [880.0, 360.0])
def test_every_figure_is_valid_svg_inside_its_frame(
    make_run: MakeRun, make_path_run: Callable[[str], Path], kind: str, name: str, width: float
) -> None:
    figure = FIGURES[name](results_of(make_run() if kind == "parameter" else make_path_run(kind)), width)
    assert figure is not None
    ElementTree.fromstring(figure.standalone())
    root = ElementTree.fromstring(figure.inline())
    assert root.tag == f"{SVG}svg"
    assert root.get("viewBox") == f"0 0 {width:g} {figure.height:g}"
    assert "var(" not in figure.standalone()  # viewers without CSS variables show it too
    for text in root.iter(f"{SVG}text"):
        assert 0 <= float(text.get("x", "nan")) <= width
        assert 0 <= float(text.get("y", "nan")) <= figure.height
    assert list(root.iter(f"{SVG}title")) or (name, width) == (
        "answer_sheet",
        360.0,
    )  # its columns are too narrow to touch


def test_nothing_is_drawn_of_nothing(tmp_path: Path) -> None:
    study = Study.create(tmp_path)
    study.close()
    assert [draw(results_of(tmp_path), 880.0) for draw in FIGURES.values()] == [None] * len(FIGURES)


def test_an_unfinished_run_shows_its_search(make_run: MakeRun) -> None:
    results = results_of(make_run(is_finished=False))
    drawn = {name: draw(results, 880.0) for name, draw in FIGURES.items()}
    assert {name for name, figure in drawn.items() if figure is not None} == {"fitness", "genes"}


def test_sources_with_the_same_score_share_a_label(make_run: MakeRun) -> None:
    figure = fitness_figure(results_of(make_run()), 880.0)
    assert figure is not None
    texts = ["".join(t.itertext()) for t in ElementTree.fromstring(figure.standalone()).iter(f"{SVG}text")]
    assert [t for t in texts if t.startswith("math_a, math_b")]


def test_labels_are_pushed_apart_inside_their_bounds() -> None:
    assert spread([10, 50, 90], 15, 0, 100) == [10, 50, 90]
    assert spread([50, 50, 50], 10, 0, 100) == [40, 50, 60]
    assert spread([98, 99, 100], 10, 0, 100) == [80, 90, 100]
    assert spread([0, 2, 30], 10, 0, 100) == [0, 10, 30]
    random = np.random.default_rng(0)
    for _ in range(200):
        wished = sorted(random.uniform(0, 300, 12).tolist())
        placed = spread(wished, 15, 0, 300)
        assert np.diff(placed).min() >= 15 - 1e-9
        assert placed[0] >= -1e-9
        assert placed[-1] <= 300 + 1e-9


def test_ticks_are_round() -> None:
    assert ticks(0, 1, 5) == [0, 0.2, 0.4, 0.6, 0.8, 1.0]
    assert ticks(0, 1, 4) == [0, 0.25, 0.5, 0.75, 1.0]
    assert ticks(-3.2, 7.9, 5) == [-2.5, 0, 2.5, 5.0, 7.5]
    assert ticks(2, 2, 5) == [2]


def test_more_genes_than_panels_are_cut_to_those_that_moved(make_run: MakeRun) -> None:
    results = results_of(make_run())
    n = MOST_PANELS + 14
    genes = tuple(Gene(f"weight/{i}", 0.0, 1.0, 0.5) for i in range(n))
    ended = np.full(n, 0.5)
    moved = list(range(3, 3 + MOST_PANELS))
    ended[moved] = 0.9
    candidates = tuple(
        replace(c, genome=ended if c.number == results.best_number else np.full(n, 0.5)) for c in results.candidates
    )
    many = replace(results, genes=genes, candidates=candidates)
    assert shown_genes(many) == moved
    figure = genes_figure(many, 880.0)
    assert figure is not None
    assert f"The {MOST_PANELS} of {n} genes that ended furthest from where they started" in figure.standalone()


def test_genes_without_bounds_are_drawn(make_run: MakeRun) -> None:
    folder = make_run()
    study = Study.resume(folder)
    genes = [asdict(Gene(f"scale/{i}", -float("inf"), float("inf"), 0.0)) for i in range(3)]
    study.set("stages", json.dumps({"": genes}))
    study.close()
    figure = genes_figure(results_of(folder), 360.0)
    assert figure is not None
    assert "nan" not in figure.standalone()
    assert ">inf<" not in figure.standalone()


def test_the_answer_sheet_puts_every_problem_in_one_group(make_run: MakeRun) -> None:
    results = results_of(make_run())
    groups = problem_groups(results)
    assert sorted(problem for group in groups for problem in group.problems) == list(range(60))
    by_name = {model.name: scores(model.test, "score") for model in results.models}
    new = next(group for group in groups if group.label.startswith("new"))
    for problem in new.problems:
        # the sheet has the better of the two baselines, ties
        assert by_name["best"][problem] == 1
        assert all(by_name[name][problem] == 0 for name in ("ja", "math_a", "math_b", "dare_ties at 0.5", "ties"))


def test_five_hundred_problems_stay_a_small_file(make_run: MakeRun) -> None:
    results = results_of(make_run())
    models = tuple(
        replace(m, test=replace(m.test, scores=np.tile(m.test.scores, (9, 1)), completions=m.test.completions * 9))
        for m in results.models
        if m.test is not None
    )
    large = replace(results, models=models, test_examples=results.test_examples * 9)
    figure = answer_sheet(large, 880.0)
    assert figure is not None
    assert "Answer sheet of 540 test problems" in figure.description
    assert len(figure.standalone()) < 150_000
