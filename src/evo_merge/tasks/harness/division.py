"""Which problems of a harness task are for the search, which for validation and which for the test.

The test gets what the harness itself reports on: the task's test split, or where it has none its validation split. The search
gets the first of its training and validation splits that is not the test's, validation the other. Where these are too few,
several of ours share one of theirs: a seeded hash of the question decides whose a problem is, in the shares that the user sets,
so that the same question is never on both sides.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

from evo_merge.errors import ConfigError, DataError
from evo_merge.tasks.base import SPLITS, Example, Split
from evo_merge.tasks.examples import normalised
from evo_merge.tasks.harness.requests import question_of

Source = Literal["training", "validation", "test"]
SOURCES: tuple[Source, ...] = get_args(Source)


@dataclass(frozen=True, slots=True)
class Problem:
    """A problem of a split, not yet asked.

    Attributes:
        source: Which of the harness task's splits it is from.
        number: Its place there, from 0.
        doc: As the harness holds it.
        question: What a reader takes for the question.
        answer: And for the answer.
    """

    source: Source
    number: int
    doc: Any
    question: str
    answer: str

    @property
    def key(self) -> str:
        """What two problems have in common that ask the same: the lines of the question in any order."""
        return "\n".join(sorted(normalised(line) for line in self.question.splitlines()))

    def as_example(self, task: str) -> Example:
        """For the comparison of splits."""
        return Example(f"{task}/{self.source}-{self.number:04d}", self.key, self.answer)


class Division:
    """The problems of one harness task by our splits."""

    def __init__(
        self,
        task: Any,
        sources: Mapping[Split, Source | None],
        share: Mapping[Split, float],
        limit: Mapping[Split, int | None],
        seed: int,
    ) -> None:
        """Decide which of the task's splits feeds which of ours.

        Args:
            task: Of the harness.
            sources: What the user has set; ``None`` leaves it to the rule.
            share: Of splits that share a source, each one's part; of the sum of theirs.
            limit: Problems per split: of the test the first, as the harness' ``--limit``; of the others any, by the hash.
            seed: Of the hash.

        Raises:
            ConfigError: The task lacks a split that the user has set, or every share of a source is 0.
        """
        self._task, self._limit, self._seed = task, limit, seed
        self._sources = _feeding(task, sources, share)
        self._share: dict[Split, tuple[float, float]] = {}
        for source in dict.fromkeys(each for each in self._sources.values() if each is not None):
            sharing: list[Split] = [split for split in SPLITS if self._sources[split] == source]
            total = sum(share[split] for split in sharing)
            if len(sharing) > 1 and total <= 0:
                raise ConfigError(
                    f"task.share: {' and '.join(sharing)} share the {source} split of harness task '{task.task_name}', and all "
                    "their shares are 0"
                )
            low = 0.0
            for split in sharing:
                part = share[split] / total if len(sharing) > 1 else 1.0
                self._share[split] = (low, low + part if split != sharing[-1] else 1.0)
                low += part
        self._read: dict[Source, list[Problem]] = {}

    def problems(self, split: Split) -> list[Problem]:
        """Those of one of our splits, in the order of theirs."""
        source = self._sources[split]
        if source is None:
            return []
        low, high = self._share[split]
        drawn = [(self._chance(problem), problem) for problem in self._of(source)]
        own = [(chance, problem) for chance, problem in drawn if low <= chance < high]
        limit = self._limit[split]
        if limit is not None and split != "test":
            own = sorted(sorted(own, key=lambda each: each[0])[:limit], key=lambda each: each[1].number)
        return [problem for _, problem in own[:limit]]

    def docs(self, split: Split) -> Sequence[Any]:
        """All documents of the source of one of our splits, in the harness' order."""
        source = self._sources[split]
        return [] if source is None else [problem.doc for problem in self._of(source)]

    def _of(self, source: Source) -> list[Problem]:
        if source not in self._read:
            docs = list(getattr(self._task, f"{source}_docs")())
            self._read[source] = [self._problem(source, number, doc) for number, doc in enumerate(docs)]
        return self._read[source]

    def _problem(self, source: Source, number: int, doc: Any) -> Problem:
        try:
            question, answer = question_of(self._task, doc)
        except Exception as error:  # templates and functions of the task
            raise DataError(
                f"harness task '{self._task.task_name}' cannot ask row {number} of its {source} split "
                f"({type(error).__name__}: {error}); do its doc_to_text, doc_to_target and doc_to_choice fit the data?"
            ) from error
        return Problem(source, number, doc, question, answer)

    def _chance(self, problem: Problem) -> float:
        digest = hashlib.sha256(f"{self._seed}/{problem.key}".encode()).digest()
        return float(int.from_bytes(digest[:6], "big") / 2**48)


def _feeding(task: Any, chosen: Mapping[Split, Source | None], share: Mapping[Split, float]) -> dict[Split, Source | None]:
    names: dict[Source, Any] = {"test": task.config.test_split, "validation": task.config.validation_split}
    names["training"] = task.config.training_split
    # A YAML may name one split of the data twice; then it is the test's, or validation's, alone.
    has: list[Source] = []
    for source, name in names.items():
        if name is not None and name not in (names[each] for each in has):
            has.append(source)
    for split, wanted in chosen.items():
        if wanted is not None and wanted not in has:
            there = ", ".join(has)
            raise ConfigError(
                f"task.splits.{split}: harness task '{task.task_name}' has no {wanted} split of its own, only {there}"
            )
    test = chosen["test"] or ("test" if "test" in has else "validation")
    spare: list[Source] = [source for source in ("training", "validation") if source in has and source != test]
    search = chosen["search"] or (spare[0] if spare else test)
    unused = [source for source in spare if source != search]
    validation = chosen["validation"] or (unused[0] if unused else search if share["validation"] > 0 else None)
    return {"search": search, "validation": validation, "test": test}
