"""What a task is: examples per split, a prompt for each, and the scoring of a completion."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol, TypeAlias

Split: TypeAlias = Literal["search", "validation", "test"]
SPLITS: tuple[Split, ...] = ("search", "validation", "test")


@dataclass(frozen=True, slots=True)
class Portion:
    """What is asked of a candidate: a split, or some of its examples.

    Attributes:
        split: Of the task.
        positions: Where the examples stand in the split; ``None`` is all of them.
        stage: Name of the stage whose task it is, where that is not the run's.
    """

    split: Split
    positions: tuple[int, ...] | None = None
    stage: str = ""

    @property
    def key(self) -> str:
        """Names the portion in a study: stage, split, and where it is not the whole a digest of the positions."""
        name = f"{self.stage}/{self.split}" if self.stage else self.split
        if self.positions is None:
            return name
        return f"{name}:{hashlib.sha256(repr(self.positions).encode()).hexdigest()[:16]}"


# A text is tokenized as it stands (with the tokenizer's own BOS); messages go through the tokenizer's chat template.
Prompt: TypeAlias = str | list[dict[str, str]]


@dataclass(frozen=True, slots=True)
class Example:
    """One problem of a split.

    Attributes:
        id: Unique inside a split; names the problem in the study and the report.
        question: What the model is asked, without the prompt around it.
        answer: The reference, as the data states it.
    """

    id: str
    question: str
    answer: str


@dataclass(frozen=True, slots=True)
class Decoding:
    """How completions are generated (always greedily).

    Attributes:
        max_new_tokens: A completion is cut after so many tokens.
        stop: A completion ends before the first occurrence of any of these strings.
    """

    max_new_tokens: int
    stop: tuple[str, ...] = ()


class Task(Protocol):
    """Examples, prompts and scoring.

    Attributes:
        name: What the run calls it.
        objectives: Names of what a search maximises; the first ``len(objectives)`` of ``metrics``.
        metrics: Names of the numbers that ``score`` returns.
        language: The language that completions must be in, a code such as ``ja``; ``None`` allows any.
    """

    name: str
    objectives: tuple[str, ...]
    metrics: tuple[str, ...]
    language: str | None

    def examples(self, split: Split) -> Sequence[Example]:
        """The examples of a split: ``search`` inside the loop, ``validation`` to choose among finalists, ``test`` once.

        An empty sequence where the task has no such split. Raises ``DataError`` where the data cannot be read.
        """

    def prompt(self, example: Example) -> Prompt:
        """What the model is given."""

    def decoding_of(self, example: Example) -> Decoding:
        """How its completion is generated."""

    def score(self, example: Example, completion: str) -> tuple[float, ...]:
        """One number a metric, in the order of ``metrics``; higher is better for the objectives.

        nan for a metric that the example is not one of, where the task is made of several.
        """
