"""Why an answer is wrong, where its task knows: the right number in another language."""

import numpy as np

from evo_merge.evaluation.base import Evaluation
from evo_merge.report.answers.cards import picked
from evo_merge.report.answers.sheet import AnswerSheet, SheetModel
from evo_merge.report.answers.why import wanted_languages, whys
from evo_merge.tasks.base import Example

# accuracy, correct, language_ok
ROWS = [[1, 1, 1], [0, 1, 0], [0, 0, 1], [0, 0, 0]]
METRICS = ("accuracy", "correct", "language_ok")


def evaluation(metrics: tuple[str, ...] = METRICS) -> Evaluation:
    return Evaluation(metrics, 1, np.asarray(ROWS, dtype=np.float64)[:, : len(metrics)], ("said",) * len(ROWS))


def test_the_right_number_in_another_language_says_so() -> None:
    assert whys(evaluation(), "accuracy", {"": "ja"}) == ("", "not Japanese", "", "")
    assert whys(evaluation(), "accuracy", {"": "cy"}) == ("", "not in 'cy'", "", "")
    in_parts = evaluation(tuple(f"math/{name}" for name in METRICS))
    assert whys(in_parts, "math/accuracy", {"math": "ja"})[1] == "not Japanese"


def test_nothing_is_said_where_the_task_does_not_know() -> None:
    assert not any(whys(evaluation(), "accuracy", {}))
    assert not any(whys(evaluation(), "correct", {"": "ja"}))
    assert not any(whys(evaluation(METRICS[:1]), "accuracy", {"": "ja"}))


def test_the_language_comes_from_the_config_of_the_run() -> None:
    assert wanted_languages("task: {language: ja}") == {"": "ja"}
    assert wanted_languages("task: {parts: {a: {language: ja}, b: {language: null}}}") == {"a": "ja"}
    assert wanted_languages(None) == {}


def test_an_emergent_problem_shows_why_the_source_is_wrong() -> None:
    scores = np.asarray([[0.0, 1.0], [0.0, 0.0]])
    models = (SheetModel("source", "a", ("4", "5"), ("not Japanese", "")), SheetModel("best", "evolved", ("4です", "5")))
    sheet = AnswerSheet("test", "accuracy", (Example("p", "?", "4"), Example("q", "?", "6")), models, scores)
    emergent, neither = picked(sheet, one_each=True)
    assert {a.name: a.verdict for a in emergent.answers} == {"evolved": "right", "a": "wrong: not Japanese"}
    assert {a.name: a.verdict for a in neither.answers} == {"evolved": "wrong", "a": "wrong"}
