"""A task made of several: whose examples, whose prompts, whose scores."""

import math
from collections.abc import Sequence

import pytest

from evo_merge.errors import ConfigError, DataError
from evo_merge.tasks.base import Decoding, Example, Prompt, Split
from evo_merge.tasks.several import Several


class Part:
    """Right where the completion is the answer; ``length`` is a metric besides."""

    name = "part"
    objectives = ("right",)
    metrics = ("right", "length")

    def __init__(
        self, tokens: int, language: str | None = "ja", splits: Sequence[Split] = ("search", "test"), word: str = ""
    ) -> None:
        self.tokens, self.language, self.splits, self.word = tokens, language, splits, word or f"of{tokens}"

    def examples(self, split: Split) -> Sequence[Example]:
        return [Example(f"{i}", f"{self.word} {split} {i}", str(i)) for i in range(2)] if split in self.splits else []

    def prompt(self, example: Example) -> Prompt:
        return f"{self.tokens}: {example.question}, {example.id}"

    def answering_of(self, example: Example) -> Decoding:
        return Decoding(self.tokens)

    def score(self, example: Example, completion: str) -> tuple[float, ...]:
        return float(completion == example.answer), float(len(completion))


def several(allow_overlap: bool = False, **parts: Part) -> Several:
    return Several(parts=parts or {"a": Part(5), "b": Part(9, "en")}, allow_overlap=allow_overlap)


def test_every_part_gives_its_objectives_and_metrics_under_its_name() -> None:
    task = several()
    assert task.objectives == ("a/right", "b/right")
    assert task.metrics == ("a/right", "b/right", "a/length", "b/length")


def test_examples_are_those_of_the_parts_one_after_another() -> None:
    assert [example.id for example in several().examples("search")] == ["a/0", "a/1", "b/0", "b/1"]
    assert several().examples("validation") == ()


def test_each_example_is_asked_answered_and_scored_as_its_part_does() -> None:
    task = several()
    first, last = task.examples("test")[0], task.examples("test")[3]
    assert task.prompt(first) == "5: of5 test 0, 0"
    assert task.answering_of(last) == Decoding(9)
    assert task.score(last, "1")[1::2] == (1.0, 1.0)
    assert all(math.isnan(value) for value in task.score(last, "1")[0::2])


def test_the_language_is_that_of_all_parts_or_none() -> None:
    assert several().language is None
    assert several(a=Part(5), b=Part(9)).language == "ja"


@pytest.mark.parametrize(
    ("parts", "said"), [({"a": Part(5)}, "two parts or more, got a"), ({"a/b": Part(5), "c": Part(6)}, "'a/b'")]
)
def test_parts_that_cannot_be_are_one_sentence(parts: dict[str, Part], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        Several(parts=parts, allow_overlap=False)


def test_no_parts_at_all_are_one_sentence() -> None:
    with pytest.raises(ConfigError, match=r"got none; name each: '\+task@task.parts.ja=tiny_ja_math'"):
        Several(parts={}, allow_overlap=False)


def test_a_split_that_only_some_parts_have_is_one_sentence() -> None:
    with pytest.raises(DataError, match=r"task.parts.b has no validation examples"):
        several(a=Part(5, splits=("validation",)), b=Part(9)).examples("validation")


def test_a_question_in_two_splits_of_two_parts_is_refused_unless_allowed() -> None:
    def sharing(*, allow_overlap: bool) -> Several:
        one, other = Part(5), Part(9)
        other.examples = lambda split: [Example("x", "of5 search 0", "0")] if split == "test" else [Example("y", "new", "0")]  # type: ignore[method-assign]
        return several(allow_overlap, a=one, b=other)

    task = sharing(allow_overlap=False)
    task.examples("search")
    with pytest.raises(DataError, match="splits must not share questions"):
        task.examples("test")
    task = sharing(allow_overlap=True)
    task.examples("search")
    assert len(task.examples("test")) == 3
