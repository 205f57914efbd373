"""What a task is: examples per split, a prompt for each, how it is answered, and the scoring of the answer."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol, TypeAlias

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
    """One problem of a split; a task may derive its own with more fields.

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
        as_long_as: Texts; where there are any, ``max_new_tokens`` are allowed beyond the tokens of the longest of them.
    """

    max_new_tokens: int
    stop: tuple[str, ...] = ()
    as_long_as: tuple[str, ...] = ()

    @property
    def at_most(self) -> int:
        """New tokens at most, whatever the tokenizer: no text has more tokens than bytes."""
        return self.max_new_tokens + max((len(text.encode()) for text in self.as_long_as), default=0)


FREELY = Decoding(max_new_tokens=64)  # a question from outside, of a task that compares; fits a small window


@dataclass(frozen=True, slots=True)
class Likelihoods:
    """An answer that is not generated: how probable the model finds each of several continuations.

    Attributes:
        pairs: Contexts and the continuation of each, at least one. A context may be empty: BOS stands for it. ``None`` in its
            place makes the continuation a whole text, of any length: its likelihood is summed over disjoint windows.
        labels: What a reader is shown of each pair; empty shows the continuations.
    """

    pairs: tuple[tuple[Prompt | None, str], ...]
    labels: tuple[str, ...] = ()

    def label(self, pair: int) -> str:
        """What a reader is shown of a pair."""
        return self.labels[pair] if self.labels else self.pairs[pair][1]


Answering: TypeAlias = Decoding | Likelihoods


@dataclass(frozen=True, slots=True)
class LogLikelihood:
    """How probable a continuation is after its context.

    Attributes:
        total: Natural logarithm of the probability of all its tokens, 0 or less.
        is_greedy: Whether greedy decoding would have given just these tokens.
        n_tokens: How many they are.
    """

    total: float
    is_greedy: bool
    n_tokens: int


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
        """What the model is given, or where continuations are compared what a reader is shown of it."""

    def answering_of(self, example: Example) -> Answering:
        """How it is answered: with a completion, or with the likelihoods of given continuations.

        A question that is none of the task's own (``evo_merge.ask``) is answered with a completion.
        """

    def score(self, example: Example, answer: Any, /) -> tuple[float, ...]:
        """One number a metric, in the order of ``metrics``; higher is better for the objectives.

        The answer is as ``answering_of`` asked: of ``Decoding`` the completion, a ``str``; of ``Likelihoods`` a
        ``tuple[LogLikelihood, ...]``, one a pair. nan for a metric that the example is not one of, where the task is made
        of several.
        """


def digest_of(task: Task, split: Split) -> str:
    """Stands for every text that the models are given on a split: prompts, and the continuations that are compared."""
    asked = [(task.prompt(example), task.answering_of(example)) for example in task.examples(split)]
    texts = [(prompt, way.pairs if isinstance(way, Likelihoods) else None) for prompt, way in asked]
    return hashlib.sha256(json.dumps(texts).encode()).hexdigest()
