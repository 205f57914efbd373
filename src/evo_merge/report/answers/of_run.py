"""What the report of a run says of its answer sheet: how much emerged and was lost, and a few problems picked by rule."""

from dataclasses import dataclass

import numpy as np

from evo_merge.report.answers.cards import Card, picked
from evo_merge.report.answers.figure import main_merge
from evo_merge.report.answers.sheet import AnswerSheet, SheetModel
from evo_merge.report.answers.why import whys
from evo_merge.report.answers.wording import rule, verdict
from evo_merge.report.figures.answer_sheet import sheet_models, sheets
from evo_merge.report.results import RunResults, scores
from evo_merge.report.wording import display_name


@dataclass(frozen=True, slots=True)
class AnswerWords:
    """One sentence or two an objective, and problems with the answers."""

    sentences: tuple[str, ...]
    cards: tuple[Card, ...]


def answer_words(results: RunResults) -> AnswerWords | None:
    """``None`` where the chosen merge has no sheet yet."""
    found = [sheet_of(view) for view in sheets(results) if len(sheet_models(view)) > 1 and view.test_examples]
    found = [sheet for sheet in found if main_merge(sheet) is not None]
    if not found:
        return None
    is_one = len(found) == 1
    sentences = [" ".join(filter(None, ("" if is_one else f"{sheet.metric}:", _told(sheet)))) for sheet in found]
    cards = [card for sheet in found for card in picked(sheet, one_each=not is_one)]
    return AnswerWords(tuple(sentences), tuple(cards))


def sheet_of(view: RunResults) -> AnswerSheet:
    """The test split of a run as one objective sees it, with the models that its figure shows."""
    models, columns = [], []
    for model in sheet_models(view):
        column = scores(model.test, view.objective)
        assert model.test is not None and column is not None  # noqa: PT018  sheet_models keeps only models with test scores
        why = whys(model.test, view.objective, view.languages)
        models.append(SheetModel(model.role, display_name(model), model.test.completions, why))
        columns.append(column)
    return AnswerSheet("test", view.objective, view.test_examples, tuple(models), np.stack(columns, axis=1))


def _told(sheet: AnswerSheet) -> str:
    merge = main_merge(sheet)
    assert merge is not None  # answer_words keeps only sheets with one
    return " ".join(filter(None, (verdict(sheet, merge), rule(sheet))))
