"""The figures: valid SVG whatever the run, labels that do not collide, and the rules for what is left out."""

import itertools
import json
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest

from evo_merge.genome import Gene
from evo_merge.recipe import DataFlowRecipe, ModelReference, Source, Step
from evo_merge.report.answers.of_run import sheet_of
from evo_merge.report.answers.sheet import kinds
from evo_merge.report.figures.answer_sheet import answer_sheet, problem_groups, sheet_models
from evo_merge.report.figures.fitness import fitness_figure
from evo_merge.report.figures.genes import MOST_PANELS, genes_figure, shown_genes
from evo_merge.report.figures.path import path_figure
from evo_merge.report.html import FIGURES
from evo_merge.report.results import RunResults, read_results, scores
from evo_merge.report.svg import Figure, spread, ticks
from evo_merge.study import Study, opened

MakeRun = Callable[..., Path]
MakePathRun = Callable[[str], Path]
SVG = "{http://www.w3.org/2000/svg}"
OF_EVERY_RUN = [
    name for name in FIGURES if name not in ("archive", "mergeability", "front", "hypervolume")
]  # those have tests of their own


def results_of(folder: Path) -> RunResults:
    with opened(Study.read(folder)) as study:
        return read_results(study)


@pytest.mark.parametrize(
    ("kind", "name"),
    [("parameter", name) for name in OF_EVERY_RUN if name != "path"]
    + [(kind, name) for kind in ("dfs", "batches", "hybrid") for name in OF_EVERY_RUN],
)
@pytest.mark.parametrize("width", [880.0, 360.0])
def test_every_figure_is_valid_svg_inside_its_frame(
    make_run: MakeRun, make_path_run: MakePathRun, kind: str, name: str, width: float
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


def test_lost_is_in_the_figure_what_it_is_in_the_answers(make_run: MakeRun, make_path_run: MakePathRun) -> None:
    n_missed = 0
    for results in (results_of(make_run()), results_of(make_path_run("hybrid"))):
        by_word = {group.label.split(":")[0]: set(group.problems) for group in problem_groups(results)}
        sheet = sheet_of(results)
        found = kinds(sheet, sheet.of_role("best")[0])
        assert by_word.get("lost", set()) == set(found.lost)
        assert by_word.get("kept", set()) == set(found.kept)
        n_missed += len(by_word.get("missed", ()))
    assert n_missed, "problems that only an un-tuned merge solves are in these runs, and are not lost"


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


def texts_of(figure: Figure) -> list[str]:
    return ["".join(t.itertext()) for t in ElementTree.fromstring(figure.standalone()).iter(f"{SVG}text")]


def test_a_path_has_a_mark_and_a_tooltip_for_each_hop(make_path_run: MakePathRun) -> None:
    results = results_of(make_path_run("dfs"))
    figure = path_figure(results, 880.0)
    assert figure is not None
    assert results.path is not None
    root = ElementTree.fromstring(figure.standalone())
    tips = ["".join(t.itertext()) for t in root.iter(f"{SVG}title")]
    assert tips == [
        "hop 0: layer 0 of math_a",
        "hop 1: layer 1 of math_a, input times 1.5",
        "hop 2: layer 2 of ja, input times -0.5",
        "hop 3: layer 3 of ja, input times 1.02",
        "hop 4: layer 1 of ja",
        "hop 5: layer 3 of math_a, input times 2",
    ]
    hops = [g for g in root.iter(f"{SVG}g") if g.find(f"{SVG}title") is not None]
    assert [g.get("class") for g in hops] == ["model0", "model0", "model1", "model1", "model1", "model0"]
    radii = [float(g.findall(f"{SVG}circle")[0].get("r", "")) for g in hops if g.get("class") == "model0"]
    assert radii[1] ** 2 / radii[0] ** 2 == pytest.approx(1.5, rel=0.01)  # the area is the scale
    assert radii[2] ** 2 / radii[0] ** 2 == pytest.approx(2.0, rel=0.01)
    squares = [g.findall(f"{SVG}rect")[0].get("class") for g in hops if g.get("class") == "model1"]
    assert squares == ["open", "fill", "fill"]  # negative, positive, positive
    assert {"math_a", "ja", "scale 0.5", "scale 1", "scale 2", "open: negative scale"} <= set(texts_of(figure))


@pytest.mark.parametrize("width", [880.0, 360.0])
def test_a_path_of_a_hundred_hops_keeps_its_marks_apart(make_path_run: MakePathRun, width: float) -> None:
    results = results_of(make_path_run("dfs"))
    names = [f"Some-Long-Model-Name-7B-v{i}" for i in range(9)]
    models = tuple(Source(name, ModelReference(name)) for name in names)
    path = tuple(Step(names[hop % 9], hop * 7 % 32, (-1.0) ** hop * 1.3) for hop in range(110))
    long = replace(
        results, models=tuple(replace(m, recipe=DataFlowRecipe(models, path, "residual", "float32")) for m in results.models)
    )
    figure = path_figure(long, width)
    assert figure is not None
    root = ElementTree.fromstring(figure.standalone())
    places = [(float(c.get("cx", "")), float(c.get("cy", ""))) for c in root.iter(f"{SVG}circle") if c.get("class") == "hover"]
    assert len(places) == 110
    assert all(0 <= x <= width and 0 <= y <= figure.height for x, y in places)
    steps = [b[0] - a[0] for a, b in itertools.pairwise(places)]
    assert min(step for step in steps if step > 0) >= 9
    assert figure.height < 1_600
    looks = {
        (g.get("class"), *(c.tag for c in list(g)[1:2])) for g in root.iter(f"{SVG}g") if g.find(f"{SVG}title") is not None
    }
    assert len(looks) >= 6


def test_a_merge_of_weights_has_no_path(make_run: MakeRun, make_path_run: MakePathRun) -> None:
    assert path_figure(results_of(make_run()), 880.0) is None
    assert path_figure(results_of(make_path_run("stage")), 880.0) is None  # the chosen one is the first stage's


def test_stages_are_named_where_they_begin_and_go_on(make_path_run: MakePathRun) -> None:
    figure = fitness_figure(results_of(make_path_run("hybrid")), 880.0)
    assert figure is not None
    assert [t for t in texts_of(figure) if ">" in t or t in ("ps", "en")] == ["ps", "en", "ps>ja", "math_a>ja", "ps>ja"]
    tips = [t.text for t in ElementTree.fromstring(figure.standalone()).iter(f"{SVG}title")]
    assert "chosen: stage ps>ja, candidate 15, generation 1: 70.0\N{NO-BREAK SPACE}%" in tips


def test_scores_of_a_stages_own_task_are_not_the_best_so_far(make_path_run: MakePathRun) -> None:
    figure = fitness_figure(results_of(make_path_run("hybrid")), 880.0)
    assert figure is not None
    assert "best70.0\N{NO-BREAK SPACE}%" in texts_of(figure)  # not the 100 % of stage en


def test_generations_with_problems_of_their_own_have_no_best_so_far(make_path_run: MakePathRun) -> None:
    figure = fitness_figure(results_of(make_path_run("batches")), 880.0)
    assert figure is not None
    said = texts_of(figure)
    assert "best of each generation (ring: the chosen one)" in said
    assert "mean of each generation" in said
    assert not [t for t in said if "best so far" in t or t.startswith("best8")]


def test_genes_are_those_of_the_chosen_candidates_stage(make_path_run: MakePathRun) -> None:
    results = results_of(make_path_run("hybrid"))
    assert (results.stage, len(results.genes), len(results.of_stage)) == ("ps>ja", 4, 6)
    figure = genes_figure(results, 880.0)
    assert figure is not None
    names = ["slot/1/math_a.1", "slot/2/math_a.2", "slot/3", "scale/math_a.0>ja.1"]
    assert [t for t in texts_of(figure) if t in names] == names
    boxes = [r for r in ElementTree.fromstring(figure.inline()).iter(f"{SVG}rect") if r.get("class") == "panel"]
    assert len(boxes) == 2  # the two unbounded genes have none


def test_the_answer_sheet_knows_stages_and_the_ablation(make_path_run: MakePathRun) -> None:
    results = results_of(make_path_run("hybrid"))
    assert [model.role for model in sheet_models(results)][-3:] == ["stage", "ablation", "best"]
    columns = {model.role: scores(model.test, "score") for model in sheet_models(results) if model.role != "source"}
    sources = np.max([scores(m.test, "score") for m in results.of_role("source")], axis=0)
    by_word = {group.label.split(":")[0]: group.problems for group in problem_groups(results)}
    assert sorted(problem for problems in by_word.values() for problem in problems) == list(range(60))
    for problem in by_word["new"]:
        assert columns["best"][problem] == 1
        assert sources[problem] == columns["unoptimised"][problem] == columns["stage"][problem] == 0
    for problem in by_word.get("none of these solves it", ()):
        assert columns["ablation"][problem] == 0
    same = results_of(make_path_run("stage"))
    assert "stage" not in [model.role for model in sheet_models(same)]  # it is the evolved merge itself
