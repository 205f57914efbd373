"""What a sheet says of emergent and lost problems, in words."""

from evo_merge.report.answers.figure import format_of
from evo_merge.report.answers.sheet import AnswerSheet, kinds
from evo_merge.report.wording import counted

REASONS = {
    "emergent": "emergent: {merge} solves it, no source does",
    "lost": "lost: a source solves it, {merge} does not",
    "kept": "kept: {merge} and a source solve it",
    "neither": "neither {merge} nor a source solves it",
}
_GRADED_REASONS = {
    "emergent": "emergent: {merge} is far ahead of every source",
    "lost": "lost: a source is far ahead of {merge}",
    "kept": "kept: {merge} and a source do well",
    "neither": "neither emergent nor lost, and not done well by both",
}


def reason(sheet: AnswerSheet, kind: str, merge: str) -> str:
    """Why a problem is shown: its kind, of the models of that name."""
    return (REASONS if sheet.is_binary else _GRADED_REASONS)[kind].format(merge=merge)


def verdict(sheet: AnswerSheet, merge: int) -> str:
    """How many problems emerged and how many were lost, with what that means."""
    found = kinds(sheet, merge)
    n = sum(map(len, (found.emergent, found.lost, found.kept, found.neither)))
    name = named(sheet, merge)
    if not n:
        return f"There is no problem that both {name} and the sources were asked, so nothing can be told of what emerged."
    return f"{_gained(sheet, len(found.emergent), n, name)} {_gone(sheet, len(found.lost), name)}"


def rule(sheet: AnswerSheet) -> str:
    """What counts as solved, and as far ahead; empty where every problem is solved or not."""
    if sheet.is_binary:
        return ""
    low, high = sheet.bounds
    if low == high:
        return "All scores are the same, so no problem counts as solved."
    written = format_of(sheet)
    return (
        f"Scores are not just right or wrong; here they go from {written.score(low)} to {written.score(high)}. A problem "
        f"counts as solved from halfway on, {written.score(sheet.solved_from)}; far ahead is by at least half of the span, "
        f"{written.distance(sheet.lead)}."
    )


def named(sheet: AnswerSheet, merge: int) -> str:
    """``the evolved merge``, ``candidate 17``."""
    model = sheet.models[merge]
    return f"the {model.name}" if model.role == "best" else model.name


def _gained(sheet: AnswerSheet, emergent: int, n: int, merge: str) -> str:
    of = f"{emergent or 'None'} of {counted(n, 'problem')} {'are' if emergent > 1 else 'is'} emergent"
    if sheet.is_binary:
        is_told = (
            f"{merge} solves {_them(emergent)} and no source does" if emergent else f"what {merge} solves, a source solves too"
        )
    else:
        is_told = f"{merge} is far ahead of every source" if emergent else f"nowhere is {merge} far ahead of every source"
    return f"{of}: {is_told}."


def _gone(sheet: AnswerSheet, lost: int, merge: str) -> str:
    of = f"{lost or 'None'} {'are' if lost > 1 else 'is'} lost"
    if sheet.is_binary:
        is_told = f"a source solves {_them(lost)} and {merge} does not" if lost else f"what a source solves, {merge} solves too"
    else:
        is_told = f"a source is far ahead of {merge}" if lost else f"nowhere is a source far ahead of {merge}"
    return f"{of}: {is_told}."


def _them(n: int) -> str:
    return "it" if n == 1 else "them"
