"""Which model solves which problem, by one metric, and what that says: emergent and lost problems, and pairs of models."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from evo_merge.tasks.base import Example

MERGES = ("best", "front", "candidate")  # roles of what the search proposed, of which something may emerge


@dataclass(frozen=True, slots=True)
class SheetModel:
    """A column of a sheet.

    Attributes:
        role: As in the study; ``candidate`` for one that is named by its number alone.
        name: What tables call it, unique on the sheet.
        completions: One a problem of the sheet; ``None`` where it was not asked.
        whys: Of each why it is wrong, where the task knows more than that it is; empty where nothing is known of any.
    """

    role: str
    name: str
    completions: tuple[str | None, ...]
    whys: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Kinds:
    """The problems that a merge and every source were asked, by position on the sheet, each in exactly one of the four.

    Attributes:
        emergent: The merge solves it, no source does; the largest lead first.
        lost: A source solves it, the merge does not; the largest deficit first.
        kept: The merge solves it, and a source.
        neither: All others.
    """

    emergent: tuple[int, ...]
    lost: tuple[int, ...]
    kept: tuple[int, ...]
    neither: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class AnswerSheet:
    """The problems that have a metric, and what each model scored on them.

    Where every score is 0 or 1, a problem is solved or not. Where not, there is no such line in the data, and one is drawn by
    rule: a problem counts as solved from halfway between the lowest and the highest score of the sheet, and one model is far
    ahead of another by at least half of that span. Scores of right and wrong obey the same rule.

    Attributes:
        split: Name of the split.
        metric: Higher is better.
        examples: The problems, in the order of the split.
        models: The columns.
        scores: ``(n_problems, n_models)`` ``float64``; nan where a model was not asked.
    """

    split: str
    metric: str
    examples: tuple[Example, ...]
    models: tuple[SheetModel, ...]
    scores: NDArray[np.float64]

    @property
    def is_binary(self) -> bool:
        """Whether every score is 0 or 1."""
        return bool(np.isin(self._known, (0.0, 1.0)).all())

    @property
    def bounds(self) -> tuple[float, float]:
        """The lowest and highest score; 0 and 1 where every score is one of them, or there is none."""
        if self.is_binary:
            return 0.0, 1.0
        return float(self._known.min()), float(self._known.max())

    @property
    def solved_from(self) -> float:
        """The score from which a problem counts as solved."""
        low, high = self.bounds
        return (low + high) / 2

    @property
    def lead(self) -> float:
        """By how much a model must be above another to be ahead of it."""
        low, high = self.bounds
        return (high - low) / 2

    @property
    def asked(self) -> NDArray[np.bool_]:
        """``(n_problems, n_models)``, who was asked what."""
        return ~np.isnan(self.scores)

    @property
    def solved(self) -> NDArray[np.bool_]:
        """``(n_problems, n_models)``, who solved what; nothing where all scores are the same and say nothing."""
        return (self.scores >= self.solved_from) & (self.lead > 0)  # nan is not above anything

    def of_role(self, *roles: str) -> list[int]:
        """Places of the models of these roles."""
        return [place for place, model in enumerate(self.models) if model.role in roles]

    def mean(self, model: int) -> float:
        """A model's mean score over the problems that it was asked; nan where there is none."""
        column = self.scores[self.asked[:, model], model]
        return float(column.mean()) if len(column) else math.nan

    @property
    def _known(self) -> NDArray[np.float64]:
        return np.asarray(self.scores[~np.isnan(self.scores)], dtype=np.float64)


def easiest_first(sheet: AnswerSheet) -> list[int]:
    """Problems by how many models solve them, most first; among equals by which, so that alike stand together."""
    solved, scores = sheet.solved, np.nan_to_num(sheet.scores, nan=-np.inf)
    counts = solved.sum(axis=1)
    pattern = [(*(~solved[i]).tolist(), *(-scores[i]).tolist()) for i in range(len(counts))]
    return sorted(range(len(counts)), key=lambda i: (-int(counts[i]), pattern[i], i))


def kinds(sheet: AnswerSheet, merge: int) -> Kinds:
    """What the merge at that place gained and lost against the sources of the sheet; nothing where it has no source."""
    sources = sheet.of_role("source")
    asked = sheet.asked[:, [merge, *sources]].all(axis=1) if sources else np.zeros(len(sheet.examples), dtype=bool)
    problems = np.flatnonzero(asked)
    if not len(problems):
        return Kinds((), (), (), ())
    ahead = sheet.scores[problems, merge] - sheet.scores[problems][:, sources].max(axis=1)
    solved = sheet.solved[problems]
    is_emergent = (ahead >= sheet.lead) & (sheet.lead > 0)
    is_lost = (ahead <= -sheet.lead) & (sheet.lead > 0)
    is_kept = solved[:, merge] & solved[:, sources].any(axis=1) & ~is_emergent & ~is_lost
    by_lead = sorted(range(len(problems)), key=lambda i: (-float(ahead[i]), i))
    by_deficit = sorted(range(len(problems)), key=lambda i: (float(ahead[i]), i))

    def those(mask: NDArray[np.bool_], order: Sequence[int]) -> tuple[int, ...]:
        return tuple(int(problems[i]) for i in order if mask[i])

    rest = ~(is_emergent | is_lost | is_kept)
    in_order = range(len(problems))
    return Kinds(those(is_emergent, by_lead), those(is_lost, by_deficit), those(is_kept, in_order), those(rest, in_order))


@dataclass(frozen=True, slots=True)
class Pairs:
    """Every two models, over the problems that both were asked; all ``(n_models, n_models)`` ``int64``.

    Attributes:
        asked: Problems that both were asked.
        both: Those that both solve; the diagonal is what the model solves at all.
        only: Those that the model of the row solves and the model of the column does not.
    """

    asked: NDArray[np.int64]
    both: NDArray[np.int64]
    only: NDArray[np.int64]


def pairs(sheet: AnswerSheet) -> Pairs:
    """Counts of every two models."""
    asked, solved = sheet.asked.astype(np.int64), sheet.solved.astype(np.int64)
    return Pairs(asked.T @ asked, solved.T @ solved, solved.T @ (asked - solved))
