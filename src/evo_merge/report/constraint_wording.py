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
    points = [_kept(constraint) for constraint in results.constraints]
    if results.n_missed:
        points.append(f"{counted(results.n_missed, 'candidate')} of {results.evaluations:,} missed a constraint.")
    return tuple(points)


def constraint_rows(results: RunResults) -> tuple[tuple[str, ...], list[ConstraintRow]]:
    """The splits that were asked, and a row a constraint."""
    splits = tuple(dict.fromkeys(split for constraint in results.constraints for split in constraint.checks))
    rows = []
    for constraint in results.constraints:
        written = _format(constraint)
        has_least = isinstance(constraint.bound, str)
        cells = [_cell(constraint.checks.get(split), written, has_least=has_least) for split in splits]
        rows.append(ConstraintRow(constraint.metric, _bound(constraint), tuple(cells)))
    return splits, rows


def _kept(constraint: Constraint) -> str:
    """Whether the chosen candidate keeps to a constraint, split by split."""
    written = _format(constraint)
    is_of_source = isinstance(constraint.bound, str)
    said = []
    for split, check in constraint.checks.items():
        least = f", at least {written.score(check.least)} wanted" if is_of_source else ""
        said.append(f"{'kept' if check.is_kept else 'missed'} on the {split} split ({written.score(check.reached)}{least})")
    asked = f"Constraint: {constraint.metric} at least {_bound(constraint)}"
    return f"{asked}; {listing(said)}." if said else f"{asked}; nothing was scored yet."


def _bound(constraint: Constraint) -> str:
    bound = constraint.bound
    return f"that of {bound}" if isinstance(bound, str) else _format(constraint).score(bound)


def _format(constraint: Constraint) -> ScoreFormat:
    values = [value for check in constraint.checks.values() for value in (check.least, check.reached)]
    values += [] if isinstance(constraint.bound, str) else [constraint.bound]
    return ScoreFormat(all(0 <= value <= 1 for value in values))


def _cell(check: Check | None, written: ScoreFormat, *, has_least: bool) -> tuple[str, bool]:
    if check is None:
        return "–", True
    least = f" of {written.score(check.least)}" if has_least else ""
    return f"{written.score(check.reached)}{least}, {'kept' if check.is_kept else 'missed'}", check.is_kept
