"""What ``who=`` may say: names of groups, names of models, and numbers of candidates."""

import csv
from collections.abc import Mapping
from dataclasses import dataclass

from evo_merge.command_line import nearest
from evo_merge.errors import ConfigError
from evo_merge.report.wording import ROLES
from evo_merge.study import Study

GROUPS: Mapping[str, tuple[str, ...]] = {
    "sources": ("source",),
    "baselines": ("unoptimised", "baseline"),
    "stages": ("stage",),
    "ablation": ("ablation",),
    "front": ("best", "front"),
    "best": ("best",),
}
DEFAULT = ("best", "sources", "baselines")
# Columns from what there was to what was found.
_ORDER = ("source", "unoptimised", "baseline", "stage", "ablation", "front", "candidate", "best")


@dataclass(frozen=True, slots=True)
class Asked:
    """A model of the run whose answers are wanted.

    Attributes:
        role: As in the study, or ``candidate``.
        name: What the sheet calls it.
        number: Of the candidate, where it is known by it.
        recipe: Its hash.
        is_named: Whether the user named it and not a group of which it is one, so that it must have answers.
    """

    role: str
    name: str
    number: int | None
    recipe: str
    is_named: bool


@dataclass(frozen=True, slots=True)
class Known:
    """Whom a run knows: its entrants by role, name and hash of the recipe, and its candidates by number."""

    study: Study
    entrants: tuple[tuple[str, str, str], ...]
    n_candidates: int
    best_number: int | None

    @classmethod
    def of(cls, study: Study) -> "Known":
        """Whom the run of a study knows."""
        chosen = study.get("best_number")
        return cls(study, tuple(study.entrant_hashes()), study.n_candidates, None if chosen is None else int(chosen))


def words(who: str) -> tuple[str, ...]:
    """``best,17,"linear, un-tuned"``: names between commas, in double quotes where they hold one."""
    return tuple(word.strip() for word in next(csv.reader([who], skipinitialspace=True), []) if word.strip())


def choose(known: Known, who: tuple[str, ...]) -> list[Asked]:
    """Those whom the words name, once each, and the sources, which are always there.

    Raises:
        ConfigError: A word is no group, no model and no candidate of the run.
    """
    found = [asked for word in (*who, "sources") for asked in _of_word(known, word, is_default=who == DEFAULT)]
    first: dict[tuple[str, bool], Asked] = {}
    # The chosen candidate is the evolved merge, by whatever word it came; but what equals a source is a merge besides.
    for asked in sorted(found, key=lambda asked: (asked.role == "candidate", -_ORDER.index(asked.role))):
        first.setdefault((asked.recipe, asked.role == "source"), asked)
    return sorted(first.values(), key=lambda asked: _ORDER.index(asked.role))


def _of_word(known: Known, word: str, *, is_default: bool) -> list[Asked]:
    if word in GROUPS:
        is_named = word == "best" and not is_default
        members = [_entrant(known, *entrant, is_named=is_named) for entrant in known.entrants if entrant[0] in GROUPS[word]]
        if word in ("best", "front") and not members and not is_default:
            raise ConfigError(
                f"who: the run has not chosen yet, so there is no '{word}'; finish it with resume=, or name candidates by "
                f"number ({_numbers(known)})"
            )
        return members
    named = [_entrant(known, *entrant, is_named=True) for entrant in known.entrants if word == entrant[1]]
    if named:
        return named
    if word.isascii() and word.isdigit():
        number = int(word)
        digest = known.study.hash_of(number)
        if digest is None:
            raise ConfigError(f"who: there is no candidate {number}; {_numbers(known)}")
        return [Asked("candidate", f"candidate {number}", number, digest, is_named=True)]
    choices = [*GROUPS, *(name for _, name, _ in known.entrants)]
    raise ConfigError(f"who: there is no '{word}'; {nearest(word, choices)} (candidates go by their number; {_numbers(known)})")


def _entrant(known: Known, role: str, name: str, digest: str, *, is_named: bool) -> Asked:
    number = int(name.removeprefix("candidate ")) if role == "front" else known.best_number if role == "best" else None
    return Asked(role, ROLES["best"] if role == "best" else name, number, digest, is_named)


def _numbers(known: Known) -> str:
    n = known.n_candidates
    return (
        f"the run has {n:,}, numbered 0 to {n - 1}"
        if n > 1
        else "the run has one, number 0"
        if n
        else "the run has none so far"
    )
