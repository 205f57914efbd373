"""Several tasks asked together, each an objective of its own: the task of a search that wants more than one thing."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from evo_merge.errors import ConfigError, DataError
from evo_merge.tasks.base import Answering, Example, Prompt, Split, Task
from evo_merge.tasks.examples import refuse_overlap

_SEPARATOR = "/"


class Several:
    """The parts' examples one after another; what a part calls ``accuracy`` is ``<part>/accuracy`` here.

    An example counts for the metrics of its own part only, so that no two metrics are ever averaged.
    """

    name = "several"

    def __init__(self, *, parts: Mapping[str, Task], allow_overlap: bool, average: str | None = None) -> None:
        """Check the parts; no data is read before the first call of ``examples``.

        Args:
            parts: The tasks by name, at least two: ``+task@task.parts.ja=tiny_ja_math``.
            allow_overlap: Whether a part's split may share questions with another split of another part.
            average: What ``evaluate`` calls the mean of the objectives, in a table of them; ``None`` where it means nothing.

        Raises:
            ConfigError: There are fewer than two, or a name that cannot be one.
        """
        if len(parts) < 2:
            raise ConfigError(
                f"task=several needs two parts or more, got {', '.join(parts) or 'none'}; "
                "name each: '+task@task.parts.ja=tiny_ja_math' '+task@task.parts.en=tiny_en_math'"
            )
        for name, part in parts.items():
            if not name or _SEPARATOR in name:
                raise ConfigError(f"task.parts: a part cannot be called '{name}'; leave out '{_SEPARATOR}'")
            if not hasattr(part, "examples"):
                raise ConfigError(f"task.parts.{name} must be a task: '+task@task.parts.{name}=tiny_ja_math'")
        self._parts = dict(parts)
        self.objectives = tuple(f"{name}/{each}" for name, part in parts.items() for each in part.objectives)
        others = (f"{name}/{each}" for name, part in parts.items() for each in part.metrics)
        self.metrics = tuple(dict.fromkeys((*self.objectives, *others)))
        languages = {part.language for part in parts.values()}
        self.language = languages.pop() if len(languages) == 1 else None
        self.average = average
        self._allow_overlap = allow_overlap
        self._read: dict[Split, tuple[Example, ...]] = {}

    def examples(self, split: Split) -> Sequence[Example]:
        """The parts' examples, ids with the part's name in front; none where no part has the split.

        Raises:
            DataError: Only some parts have it, or a question of one part's split is in another split of another part.
        """
        if split not in self._read:
            by_part = {name: part.examples(split) for name, part in self._parts.items()}
            missing = [name for name, own in by_part.items() if not own]
            if missing and len(missing) < len(by_part):
                raise DataError(f"task.parts.{missing[0]} has no {split} examples, and the other parts have; give it some")
            examples = tuple(
                replace(example, id=f"{name}{_SEPARATOR}{example.id}") for name, own in by_part.items() for example in own
            )
            if not self._allow_overlap:
                self._refuse_overlap(split, examples)
            self._read[split] = examples
        return self._read[split]

    @property
    def parts(self) -> tuple[Task, ...]:
        """The tasks, in their order."""
        return tuple(self._parts.values())

    def sizes(self, split: Split) -> list[int]:
        """How many of the examples are each part's, in their order."""
        return [len(part.examples(split)) for part in self._parts.values()]

    def prompt(self, example: Example) -> Prompt:
        """As its part asks."""
        _, part, own = self._of(example)
        return part.prompt(own)

    def answering_of(self, example: Example) -> Answering:
        """As its part answers."""
        _, part, own = self._of(example)
        return part.answering_of(own)

    def score(self, example: Example, answer: Any) -> tuple[float, ...]:
        """The numbers of its part; nan for those of the others."""
        name, part, own = self._of(example)
        scored = dict(zip(part.metrics, part.score(own, answer), strict=True))
        known = {f"{name}{_SEPARATOR}{metric}": value for metric, value in scored.items()}
        return tuple(known.get(metric, math.nan) for metric in self.metrics)

    def corpus_metrics(self, examples: Sequence[Example], completions: Sequence[str]) -> dict[str, float]:
        """Those of the parts that have any, by the part's name."""
        found: dict[str, float] = {}
        for name, part in self._parts.items():
            if not hasattr(part, "corpus_metrics"):
                continue
            mine = [i for i, example in enumerate(examples) if self._of(example)[0] == name]
            made = part.corpus_metrics([self._of(examples[i])[2] for i in mine], [completions[i] for i in mine])
            found |= {f"{name}{_SEPARATOR}{metric}": value for metric, value in made.items()}
        return found

    def _refuse_overlap(self, split: Split, examples: Sequence[Example]) -> None:
        """Compare each part's examples with the other splits of the other parts; with its own each part did that itself."""
        for other in self._read.keys() - {split}:
            for name in self._parts:
                own = [example for example in examples if self._of(example)[0] == name]
                theirs = [example for example in self._read[other] if self._of(example)[0] != name]
                refuse_overlap({other: theirs, split: own})

    def _of(self, example: Example) -> tuple[str, Task, Example]:
        """Its part, and the example as the part knows it."""
        name, _, own = example.id.partition(_SEPARATOR)
        return name, self._parts[name], replace(example, id=own)
