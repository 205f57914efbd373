"""What a run was to keep to, in words and numbers."""

from dataclasses import dataclass

from evo_merge.report.constraints import Check, Constraint
from evo_merge.report.results import RunResults
from evo_merge.report.wording import ScoreFormat, counted, listing


@dataclass(frozen=True, slots=True)
class ConstraintRow:
    """A constraint and what the chosen candidate reached, a cell a split: text, and whether it was kept."""

    metric: str
    bound: str
    cells: tuple[tuple[str, bool], ...]


def constraint_points(results: RunResults) -> tuple[str, ...]:
    """A sentence a constraint, and how many candidates missed one."""
    points = [constraint_sentence(constraint) for constraint in results.constraints]
    if results.n_missed:
        points.append(f"{counted(results.n_missed, 'candidate')} of {results.evaluations:,} missed a constraint.")
    return tuple(points)


def constraint_sentence(constraint: Constraint) -> str:
    """Whether the chosen candidate keeps to a constraint, split by split."""
    written = _format(constraint)
    said = []
    for split, check in constraint.checks.items():
        least = f", {_wanted(check, written)}" if isinstance(constraint.bound, str) else ""
        said.append(f"{'kept' if check.is_kept else 'missed'} on the {split} split ({written.score(check.reached)}{least})")
    if constraint.lost:
        said.append(f"its source could not be scored on the {listing(constraint.lost)} split{'s' * (len(constraint.lost) > 1)}")
    asked = f"Constraint: {constraint.metric} at least {_bound(constraint)}"
    return f"{asked}; {listing(said)}." if said else f"{asked}; nothing was scored yet."


def constraint_rows(results: RunResults) -> tuple[tuple[str, ...], list[ConstraintRow]]:
    """The splits that were asked, and a row a constraint."""
    splits = tuple(dict.fromkeys(split for c in results.constraints for split in (*c.checks, *c.lost)))
    rows = []
    for constraint in results.constraints:
        cells = tuple(_cell(constraint, split) for split in splits)
        rows.append(ConstraintRow(constraint.metric, _bound(constraint), cells))
    return splits, rows


def nearest_in_words(results: RunResults) -> str:
    """``candidate 4 with en/accuracy 40.0 % (at least 50.0 % wanted)``: the one that misses the constraints by least.

    Where it was asked some of the problems only, it is told without numbers.
    """
    said = []
    for constraint in results.constraints:
        check = constraint.checks.get("search")
        if check is not None:
            written = _format(constraint)
            said.append(f"{constraint.metric} {written.score(check.reached)} ({_wanted(check, written)})")
    return f"candidate {results.best_number}{' with ' if said else ''}{listing(said)}"


def _wanted(check: Check, written: ScoreFormat) -> str:
    return f"at least {written.score(check.least)} wanted"


def _bound(constraint: Constraint) -> str:
    bound = constraint.bound
    return f"that of {bound}" if isinstance(bound, str) else _format(constraint).score(bound)


def _format(constraint: Constraint) -> ScoreFormat:
    values = [value for check in constraint.checks.values() for value in (check.least, check.reached)]
    values += [] if isinstance(constraint.bound, str) else [constraint.bound]
    return ScoreFormat(all(0 <= value <= 1 for value in values))


def _cell(constraint: Constraint, split: str) -> tuple[str, bool]:
    check, written = constraint.checks.get(split), _format(constraint)
    if check is None:
        return "its source could not be scored" if split in constraint.lost else "–", True
    least = f" of {written.score(check.least)}" if isinstance(constraint.bound, str) else ""
    return f"{written.score(check.reached)}{least}, {'kept' if check.is_kept else 'missed'}", check.is_kept
