"""What a report says of an archive of models: who holds which niche, and what all of them together can do."""

from dataclasses import dataclass, replace
from itertools import groupby

import numpy as np
from numpy.typing import NDArray

from evo_merge.archive import HeldNiche
from evo_merge.archive import read_archive as read_record
from evo_merge.evaluation.base import Evaluation
from evo_merge.niches import ScoreBins
from evo_merge.recipe import recipe_hash
from evo_merge.statistics.intervals import is_binary
from evo_merge.study import Study

ALL = "all objectives"


@dataclass(frozen=True, slots=True)
class Member:
    """A candidate that holds a niche, and its evaluations without completions; ``test`` is ``None`` where it was not asked."""

    number: int
    search: Evaluation
    test: Evaluation | None


@dataclass(frozen=True, slots=True)
class Archive:
    """The archive of the chosen candidate's search.

    Attributes:
        objectives: Their names.
        fitness: Names of what candidates competed by, in the order of ``bins``: the objectives, or one number made of them.
        bins: One each; empty where the archive is no grid.
        niches: Who holds what.
        members: The holders, each once, by candidate number.
        searched: All candidates of the search that could be scored, members too, without completions; each recipe once.
    """

    objectives: tuple[str, ...]
    fitness: tuple[str, ...]
    bins: tuple[ScoreBins, ...]
    niches: tuple[HeldNiche, ...]
    members: tuple[Member, ...]
    searched: tuple[Evaluation, ...]

    def scores(self, objective: str, split: str = "search") -> NDArray[np.float64] | None:
        """``(n_members, n_examples)``; ``None`` unless all members were asked the split."""
        found = [member.search if split == "search" else member.test for member in self.members]
        answered = [evaluation for evaluation in found if evaluation is not None and evaluation.failure is None]
        if len(answered) < len(found):
            return None
        columns = [evaluation.column(objective) for evaluation in answered]
        return np.stack(columns) if columns and len(columns[0]) else None


@dataclass(frozen=True, slots=True)
class Together:
    """What the members of an archive reach if each problem goes to the one that does best on it: no router does better.

    Attributes:
        objective: Its name, or ``ALL``.
        split: ``search`` or ``test``.
        n: Examples.
        any_member: Mean over the examples of the best score that a member has on it.
        best_means: The same mean for as many candidates of the search as there are members, those with the highest mean scores:
            what an archive has to surpass to be worth its name; ``None`` on the test split.
        best_member: Mean score of the member whose mean is highest.
        best_number: Its candidate number.
        is_binary: Whether all scores are 0 or 1, so that the means are shares of problems solved.
    """

    objective: str
    split: str
    n: int
    any_member: float
    best_means: float | None
    best_member: float
    best_number: int
    is_binary: bool


def read_archive(study: Study, stage: str, fitness_names: tuple[str, ...]) -> Archive | None:
    """The archive of a stage with what its members scored; ``None`` where it has none, or nobody is in it.

    Args:
        study: Of the run.
        stage: Whose archive.
        fitness_names: What the run's optimizer was told: the objectives, or the one number that the run makes of them.
    """
    record = read_record(study, stage)
    if record is None or not record.niches:
        return None
    holders, members, searched = set(record.candidates), [], {}
    for candidate in study.candidates():
        if candidate.stage != stage:
            continue
        search = study.evaluation(candidate.recipe, candidate.portion)
        if search is None or search.failure is not None:
            continue
        searched[recipe_hash(candidate.recipe)] = _mute(search)
        if candidate.number in holders:
            test = study.evaluation(candidate.recipe, "test")
            members.append(Member(candidate.number, _mute(search), None if test is None else _mute(test)))
    first = members[0].search
    objectives = first.metrics[: first.n_objectives]
    fitness = objectives if first.scalar is None else fitness_names
    return Archive(objectives, fitness, record.bins, record.niches, tuple(members), tuple(searched.values()))


def together(archive: Archive) -> list[Together]:
    """One an objective and split, as far as all members were asked the same; and one of all where scores are right or wrong.

    Scores of unlike metrics are not averaged.
    """
    found = []
    for split in ("search", "test"):
        columns = {name: scores for name in archive.objectives if (scores := archive.scores(name, split)) is not None}
        rivals = {name: np.stack([e.column(name) for e in archive.searched]) for name in columns if split == "search"}
        if len(columns) > 1 and all(is_binary(scores) for scores in columns.values()):
            for sheets in (columns, rivals):
                sheets |= {ALL: np.concatenate(list(sheets.values()), axis=1)} if sheets else {}
        for name, scores in columns.items():
            means = scores.mean(axis=1)
            best = int(means.argmax())
            found.append(
                Together(
                    objective=name,
                    split=split,
                    n=scores.shape[1],
                    any_member=float(scores.max(axis=0).mean()),
                    best_means=_best_means(rivals[name], len(scores)) if name in rivals else None,
                    best_member=float(means[best]),
                    best_number=archive.members[best].number,
                    is_binary=is_binary(scores),
                )
            )
    return found


def _best_means(scores: NDArray[np.float64], n: int) -> float:
    order = np.argsort(-scores.mean(axis=1), kind="stable")
    return float(scores[order[:n]].max(axis=0).mean())


def leads(archive: Archive) -> list[int]:
    """On how many search problems, over all objectives, each member is above every other; 0 for one without others."""
    counts = np.zeros(len(archive.members), dtype=int)
    for objective in archive.objectives:
        scores = archive.scores(objective)
        if scores is not None and len(scores) > 1:
            ordered = np.sort(scores, axis=0)
            alone = ordered[-1] > ordered[-2]
            counts += np.bincount(scores.argmax(axis=0)[alone], minlength=len(counts))
    return [int(count) for count in counts]


def niches_of(archive: Archive) -> dict[int, list[HeldNiche]]:
    """What each member holds, by candidate number."""
    ordered = sorted(archive.niches, key=lambda niche: niche.candidate)
    return {number: list(held) for number, held in groupby(ordered, key=lambda niche: niche.candidate)}


def _mute(evaluation: Evaluation) -> Evaluation:
    return replace(evaluation, completions=())
