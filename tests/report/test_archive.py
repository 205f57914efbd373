"""The archive of a run: recorded in a real study, written as recipes, and shown on the page."""

import json
import re
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest

from evo_merge.archive import HeldNiche, read_archive, record_archive, write_archive
from evo_merge.evaluation.base import Evaluation
from evo_merge.genome import Gene, Genome
from evo_merge.niches import ScoreBins
from evo_merge.optimizers.map_elites import MapElites
from evo_merge.optimizers.natural_niches import NaturalNiches
from evo_merge.optimizers.random import RandomSearch
from evo_merge.recipe import ModelReference, ParameterRule, ParameterSpaceRecipe, Source
from evo_merge.recipe_file import from_yaml
from evo_merge.report.archive import ALL, leads, together
from evo_merge.report.archive import read_archive as read_results_of_archive
from evo_merge.report.archive_wording import archive_words
from evo_merge.report.figures.archive import archive_figure, panels
from evo_merge.report.results import RunResults, read_results
from evo_merge.report.summary import summarise
from evo_merge.report.write import write_report
from evo_merge.study import Study, opened
from evo_merge.tasks.base import Example, Portion
from evo_merge.trackers.remarks import remarks

Archiving = MapElites | NaturalNiches
Made = Callable[[str], tuple[Path, Archiving]]
GENES = tuple(Gene(f"weight/{name}", 0.0, 1.0, 0.5) for name in ("ja", "math"))
NAMES = ("japanese", "english", "sums", "times")
N_EACH = 12  # problems an objective
SEARCH, TEST = Portion("search"), Portion("test")
VARIATION = {"population_size": 6, "n_random": 6, "mutation_sigma": 0.01, "mutation_spread": 0.4}


def map_elites(**changes: object) -> MapElites:
    options = {"quality": None, "n_bins": 5, "score_range": [0, 1], "parent_pressure": 0.8, "crossover_std": 0.01}
    return MapElites(GENES, 1, **{**VARIATION, **options, **changes})  # type: ignore[arg-type]


def natural_niches(**changes: object) -> NaturalNiches:
    return NaturalNiches(GENES, 1, **{**VARIATION, "archive_size": 8, "alpha": 1.0, **changes})  # type: ignore[arg-type]


def recipe_of(genome: Genome) -> ParameterSpaceRecipe:
    return ParameterSpaceRecipe(
        base=None,
        sources=tuple(Source(name, ModelReference(f"builtin:tiny_ja_math/{name}")) for name in ("ja", "math_a")),
        method="linear",
        options={},
        parameters=(ParameterRule(("*",), {"weight": tuple(genome.tolist())}),),
        seed=7,
        dtype="float32",
        out_dtype="float32",
    )


def answers(genome: Genome, n_objectives: int, *, is_graded: bool = False) -> Evaluation:
    """Problems of an objective are solved near a corner of the box of its own, the later the nearer."""
    corners = np.array([[0.0, 1.0], [1.0, 0.0], [1.0, 1.0], [0.0, 0.0]])[:n_objectives]
    reach = np.linspace(1.2, 0.1, N_EACH)
    scores = np.full((N_EACH * n_objectives, n_objectives), np.nan)
    for number, corner in enumerate(corners):
        margin = reach - np.linalg.norm(genome - corner)
        solved = 10 + 10 * np.tanh(margin) if is_graded else (margin > 0).astype(float)
        scores[number * N_EACH : (number + 1) * N_EACH, number] = solved
    return Evaluation(NAMES[:n_objectives], n_objectives, scores, ("答え",) * len(scores))


def search(
    folder: Path, optimizer: Archiving | RandomSearch, n_objectives: int, generations: int = 8, *, is_graded: bool = False
) -> Study:
    """A real search on analytic scores, recorded; the study is open."""
    study = Study.create(folder)
    described = {
        "stages": json.dumps({"": [asdict(gene) for gene in GENES]}),
        "objectives": json.dumps(NAMES[:n_objectives]),
        "task": "several",
        "merge": "linear",
        "optimizer": type(optimizer).__name__,
        "seed": "1",
    }
    for key, value in described.items():
        study.set(key, value)
    study.record_examples("search", [Example(f"p{i}", f"<b>{i}</b>?", str(i)) for i in range(N_EACH * n_objectives)])
    for generation in range(generations):
        genomes = optimizer.ask()
        recipes = [recipe_of(genome) for genome in genomes]
        study.record_generation("", generation, SEARCH, list(genomes), recipes)
        evaluations = [answers(genome, n_objectives, is_graded=is_graded) for genome in genomes]
        for recipe, evaluation in zip(recipes, evaluations, strict=True):
            if not study.is_evaluated(recipe, "search"):
                study.record_evaluation(recipe, SEARCH, evaluation)
        optimizer.tell(genomes, evaluations)
    record_archive(study, optimizer)
    return study


KINDS: dict[str, tuple[Callable[[], Archiving], int, bool]] = {
    "cyclic, 2 objectives": (map_elites, 2, False),
    "cyclic, 3 objectives": (map_elites, 3, False),
    "cyclic, 4 objectives": (map_elites, 4, False),
    "one quality": (lambda: map_elites(quality=1), 3, False),
    "one objective": (map_elites, 1, False),
    "natural niches": (natural_niches, 1, False),
    "natural niches, 2 objectives": (natural_niches, 2, False),
    "natural niches, graded": (natural_niches, 2, True),
    "cyclic, graded": (lambda: map_elites(score_range=[0, 20]), 2, True),
}
each_kind = pytest.mark.parametrize("kind", KINDS)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    """Makes each kind of run once: every commit of a study waits for the disk."""
    known: dict[str, tuple[Path, Archiving]] = {}

    def run_of(kind: str) -> tuple[Path, Archiving]:
        if kind not in known:
            make, n_objectives, is_graded = KINDS[kind]
            folder, optimizer = tmp_path_factory.mktemp("run"), make()
            search(folder, optimizer, n_objectives, is_graded=is_graded).close()
            known[kind] = folder, optimizer
        return known[kind]

    return run_of


def results_of(folder: Path) -> RunResults:
    with opened(Study.read(folder)) as study:
        return read_results(study)


# -- the record ----------------------------------------------------------------------------------------------------------------


@each_kind
def test_the_record_names_the_candidates_that_hold_the_niches(kind: str, made: Made) -> None:
    folder, optimizer = made(kind)
    with opened(Study.read(folder)) as study:
        record = read_archive(study)
        assert record is not None
        assert record.bins == optimizer.bins
        niches = optimizer.niches()
        assert len(niches) >= 4
        for kept, niche in zip(record.niches, niches, strict=True):
            assert (kept.quality, kept.cell) == (niche.quality, niche.cell)
            candidate = study.candidate(kept.candidate)
            assert np.array_equal(candidate.genome, niche.genome)
            evaluation = study.evaluation(candidate.recipe, "search")
            assert evaluation is not None
            np.testing.assert_allclose(evaluation.fitness, niche.fitness)


def test_an_optimizer_without_an_archive_records_and_writes_nothing(tmp_path: Path) -> None:
    with opened(search(tmp_path, RandomSearch(GENES, 1, population_size=6), 2, 2)) as study:
        assert read_archive(study) is None
        assert write_archive(tmp_path, study) == []
        assert not (tmp_path / "archive").exists()
        assert read_results(study).archive is None
        write_report(tmp_path, study)
    assert "The archive" not in (tmp_path / "report.html").read_text(encoding="utf-8")
    assert not (tmp_path / "figures" / "archive.svg").exists()


def test_each_stage_has_an_archive_of_its_own(tmp_path: Path) -> None:
    with opened(search(tmp_path, map_elites(), 2, 2)) as study:
        before = read_archive(study)
        other = natural_niches()
        genomes = other.ask()
        recipes = [recipe_of(genome) for genome in genomes]
        numbers = study.record_generation("later", 0, SEARCH, list(genomes), recipes)
        evaluations = [answers(genome, 2) for genome in genomes]
        for recipe, evaluation in zip(recipes, evaluations, strict=True):
            if not study.is_evaluated(recipe, "search"):
                study.record_evaluation(recipe, SEARCH, evaluation)
        other.tell(genomes, evaluations)
        record_archive(study, other, "later")
        later = read_archive(study, "later")
        assert read_archive(study) == before
        assert later is not None
        assert set(later.candidates) <= set(numbers)


def test_every_member_is_written_as_a_recipe_in_place_of_earlier_ones(tmp_path: Path) -> None:
    with opened(search(tmp_path, map_elites(), 2)) as study:
        record = read_archive(study)
        assert record is not None
        (tmp_path / "archive").mkdir()
        (tmp_path / "archive" / "99999.yaml").write_text("of an earlier session", encoding="utf-8")
        files = write_archive(tmp_path, study)
        assert sorted((tmp_path / "archive").iterdir()) == sorted(files)
        assert [int(path.stem) for path in files] == list(record.candidates)
        for path in files:
            assert from_yaml(path.read_text(encoding="utf-8")) == study.candidate(int(path.stem)).recipe


def test_a_replayed_search_records_the_same_archive(tmp_path: Path) -> None:
    with opened(search(tmp_path, map_elites(), 3)) as study:
        before = read_archive(study)
        again = map_elites()
        for generation in range(8):
            stored = [candidate for candidate in study.candidates() if candidate.generation == generation]
            asked = again.ask()
            assert np.array_equal(asked, np.stack([candidate.genome for candidate in stored]))
            found = [study.evaluation(candidate.recipe, "search") for candidate in stored]
            again.tell(asked, [evaluation for evaluation in found if evaluation is not None])
        record_archive(study, again)
        assert read_archive(study) == before


def test_bins_hold_their_lower_edge_and_what_lies_outside_the_range() -> None:
    bins = ScoreBins(4, -1.0, 1.0)
    scores = (-9.0, -1.0, -0.51, -0.5, 0.0, 0.99, 1.0, 9.0)
    assert [bins.bin_of(score) for score in scores] == [0, 0, 0, 1, 2, 3, 3, 3]
    assert [bins.edges(number) for number in range(4)] == [(-1.0, -0.5), (-0.5, 0.0), (0.0, 0.5), (0.5, 1.0)]


# -- all of them together ------------------------------------------------------------------------------------------------------


def evaluated(study: Study, rows: Sequence[Sequence[float]], portion: Portion = SEARCH) -> None:
    """Candidate i has the scores of row i on 4 problems, the first two of objective 0, the others of objective 1."""
    for number, row in enumerate(rows):
        scores = np.full((4, 2), np.nan)
        scores[:2, 0], scores[2:, 1] = row[:2], row[2:]
        evaluation = Evaluation(NAMES[:2], 2, scores, ("",) * 4)
        study.record_evaluation(recipe_of(np.array([number / 10, 0.0])), portion, evaluation)


def test_all_together_solve_what_any_of_them_solves(tmp_path: Path) -> None:
    with opened(Study.create(tmp_path)) as study:
        genomes = [np.array([number / 10, 0.0]) for number in range(4)]
        study.record_generation("", 0, SEARCH, genomes, [recipe_of(genome) for genome in genomes])
        evaluated(study, [(1, 0, 0, 0), (0, 1, 1, 0), (0, 1, 0, 0), (1, 1, 0, 1)])
        record = {"bins": [], "niches": [{"quality": None, "cell": [], "candidate": number} for number in (2, 0, 1)]}
        study.set("archive", json.dumps({"": record}))  # candidate 3, which solves most, is not in it
        archive = read_results_of_archive(study, "", NAMES[:2])
        assert archive is not None
        assert archive.niches[0] == HeldNiche(None, (), 2)
        found = {(row.objective, row.split): row for row in together(archive)}
        assert list(found) == [("japanese", "search"), ("english", "search"), (ALL, "search")]
        reached = {
            objective: (row.n, row.any_member, row.best_member, row.best_number) for (objective, _), row in found.items()
        }
        assert reached == {"japanese": (2, 1.0, 0.5, 0), "english": (2, 0.5, 0.5, 1), ALL: (4, 0.75, 0.5, 1)}
        assert leads(archive) == [1, 1, 0]  # problem 0 and problem 2; problem 1 is shared
        evaluated(study, [(0, 0, 0, 0), (1, 0, 1, 1)], TEST)
        again = read_results_of_archive(study, "", NAMES[:2])
        assert again is not None
        assert {row.split for row in together(again)} == {"search"}  # candidate 2 was not tested


def test_unlike_metrics_are_not_added_up(made: Made) -> None:
    archive = results_of(made("natural niches, graded")[0]).archive
    assert archive is not None
    assert [row.objective for row in together(archive)] == ["japanese", "english"]
    for row in together(archive):
        scores = archive.scores(row.objective)
        assert scores is not None
        assert row.any_member == pytest.approx(scores.max(axis=0).mean())
        assert row.any_member >= row.best_member == pytest.approx(scores.mean(axis=1).max())


def test_members_that_were_tested_are_shown_on_the_test_split_too(tmp_path: Path) -> None:
    with opened(search(tmp_path, natural_niches(), 2)) as study:
        record = read_archive(study)
        assert record is not None
        for number in record.candidates:
            candidate = study.candidate(number)
            study.record_evaluation(candidate.recipe, TEST, answers(candidate.genome, 2))
        archive = read_results(study).archive
        assert archive is not None
        assert [row.split for row in together(archive)] == ["search"] * 3 + ["test"] * 3
        rows = archive_words(archive, tmp_path).together
        assert [row.best_means == "–" for row in rows] == [False] * 3 + [True] * 3  # other candidates were not tested


def test_the_console_says_how_large_it_is_and_what_it_solves(tmp_path: Path) -> None:
    with opened(search(tmp_path, natural_niches(), 2)) as study:
        results = read_results(study)
        assert results.archive is not None
        said = remarks(summarise(results))[-1]
    row = together(results.archive)[-1]
    n_members, n_niches = len(results.archive.members), len(results.archive.niches)
    solved, alone = round(row.any_member * row.n), round(row.best_member * row.n)
    assert solved > alone
    assert said == (
        f"The archive, archive/, holds {n_members} models in {n_niches} niches; with each search problem left to the one that "
        f"is best on it they reach {solved} of {2 * N_EACH} (all objectives), one alone {alone} of {2 * N_EACH}."
    )


# -- the page ------------------------------------------------------------------------------------------------------------------


@each_kind
def test_the_page_shows_the_archive(kind: str, made: Made) -> None:
    folder, _ = made(kind)
    with opened(Study.read(folder)) as study:
        write_archive(folder, study)
        write_report(folder, study)
        archive = read_results(study).archive
    assert archive is not None
    page = (folder / "report.html").read_text(encoding="utf-8")
    section = page[page.index("<h2>The archive</h2>") :].split("</section>")[0]
    assert section.count("<svg") == 2  # for a desk and for a phone
    for member in archive.members[:3]:
        assert f'<td class="n">{member.number}</td>' in section
    assert "at least<br>one member" in section
    command = re.search(r"python -m evo_merge\.build recipe=(\S+) out=merged", section)
    assert command is not None
    assert Path(command[1]).is_file()
    standalone = ElementTree.parse(folder / "figures" / "archive.svg")
    assert standalone.getroot().tag.endswith("svg")


@each_kind
@pytest.mark.parametrize("width", [880.0, 360.0])
def test_nothing_is_drawn_outside_the_figure(kind: str, width: float, made: Made) -> None:
    figure = archive_figure(results_of(made(kind)[0]), width)
    assert figure is not None
    root = ElementTree.fromstring(figure.inline())
    for element in root.iter():
        if element.tag.endswith("rect"):
            left, top, across, down = (float(element.attrib[key]) for key in ("x", "y", "width", "height"))
            assert -0.01 <= left <= left + across <= width + 0.02
            assert -0.01 <= top <= top + down <= figure.height + 0.02


def test_of_one_number_made_of_several_objectives_there_is_no_map_but_a_sheet_of_all(tmp_path: Path) -> None:
    optimizer = map_elites()
    study = Study.create(tmp_path)
    with opened(study):
        for generation in range(4):
            genomes = optimizer.ask()
            found = [answers(genome, 2) for genome in genomes]
            told = [replace(each, scalar=float(each.objectives.sum())) for each in found]
            recipes = [recipe_of(genome) for genome in genomes]
            study.record_generation("", generation, SEARCH, list(genomes), recipes)
            for recipe, evaluation in zip(recipes, told, strict=True):
                if not study.is_evaluated(recipe, "search"):
                    study.record_evaluation(recipe, SEARCH, evaluation)
            optimizer.tell(genomes, told)
        record_archive(study, optimizer)
        study.set("objectives", json.dumps(NAMES[:2]))
        study.set("fitness", json.dumps(["weighted_sum"]))
        results = read_results(study)
    archive, figure = results.archive, archive_figure(results, 880.0)
    assert archive is not None
    assert figure is not None
    assert (archive.objectives, archive.fitness, len(archive.bins)) == (NAMES[:2], ("weighted_sum",), 1)
    assert figure.description.endswith(f"on {2 * N_EACH} search problems.")
    assert len(archive_words(archive, tmp_path).members[0].scores) == 2


def test_a_map_has_a_cell_for_every_niche_that_names_its_holder(made: Made) -> None:
    results = results_of(made("cyclic, 3 objectives")[0])
    archive, figure = results.archive, archive_figure(results, 880.0)
    assert archive is not None
    assert figure is not None
    assert [(panel.quality, panel.x, panel.y) for panel in panels(archive)] == [(0, 1, 2), (1, 0, 2), (2, 0, 1)]
    drawn = "".join(figure.body)
    tips = re.findall(r"<title>candidate (\d+): japanese ([\d.]+)", drawn)
    assert sorted(int(number) for number, _ in tips) == sorted(niche.candidate for niche in archive.niches)
    members = {member.number: member for member in archive.members}
    for number, score in tips:
        assert float(score) == pytest.approx(100 * members[int(number)].search.fitness[0], abs=0.06)


def test_of_more_axes_a_map_shows_the_best_along_the_others(made: Made) -> None:
    results = results_of(made("cyclic, 4 objectives")[0])
    archive, figure = results.archive, archive_figure(results, 880.0)
    assert archive is not None
    assert figure is not None
    shown = panels(archive)
    assert len(shown) == 12
    qualities = {member.number: member.search.fitness for member in archive.members}
    best: dict[tuple[object, ...], float] = {}
    for panel in shown:
        for niche in archive.niches:
            if niche.quality == panel.quality:
                axes = [axis for axis in range(4) if axis != panel.quality]
                cell = tuple(niche.cell[axes.index(axis)] for axis in (panel.x, panel.y) if axis is not None)
                key = (panel, *cell)
                best[key] = max(best.get(key, 0.0), float(qualities[niche.candidate][panel.quality]))
    assert "".join(figure.body).count("<title>candidate") == len(best)


def test_a_row_of_the_sheet_has_what_its_member_solves(made: Made) -> None:
    results = results_of(made("natural niches")[0])
    archive, figure = results.archive, archive_figure(results, 880.0)
    assert archive is not None
    assert figure is not None
    scores = archive.scores("japanese")
    assert scores is not None
    root = ElementTree.fromstring(figure.inline())
    drawn: dict[float, float] = {}
    for element in root.iter():
        if element.tag.endswith("rect") and "fill" in element.attrib.get("class", "").split():
            y = float(element.attrib["y"])
            drawn[y] = drawn.get(y, 0.0) + float(element.attrib["width"])
    rows = [drawn[y] for y in sorted(drawn)]
    cell = rows[0] / scores.max(axis=0).sum()
    order = [niche.candidate for niche in archive.niches]
    solved = {member.number: float(row.sum()) for member, row in zip(archive.members, scores, strict=True)}
    assert [width / cell for width in rows[1:]] == pytest.approx([solved[n] for n in order if solved[n]], rel=0.01)


def test_places_are_told_in_words(made: Made) -> None:
    folder, _ = made("cyclic, 2 objectives")
    archive = results_of(folder).archive
    assert archive is not None
    said = " ".join(row.places for row in archive_words(archive, folder).members)
    assert re.search(r"best japanese where english is below 20\s%", said)
    assert re.search(r"best english where japanese is 20\s% to 40\s%", said)
    assert re.search(r"best (japanese|english) where (english|japanese) is 80\s% or more", said)
