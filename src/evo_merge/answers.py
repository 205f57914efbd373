"""``python -m evo_merge.answers <run folder>``: which model solves which problem, and what each said."""

# ruff: noqa: T201 (a command prints)

import shlex
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from evo_merge.command_line import guarded, nearest
from evo_merge.errors import ConfigError
from evo_merge.report.answers.estimates import Estimate, estimates, sentence
from evo_merge.report.answers.figure import main_merge
from evo_merge.report.answers.html import RunName
from evo_merge.report.answers.read import Answers, read_answers
from evo_merge.report.answers.who import DEFAULT, words
from evo_merge.report.answers.wording import verdict
from evo_merge.report.answers.write import write_answers
from evo_merge.report.optimizer_name import optimizer_name
from evo_merge.study import Study, opened

_USAGE = "python -m evo_merge.answers <run folder> [split=test] [who=best,sources,baselines] [metric=NAME] [out=FOLDER]"
_HELP = f"""{_USAGE}

Writes the answer sheet of a run, finished or not: answers.html, answers.svg and answers.csv (a row a problem, a column a
model), completions.csv and answers.parquet (a row for each problem, model and metric, with what was said).

  split=NAME   test (the default), validation or search, of those that the run asked
  who=A,B,…    best, front, sources, baselines, stages, ablation, the name of a model, or the number of a candidate;
               the sources are always there, because a problem is emergent that none of them solves
  metric=A,B…  by default the run's objectives
  out=FOLDER   by default the folder 'answers' in that of the run"""
_OPTIONS = ("split", "who", "metric", "out")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit code."""
    return guarded(lambda: _answers(list(sys.argv[1:] if arguments is None else arguments)))


def _answers(arguments: Sequence[str]) -> None:
    if any(argument in ("-h", "--help") for argument in arguments):
        print(_HELP)
        return
    folder, options = _parsed(arguments)
    who = words(options["who"]) if "who" in options else DEFAULT
    if not who:
        raise ConfigError("who: name somebody, for example who=best,sources")
    metrics = [name for name in options.get("metric", "").split(",") if name]
    with opened(Study.read(folder)) as study:
        answers = read_answers(study, options.get("split", "test"), who, metrics)
        merge, task = [study.get(key) or f"an unnamed {key}" for key in ("merge", "task")]
        optimizer = optimizer_name(study)
        estimated = {metric: estimates(study, answers, metric) for metric in answers.metrics}
    out = Path(options["out"]).expanduser() if "out" in options else folder / "answers"
    try:
        written = write_answers(answers, RunName(merge, optimizer, task, shlex.quote(str(folder))), out, estimated)
    except OSError as error:
        raise ConfigError(f"out: cannot write to '{out}': {error.strerror or error}") from error
    for path in written:
        print(path)
    for text in _said(answers, estimated):
        print(text)


def _parsed(arguments: Sequence[str]) -> tuple[Path, dict[str, str]]:
    folders, options = [], {}
    for argument in arguments:
        key, separator, value = argument.partition("=")
        if separator and key in _OPTIONS:
            if not value:
                raise ConfigError(f"{key}= has no value: {_USAGE}")
            options[key] = value
        elif argument.startswith("-") or (separator and not Path(argument).exists()):
            raise ConfigError(f"there is no option '{key}'; {nearest(key, _OPTIONS)}")
        else:
            folders.append(Path(argument).expanduser())
    if len(folders) != 1:
        raise ConfigError(f"name one run folder, got {len(folders)}: {_USAGE}")
    return folders[0], options


def _said(answers: Answers, estimated: Mapping[str, Mapping[str, Estimate]]) -> list[str]:
    said = list(answers.notes)
    for metric in answers.metrics:
        sheet = answers.sheet(metric)
        merge = main_merge(sheet)
        if merge is not None:
            said.append(f"{metric}, {answers.split} split: {verdict(sheet, merge)}")
        said += [f"{metric}, {answers.split} split: {sentence(*each)}" for each in estimated[metric].items()]
    return said


if __name__ == "__main__":
    sys.exit(main())
