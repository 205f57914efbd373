"""``python -m evo_merge.report <run folder>…``: write the report of each run again, and compare several."""

# ruff: noqa: T201 (a command prints)

import sys
from collections.abc import Sequence
from pathlib import Path

from evo_merge.errors import EvoMergeError
from evo_merge.report.results import RunResults, read_results, scores
from evo_merge.report.statistics import interval
from evo_merge.report.wording import duration, score_format
from evo_merge.report.write import write_report
from evo_merge.study import Study, opened

_USAGE = "python -m evo_merge.report <run folder>…, for example python -m evo_merge.report outputs/2025-01-31/12-00-00"
_COLUMNS = ("run", "task", "merge", "optimizer", "seed", "test score", "95 % interval", "evaluations", "time")


def main(arguments: Sequence[str]) -> int:
    """Write the reports; returns the exit code."""
    if any(argument in ("-h", "--help") for argument in arguments):
        print(f"Write summary.json, report.html and figures/ of finished or unfinished runs again: {_USAGE}")
        return 0
    if not arguments:
        print(f"evo-merge: name one or more run folders: {_USAGE}", file=sys.stderr)
        return 2
    if options := [argument for argument in arguments if argument.startswith("-")]:
        print(f"evo-merge: there is no option '{options[0]}': {_USAGE}", file=sys.stderr)
        return 2
    rows = []
    try:
        for folder in map(Path, arguments):
            with opened(Study.read(folder)) as study:
                for path in write_report(folder, study):
                    print(path)
                if len(arguments) > 1:
                    rows.append(_row(folder, read_results(study)))
    except EvoMergeError as error:
        print(f"evo-merge: {error}", file=sys.stderr)
        return 2
    except OSError as error:
        print(f"evo-merge: cannot write the report to '{error.filename}': {error.strerror}", file=sys.stderr)
        return 2
    if rows:
        print()
        print(_table([_COLUMNS, *rows]))
    return 0


def _row(folder: Path, results: RunResults) -> tuple[str, ...]:
    column = None if results.best is None else scores(results.best.test, results.objective)
    written = score_format(results)
    if column is None:
        score, bounds = "not yet", ""
    else:
        found = interval(column)
        score, bounds = written.score(float(column.mean())), written.interval(found.low, found.high)
    seed = "" if results.seed is None else str(results.seed)
    return (
        str(folder),
        results.task,
        results.merge,
        results.optimizer,
        seed,
        score,
        bounds,
        str(results.evaluations),
        duration(results.seconds),
    )


def _table(rows: Sequence[Sequence[str]]) -> str:
    widths = [max(len(cell) for cell in column) for column in zip(*rows, strict=True)]
    return "\n".join("  ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)).rstrip() for row in rows)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
