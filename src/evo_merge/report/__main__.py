"""``python -m evo_merge.report <run folder>…``: write the report of each run again, and compare several."""

# ruff: noqa: T201 (a command prints)

import math
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from evo_merge.command_line import guarded
from evo_merge.errors import ConfigError, StudyError
from evo_merge.report.comparison.compare import compare
from evo_merge.report.comparison.run import ComparedRun, read_compared, run_folders
from evo_merge.report.comparison.values import FairComparison
from evo_merge.report.comparison.wording import comparison_format, console_lines, reference_sentence
from evo_merge.report.comparison.write import write_comparison
from evo_merge.report.wording import duration
from evo_merge.report.write import write_report
from evo_merge.study import Study, opened

_USAGE = (
    "python -m evo_merge.report <run folder>… [target=SCORE] [out=FOLDER], for example "
    "python -m evo_merge.report outputs/2025-01-31/12-00-00"
)
_HELP = f"""{_USAGE}

Writes summary.json, report.html and figures/ of finished or unfinished runs again. Of several runs, or of a folder that
holds several, such as a sweep's, also comparison.html and comparison.csv.

  target=SCORE  the search score whose evaluations are counted; by default the median final one of random search, or of the
                lowest group where there is no random search
  out=FOLDER    where the comparison goes; by default the folder that holds all the runs"""
_OPTIONS = ("target", "out")
_COLUMNS = ("run", "task", "merge", "optimizer", "seed", "test score", "95 % interval", "evaluations", "time")


def main(arguments: Sequence[str]) -> int:
    """Write the reports; returns the exit code."""
    return guarded(lambda: _command(arguments))


def _command(arguments: Sequence[str]) -> None:
    if any(argument in ("-h", "--help") for argument in arguments):
        print(_HELP)
        return
    try:
        _report(arguments)
    except BrokenPipeError:
        raise
    except OSError as error:
        where = f" to '{error.filename}'" if error.filename else ""  # a full disk does not say where
        raise StudyError(f"cannot write the report{where}: {error.strerror}") from error


def _report(arguments: Sequence[str]) -> None:
    named, options = _parsed(arguments)
    folders = list(dict.fromkeys(folder for name in named for folder in run_folders(name)))
    comparison = None
    if len(folders) > 1:  # before anything is written: runs that cannot be compared are refused
        comparison = compare([read_compared(folder) for folder in folders], _target(options.get("target")))
    elif options:
        raise ConfigError(f"{next(iter(options))}= is about comparing runs; name several, or a folder that holds several")
    for folder in folders:
        with opened(Study.read(folder)) as study:
            for path in write_report(folder, study):
                print(path)
    if comparison is not None:
        out = Path(options["out"]) if "out" in options else Path(os.path.commonpath([folder.absolute() for folder in folders]))
        for path in write_comparison(comparison, out):
            print(path)
        print()
        print(" ".join(filter(None, (*console_lines(comparison), reference_sentence(comparison)))))
        print()
        columns = [c.replace("test score", "test hypervolume") if comparison.above is not None else c for c in _COLUMNS]
        print(_table([columns, *_rows(comparison)]))


def _parsed(arguments: Sequence[str]) -> tuple[list[Path], dict[str, str]]:
    named, options = [], {}
    for argument in arguments:
        key, separator, value = argument.partition("=")
        if argument.startswith("-") or (separator and not Path(argument).exists() and key not in _OPTIONS):
            raise ConfigError(f"there is no option '{argument}': {_USAGE}")
        if separator and key in _OPTIONS:
            options[key] = value
        else:
            named.append(Path(argument))
    if not named:
        raise ConfigError(f"name one or more run folders: {_USAGE}")
    return named, options


def _target(given: str | None) -> float | None:
    if given is None:
        return None
    try:
        target = float(given)
    except ValueError:
        target = math.nan
    if not math.isfinite(target):
        raise ConfigError(f"target must be a search score, such as target=0.8, got '{given}'")
    return target


def _rows(comparison: FairComparison) -> list[tuple[str, ...]]:
    written = comparison_format(comparison)

    def row(run: ComparedRun) -> tuple[str, ...]:
        bounds = run.test_interval
        return (
            str(run.folder),
            run.task,
            run.merge,
            run.optimizer,
            "" if run.seed is None else str(run.seed),
            "not yet" if run.test is None else written.score(run.test),
            "" if bounds is None else written.interval(bounds.low, bounds.high),
            str(run.evaluations),
            duration(run.seconds),
        )

    return [row(run) for run in comparison.runs]


def _table(rows: Sequence[Sequence[str]]) -> str:
    widths = [max(len(cell) for cell in column) for column in zip(*rows, strict=True)]
    return "\n".join("  ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)).rstrip() for row in rows)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
