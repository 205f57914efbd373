"""Single problems with what every model answered, for the sheet and for the report of a run."""

from collections.abc import Sequence
from dataclasses import dataclass

from evo_merge.report.answers.figure import class_of, format_of, main_merge
from evo_merge.report.answers.sheet import MERGES, AnswerSheet, kinds
from evo_merge.report.answers.wording import named, reason
from evo_merge.report.wording import listing
from evo_merge.tasks.base import Example

_LONGEST = 1_500  # characters of an answer
_MOST_NAMES = 6  # of the merges for which a problem is emergent or lost
_PICKED = {"emergent": 2, "lost": 2, "kept": 1, "neither": 1}


@dataclass(frozen=True, slots=True)
class Answer:
    """One model's completion; ``verdict`` is ``right``, ``wrong``, ``not asked`` or a score, ``class_`` names its colour.

    Where the task knows why an answer is wrong, so does the verdict: ``wrong: not Japanese``.
    """

    class_: str
    name: str
    completion: str
    verdict: str
    is_right: bool


@dataclass(frozen=True, slots=True)
class Card:
    """One problem, why it is shown, and the answers, those of the merges first."""

    reason: str
    example: Example
    answers: tuple[Answer, ...]


def all_of(sheet: AnswerSheet, kind: str) -> list[Card]:
    """The problems that are ``emergent`` or ``lost`` for a merge of the sheet.

    Of one merge, those with the largest lead first; of several, those that are so for most of them.
    """
    of: dict[int, list[int]] = {}
    for merge in reversed(sheet.of_role(*MERGES)):  # the chosen one, which is the last column, is named first
        for problem in getattr(kinds(sheet, merge), kind):
            of.setdefault(problem, []).append(merge)
    ordered = sorted(of, key=lambda problem: -len(of[problem]))
    return [_card(sheet, problem, reason(sheet, kind, _names(sheet, of[problem]))) for problem in ordered]


def picked(sheet: AnswerSheet, *, one_each: bool) -> list[Card]:
    """The first two emergent and lost problems of the main merge, and one of each other kind; or only one of every kind."""
    merge = main_merge(sheet)
    if merge is None:
        return []
    found, name = kinds(sheet, merge), named(sheet, merge)
    return [
        _card(sheet, problem, reason(sheet, kind, name))
        for kind, most in _PICKED.items()
        for problem in getattr(found, kind)[: 1 if one_each else most]
    ]


def _names(sheet: AnswerSheet, merges: Sequence[int]) -> str:
    names = [named(sheet, merge) for merge in merges[:_MOST_NAMES]]
    left = len(merges) - len(names)
    return listing([*names, f"{left} more"] if left else names)


def _card(sheet: AnswerSheet, problem: int, why: str) -> Card:
    main, merges = main_merge(sheet), sheet.of_role(*MERGES)
    places = sorted(range(len(sheet.models)), key=lambda place: (place != main, place not in merges))
    return Card(why, sheet.examples[problem], tuple(_answer(sheet, problem, place) for place in places))


def _answer(sheet: AnswerSheet, problem: int, place: int) -> Answer:
    model = sheet.models[place]
    completion, score = model.completions[problem], float(sheet.scores[problem, place])
    if completion is None or not sheet.asked[problem, place]:
        return Answer(class_of(model.role), model.name, "", "not asked", is_right=False)
    if len(completion) > _LONGEST:
        completion = f"{completion[:_LONGEST]} … ({len(completion) - _LONGEST:,} more characters)"
    is_right = bool(sheet.solved[problem, place])
    verdict = ("right" if is_right else "wrong") if sheet.is_binary else format_of(sheet).score(score)
    if sheet.is_binary and not is_right and model.whys and model.whys[problem]:
        verdict = f"wrong: {model.whys[problem]}"
    return Answer(class_of(model.role), model.name, completion or "(no answer)", verdict, is_right)
