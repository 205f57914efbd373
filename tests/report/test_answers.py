"""``python -m evo_merge.answers``: who solved what, what emerged and was lost, and its one sentence where it cannot."""

import csv
import json
import re
import sqlite3
from collections.abc import Callable, Sequence
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from pyarrow import parquet

from evo_merge.answers import main
from evo_merge.evaluation.base import Evaluation
from evo_merge.report.answers.figure import matrix_figure
from evo_merge.report.answers.read import read_answers
from evo_merge.report.answers.sheet import AnswerSheet, SheetModel, easiest_first, kinds, pairs
from evo_merge.report.answers.who import DEFAULT, words
from evo_merge.report.answers.wording import rule, verdict
from evo_merge.study import Study, opened
from evo_merge.tasks.base import Example, Portion
from several_run import SEVERAL, linear, write_several_run

MakeRun = Callable[..., Path]
MakePathRun = Callable[[str], Path]
NAN = float("nan")
SVG = "{http://www.w3.org/2000/svg}"


def sheet_of(scores: Sequence[Sequence[float]], roles: Sequence[str] = ("source", "source", "best")) -> AnswerSheet:
    """A sheet of these scores, a row a problem."""
    columns = np.asarray(scores, dtype=np.float64)
    models = tuple(SheetModel(role, f"{role} {i}", ("said",) * len(columns)) for i, role in enumerate(roles))
    return AnswerSheet("test", "score", tuple(Example(f"p{i}", "?", "1") for i in range(len(columns))), models, columns)


def stored_scores(folder: Path, name: str) -> list[float]:
    """The first metric on the test split as the file has it, without our code."""
    query = (
        "SELECT a.scores FROM entrants JOIN evaluations AS e USING (recipe) JOIN answers AS a ON a.evaluation = e.id "
        "WHERE name = ? AND portion = 'test' ORDER BY a.position"
    )
    with sqlite3.connect(folder / "study.sqlite") as database:
        return [json.loads(text)[0] for (text,) in database.execute(query, (name,))]


def table(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


# -- the arithmetic ------------------------------------------------------------------------------------------------------------


def test_right_and_wrong_are_sorted_into_four_kinds() -> None:
    sheet = sheet_of([[0, 0, 1], [1, 0, 0], [0, 1, 1], [0, 0, 0], [1, 1, 1], [0, 0, 1]])
    found = kinds(sheet, 2)
    assert (found.emergent, found.lost, found.kept, found.neither) == ((0, 5), (1,), (2, 4), (3,))
    assert verdict(sheet, 2) == (
        "2 of 6 problems are emergent: the best 2 solves them and no source does. "
        "1 is lost: a source solves it and the best 2 does not."
    )
    assert easiest_first(sheet) == [4, 2, 1, 0, 5, 3]


def test_a_problem_that_someone_was_not_asked_is_of_no_kind() -> None:
    found = kinds(sheet_of([[0, 0, 1], [NAN, 0, 1], [0, 0, NAN]]), 2)
    assert (found.emergent, found.lost, found.kept, found.neither) == ((0,), (), (), ())


def test_without_a_source_nothing_emerges() -> None:
    sheet = sheet_of([[1.0], [0.0]], ["best"])
    assert kinds(sheet, 0).emergent == ()
    assert "nothing can be told" in verdict(sheet, 0)


def test_a_graded_problem_is_emergent_from_half_of_the_span_ahead() -> None:
    # from -2 to 8: solved from 3 on, far ahead by 5
    sheet = sheet_of([[-2, 1, 6], [0, 0, 8], [0, 2.9, 3.1], [5.5, 0, 0], [4, 0, 4]])
    found = kinds(sheet, 2)
    assert (found.emergent, found.lost, found.kept, found.neither) == ((1, 0), (3,), (4,), (2,))
    assert sheet.solved[:, 2].tolist() == [True, True, True, False, True]
    assert "from halfway on, 3.00; far ahead is by at least half of the span, 5.00" in rule(sheet)


def test_scores_that_are_all_the_same_solve_nothing() -> None:
    sheet = sheet_of([[0.3, 0.3, 0.3]] * 2)
    assert not sheet.solved.any()
    assert kinds(sheet, 2).neither == (0, 1)


def test_pairs_count_the_problems_that_both_were_asked() -> None:
    counts = pairs(sheet_of([[1, 1, 1], [1, 0, NAN], [0, 1, 1], [0, 0, 0]]))
    assert counts.asked.tolist() == [[4, 4, 3], [4, 4, 3], [3, 3, 3]]
    assert counts.both.tolist() == [[2, 1, 1], [1, 2, 2], [1, 2, 2]]
    assert counts.only.tolist() == [[0, 1, 0], [1, 0, 0], [1, 0, 0]]


@pytest.mark.parametrize("width", [880.0, 360.0])
def test_the_matrix_has_a_cell_for_what_was_asked_and_solved_and_no_other(width: float) -> None:
    figure = matrix_figure(sheet_of([[1, 0, 1], [0, 0, NAN], [0, 0, 1]]), width)
    assert figure is not None
    root = ElementTree.fromstring(figure.standalone())
    columns = [group for group in root.iter(f"{SVG}g") if group.get("class") in ("source", "best")]
    drawn = [[cell.get("class") for cell in group.iter(f"{SVG}rect")] for group in columns]
    # order: problem 0, which two solve, then 2, then 1; the last group marks what emerged
    assert drawn == [["fill", "panel"], ["panel"], ["fill"], ["fill"]]
    for text in root.iter(f"{SVG}text"):
        assert 0 <= float(text.get("x", "nan")) <= width
        assert 0 <= float(text.get("y", "nan")) <= figure.height


def test_a_thousand_problems_are_a_small_figure() -> None:
    random = np.random.default_rng(0)
    scores = (random.random((1_000, 8)) < 0.5).astype(float)
    figure = matrix_figure(sheet_of(scores.tolist(), ("source",) * 3 + ("candidate",) * 4 + ("best",)), 360.0)
    assert figure is not None
    assert figure.height < 1_400
    assert len(figure.standalone()) < 400_000


# -- of a run ------------------------------------------------------------------------------------------------------------------


def test_every_file_tells_what_the_study_has(make_run: MakeRun, capsys: pytest.CaptureFixture[str]) -> None:
    folder = make_run()
    assert main([str(folder)]) == 0
    said = capsys.readouterr().out
    names = ("answers.html", "answers.csv", "completions.csv", "answers.parquet", "answers.svg")
    assert {path.name for path in (folder / "answers").iterdir()} == set(names)
    rows = table(folder / "answers" / "answers.csv")
    models = {"ja": "ja", "math_a": "math_a", "math_b": "math_b", "ties": "ties", "best": "evolved merge"}
    truth = {shown: stored_scores(folder, stored) for stored, shown in models.items()}
    assert all([float(row[name]) for row in rows] == column for name, column in truth.items())
    assert [row["id"] for row in rows] == [f"test-{i}" for i in range(60)]
    emergent = {
        f"test-{i}" for i in range(60) if truth["evolved merge"][i] and not any(truth[s][i] for s in ("ja", "math_a", "math_b"))
    }
    assert f"score, test split: {len(emergent)} of 60 problems are emergent" in said

    long = table(folder / "answers" / "completions.csv")
    assert len(long) == 60 * 7
    assert {row["id"] for row in long if row["kind"] == "emergent"} == emergent
    assert {row["role"] for row in long if row["kind"]} == {"best"}
    typed = parquet.read_table(folder / "answers" / "answers.parquet").to_pylist()
    assert [{key: "" if value is None else str(value) for key, value in row.items()} for row in typed] == long

    page = (folder / "answers" / "answers.html").read_text(encoding="utf-8")
    assert page.startswith("<!DOCTYPE html>")
    assert page.count('<article class="sample">') == len(emergent)
    assert "<script" not in page
    assert "&lt;script&gt;alert" in page


def test_the_report_tells_the_same_and_names_the_command(make_run: MakeRun) -> None:
    from evo_merge.report.__main__ import main as report

    folder = make_run()
    assert report([str(folder)]) == 0
    assert main([str(folder)]) == 0
    page = (folder / "report.html").read_text(encoding="utf-8")
    emergent = {row["id"] for row in table(folder / "answers" / "completions.csv") if row["kind"] == "emergent"}
    assert f"{len(emergent)} of 60 problems are emergent" in page
    assert f"python -m evo_merge.answers {folder}" in page


def test_candidates_stand_beside_the_sources(make_run: MakeRun) -> None:
    folder = make_run(is_finished=False)
    assert main([str(folder), "split=search", "who=13,3"]) == 0
    header = (folder / "answers" / "answers.csv").read_text(encoding="utf-8").splitlines()[0]
    assert header == "id,question,reference,ja,math_a,math_b,candidate 13,candidate 3"
    numbers = {row["candidate"] for row in table(folder / "answers" / "completions.csv")}
    assert numbers == {"", "3", "13"}


def test_a_candidate_of_a_batch_has_scores_where_it_was_asked(make_path_run: MakePathRun) -> None:
    folder = make_path_run("batches")
    assert main([str(folder), "split=search", "who=3,best"]) == 0
    rows = table(folder / "answers" / "answers.csv")
    assert [i for i, row in enumerate(rows) if row["candidate 3"]] == list(range(0, 40, 4))
    assert [i for i, row in enumerate(rows) if row["evolved merge"]] == list(range(1, 40, 4))
    assert all(row["math_a"] for row in rows)


def test_each_objective_has_the_problems_of_its_own(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_several_run(tmp_path / "run", "front", objectives=SEVERAL)
    assert main([str(tmp_path / "run"), "who=front"]) == 0
    said = capsys.readouterr().out
    assert "No problem is solved by brevity" in said
    assert "ja/accuracy, test split: None of 20 problems is emergent" in said
    rows = table(tmp_path / "run" / "answers" / "answers.csv")
    assert len(rows) == 40
    assert [bool(row["candidate 1: ja/accuracy"]) for row in rows] == [True] * 20 + [False] * 20
    assert [bool(row["evolved merge: en/accuracy"]) for row in rows] == [False] * 20 + [True] * 20
    assert main([str(tmp_path / "run"), "who=best", "metric=brevity"]) == 0
    assert float(table(tmp_path / "run" / "answers" / "answers.csv")[0]["ja"]) < -10


def test_only_the_answers_of_those_who_are_asked_for_are_read(make_run: MakeRun) -> None:
    with opened(Study.read(make_run())) as study:
        statements: list[str] = []
        study._db.set_trace_callback(statements.append)
        read_answers(study, "test", DEFAULT, ())
    assert not [statement for statement in statements if "yaml" in statement]  # recipes are slow to read
    assert sum("FROM answers" in statement for statement in statements) == 7
    assert not [statement for statement in statements if "FROM candidates" in statement and "COUNT" not in statement]


def test_names_with_commas_stand_in_quotes() -> None:
    assert words('best, 17,"linear, un-tuned"') == ("best", "17", "linear, un-tuned")


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["who=2000"], "there is no candidate 2000; the run has 18, numbered 0 to 17"),
        (["who=bast"], "there is no 'bast'; did you mean 'best'?"),
        (["who=17"], "'candidate 17' has no scores on the test split; it has scores with split=search"),
        (["who=4", "split=search"], "'candidate 4' could not be scored on the search split: weight"),
        (["split=validation"], "this run has no answers on the 'validation' split; it has search, test"),
        (["metric=scor"], "did you mean 'score'?"),
        (["whom=best"], "there is no option 'whom'; did you mean 'who'?"),
        (["who="], "who= has no value"),
        (["out=/proc/nowhere"], "cannot write to '/proc/nowhere'"),
    ],
)
def test_bad_input_is_one_sentence(
    make_run: MakeRun, arguments: list[str], sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([str(make_run()), *arguments]) == 2
    (said,) = capsys.readouterr().err.splitlines()
    assert sentence in said


def test_an_unfinished_run_says_what_there_is(make_run: MakeRun, capsys: pytest.CaptureFixture[str]) -> None:
    folder = make_run(is_finished=False)
    assert main([str(folder)]) == 2
    assert "on the 'test' split yet: it is asked once, at the end of the run; it has search" in capsys.readouterr().err
    assert main([str(folder), "split=search", "who=best"]) == 2
    assert "the run has not chosen yet, so there is no 'best'" in capsys.readouterr().err
    assert main([str(folder), "split=search"]) == 0
    assert "The run has not chosen yet" in capsys.readouterr().out


def test_a_folder_that_is_no_run_is_one_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(tmp_path)]) == 2
    assert "holds no run" in capsys.readouterr().err
    assert main([]) == 2
    assert "name one run folder" in capsys.readouterr().err


def test_who_was_asked_a_part_gets_an_estimate(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    chance = np.random.default_rng(0)
    examples = [Example(f"p{i}", "?", "1") for i in range(40)]
    half = Portion("search", tuple(range(20)))
    solves = chance.random((24, 40)) < np.linspace(0.2, 0.9, 24)[:, None] * np.linspace(1.0, 0.3, 40)  # the first are easier
    with opened(Study.create(tmp_path)) as study:
        study.record_examples("search", examples)
        recipes = [linear([0.1 + 0.01 * i, 0.5]) for i in range(24)]
        study.record_generation("", 0, Portion("search"), [np.array([float(i)]) for i in range(24)], recipes)
        for i, recipe in enumerate(recipes):
            portion = half if i == 23 else Portion("search")
            scores = solves[i, : 20 if i == 23 else 40].astype(np.float64)[:, None]
            answered = Evaluation(("accuracy",), 1, scores, ("said",) * len(scores), positions=portion.positions)
            study.record_evaluation(recipe, portion, answered)
    assert main([str(tmp_path), "split=search", "who=22,23"]) == 0
    said = capsys.readouterr().out
    found = re.search(r"candidate 23 was asked 20 of 40 problems and solved (.*) %; of all .* about (.*) ± (.*) %, by", said)
    assert found is not None
    on_half, of_all, error = (float(number) for number in found.groups())
    assert on_half == pytest.approx(100 * solves[23, :20].mean(), abs=0.05)
    assert of_all < on_half  # what was left is harder
    assert 1 < error < 15
    assert "candidate 22 was asked" not in said
    page = (tmp_path / "answers" / "answers.html").read_text("utf-8")
    assert f"{of_all:.1f} ± {error:.1f} %" in page
