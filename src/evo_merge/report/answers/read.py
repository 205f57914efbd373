"""Reads the answers of chosen models from a study: two or three queries a model, however many candidates the run had."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from evo_merge.command_line import nearest
from evo_merge.errors import ConfigError
from evo_merge.evaluation.base import Evaluation
from evo_merge.report.answers.sheet import AnswerSheet, SheetModel
from evo_merge.report.answers.who import DEFAULT, Asked, Known, choose
from evo_merge.report.answers.why import wanted_languages, whys
from evo_merge.study import Study
from evo_merge.tasks.base import Example


@dataclass(frozen=True, slots=True)
class Respondent:
    """A model and everything that it answered of a split.

    Attributes:
        scores: ``(n_problems, n_metrics)`` ``float64``; nan where it was not asked, or the problem has not the metric.
        completions: One a problem; ``None`` where it was not asked.
        whys: ``[metric][problem]``, why an answer is wrong where the task knows more; empty where it does not.
    """

    role: str
    name: str
    number: int | None
    scores: NDArray[np.float64]
    completions: tuple[str | None, ...]
    whys: tuple[tuple[str, ...], ...]


@dataclass(frozen=True, slots=True)
class Answers:
    """Problems x models x metrics.

    Attributes:
        examples: The whole split, in its order.
        metrics: Those that are shown.
        notes: What the reader must know of it: who was left out and why.
    """

    split: str
    metrics: tuple[str, ...]
    examples: tuple[Example, ...]
    models: tuple[Respondent, ...]
    notes: tuple[str, ...]

    def sheet(self, metric: str) -> AnswerSheet:
        """The problems that have the metric."""
        place = self.metrics.index(metric)
        scores = np.stack([model.scores[:, place] for model in self.models], axis=1)
        rows = np.flatnonzero(~np.isnan(scores).all(axis=1)).tolist()
        models = tuple(
            SheetModel(m.role, m.name, tuple(m.completions[i] for i in rows), tuple(m.whys[place][i] for i in rows))
            for m in self.models
        )
        return AnswerSheet(self.split, metric, tuple(self.examples[i] for i in rows), models, scores[rows])


def read_answers(study: Study, split: str, who: tuple[str, ...], metrics: Sequence[str]) -> Answers:
    """The answers of those whom ``who`` names, and of the sources, by which it is told what emerged.

    Args:
        study: Of the run.
        split: ``test``, ``validation``, ``search``, or a stage's own.
        who: Words of ``who.py``.
        metrics: Names; empty for the run's objectives, of several those that problems are solved by.

    Raises:
        ConfigError: There is no such split, model, candidate or metric, or one that was named has no scores on the split.
    """
    _refuse_split(study, split)
    known = Known.of(study)
    notes: list[str] = []
    found: list[tuple[Asked, list[Evaluation]]] = []
    for asked in choose(known, who):
        evaluations = study.evaluations_of(asked.recipe, split)
        answered = [e for e in evaluations if e.failure is None and len(e.scores)]
        if answered:
            found.append((asked, answered))
            continue
        reason = _no_scores(study, asked, evaluations, split)
        if asked.is_named:
            raise ConfigError(reason)
        notes.append(f"{reason}.")
    if who == DEFAULT and known.best_number is None:
        notes.append("The run has not chosen yet, so there is no evolved merge here; who=17 shows candidate 17.")
    if not found:
        raise ConfigError(f"nobody has scores on the {split} split of this run; take another split=, or finish the run")
    measured = tuple(dict.fromkeys(name for _, evaluations in found for e in evaluations for name in e.metrics))
    objectives = _objectives(study, measured, found[0][1][0])
    unknown = next((name for name in metrics if name not in measured), None)
    if unknown is not None:
        raise ConfigError(f"metric: there is no '{unknown}' on the {split} split; {nearest(unknown, measured)}")
    wanted = tuple(dict.fromkeys(metrics)) or objectives
    examples = tuple(study.examples(split))
    languages = wanted_languages(study.get("config"))
    models = tuple(_respondent(asked, evaluations, wanted, languages, len(examples)) for asked, evaluations in found)
    answers = Answers(split, wanted, examples, models, tuple(notes))
    return answers if metrics else _about_problems(answers)


def _refuse_split(study: Study, split: str) -> None:
    known = study.splits()
    if split not in known:
        later = " yet: it is asked once, at the end of the run" if split == "test" and known else ""
        there = f"it has {', '.join(known)}" if known else "it ended before it began"
        raise ConfigError(f"split: this run has no answers on the '{split}' split{later}; {there}")


def _no_scores(study: Study, asked: Asked, evaluations: Sequence[Evaluation], split: str) -> str:
    failure = next((e.failure for e in evaluations if e.failure is not None), None)
    if failure is not None:
        return f"'{asked.name}' could not be scored on the {split} split: {failure}"
    others = [other for other in study.evaluated_splits(asked.recipe) if other in study.splits()]
    scored = f"it has scores with split={' or split='.join(others)}" if others else "it was asked nothing so far"
    elsewhere = (
        ", and its recipe, in the table 'recipes' of study.sqlite, can be scored with "
        f"python -m evo_merge.evaluate model=RECIPE.yaml split={split}"
        if asked.role == "candidate" and split in ("validation", "test")
        else ""
    )
    return f"'{asked.name}' has no scores on the {split} split; {scored}{elsewhere}"


def _objectives(study: Study, measured: tuple[str, ...], evaluation: Evaluation) -> tuple[str, ...]:
    """Those of the run; of a stage's own task its first metrics."""
    stored = tuple(json.loads(study.get("objectives") or "[]"))
    known = tuple(name for name in stored if name in measured)
    return known or evaluation.metrics[: evaluation.n_objectives]


def _respondent(
    asked: Asked, evaluations: Sequence[Evaluation], metrics: Sequence[str], languages: Mapping[str, str], n: int
) -> Respondent:
    scores = np.full((n, len(metrics)), np.nan)
    completions: list[str | None] = [None] * n
    why = [[""] * n for _ in metrics]
    for evaluation in evaluations:  # of portions that overlap, the answers are the same
        rows = list(range(n) if evaluation.positions is None else evaluation.positions)
        for place, metric in enumerate(metrics):
            if metric in evaluation.metrics:
                scores[rows, place] = evaluation.scores[:, evaluation.metrics.index(metric)]
                for row, said in zip(rows, whys(evaluation, metric, languages), strict=True):
                    why[place][row] = said
        for row, completion in zip(rows, evaluation.completions, strict=True):
            completions[row] = completion
    return Respondent(asked.role, asked.name, asked.number, scores, tuple(completions), tuple(map(tuple, why)))


def _about_problems(answers: Answers) -> Answers:
    """Without the objectives that no problem is solved by, such as lengths, where there are others.

    The same rule as for the sheets of the run's report: scores between 0 and 1 that are not all alike.
    """
    if len(answers.metrics) == 1:
        return answers
    columns = {name: np.stack([m.scores[:, i] for m in answers.models]) for i, name in enumerate(answers.metrics)}
    ranges = {name: _range(column) for name, column in columns.items()}
    shown = [name for name, (low, high) in ranges.items() if low >= 0 and high <= 1 and low < high]
    dropped = [name for name in answers.metrics if name not in shown]
    if not shown or not dropped:
        return answers
    places = [answers.metrics.index(name) for name in shown]
    models = tuple(
        Respondent(m.role, m.name, m.number, m.scores[:, places], m.completions, tuple(m.whys[i] for i in places))
        for m in answers.models
    )
    note = f"No problem is solved by {', '.join(dropped)}; metric={dropped[0]} shows it all the same."
    return Answers(answers.split, tuple(shown), answers.examples, models, (*answers.notes, note))


def _range(column: NDArray[np.float64]) -> tuple[float, float]:
    known = column[~np.isnan(column)]
    return (float(known.min()), float(known.max())) if len(known) else (math.inf, -math.inf)
