"""A few test problems with every model's answer, picked by rule to show what the merge gained and what it did not."""

from collections.abc import Mapping
from dataclasses import dataclass

from evo_merge.report.figures.answer_sheet import are_right_or_wrong, problem_groups, sheet_models, sheets
from evo_merge.report.results import RunResults, scores
from evo_merge.report.statistics import is_binary
from evo_merge.report.wording import display_name, score_format
from evo_merge.tasks.base import Example

_PER_GROUP = {"new": 2, "lost": 2}  # by the first word of the group's label; one of every other group
_LONGEST = 1_500  # characters of an answer


@dataclass(frozen=True, slots=True)
class Answer:
    """One model's completion; ``verdict`` is ``right``, ``wrong`` or a score."""

    role: str
    name: str
    completion: str
    verdict: str
    is_right: bool


@dataclass(frozen=True, slots=True)
class Sample:
    """One problem, why it is shown, and the answers."""

    reason: str
    example: Example
    answers: tuple[Answer, ...]


def samples(results: RunResults) -> list[Sample]:
    """The first problem or two of each group of the answer sheet, in the order of the test split.

    Problems that only the merge solves come first. Where scores are not just right or wrong: the largest lead, the
    median and the largest deficit. Of several objectives each has its own, and only one of each group.
    """
    views = sheets(results)
    if len(views) == 1:
        return _samples(views[0], "", _PER_GROUP)
    return [sample for view in views for sample in _samples(view, f"{view.objective}, ", {})]


def _samples(results: RunResults, lead: str, per_group: Mapping[str, int]) -> list[Sample]:
    if len(sheet_models(results)) < 2 or not results.test_examples:
        return []
    groups = problem_groups(results)
    if not are_right_or_wrong(results):
        ordered = groups[0].problems
        picked = {
            ordered[-1]: "the evolved merge is furthest behind",
            ordered[len(ordered) // 2]: "the middle of the sheet",
            ordered[0]: "the evolved merge is furthest ahead",
        }
        chosen = [(reason, problem) for problem, reason in reversed(picked.items())]
    else:
        first = [g for g in groups if g.label.startswith("new")]
        chosen = [
            (group.label, problem)
            for group in (*first, *(g for g in groups if g not in first))
            for problem in sorted(group.problems)[: per_group.get(group.label.split(":")[0], 1)]
        ]
    return [_sample(results, problem, f"{lead}{reason}") for reason, problem in chosen]


def _sample(results: RunResults, problem: int, reason: str) -> Sample:
    answers = []
    for model in sorted(sheet_models(results), key=lambda model: model.role != "best"):  # the evolved merge first
        column = scores(model.test, results.objective)
        if model.test is None or column is None:
            continue
        completion = model.test.completions[problem]
        if len(completion) > _LONGEST:
            completion = f"{completion[:_LONGEST]} … ({len(completion) - _LONGEST:,} more characters)"
        score = float(column[problem])
        verdict = ("right" if score else "wrong") if is_binary(column) else score_format(results).score(score)
        answers.append(Answer(model.role, display_name(model), completion, verdict, score > 0))
    return Sample(reason, results.test_examples[problem], tuple(answers))
