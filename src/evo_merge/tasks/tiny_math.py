"""Arithmetic word problems for the embedded tiny family, in Japanese or English, drawn from a seed: no file is needed."""

from collections.abc import Mapping, Sequence
from typing import get_args

from evo_merge.errors import ConfigError
from evo_merge.tasks import tiny_world
from evo_merge.tasks.base import Decoding, Example, Prompt, Split
from evo_merge.tasks.checks import check_choice, checked_count, checked_limit
from evo_merge.tasks.examples import Columns, read_completions
from evo_merge.tasks.question_answer import AnswerJudge, Verdict
from evo_merge.tasks.tiny_world import Language

# Of problems in a split. The world holds more, but the last ones take minutes to be drawn.
LARGEST_SPLIT = 10_000

_COLUMNS = Columns(id="id", question="question", answer="answer")


class TinyMath:
    """Right where the last number is right and the answer is in the wanted language."""

    objectives = AnswerJudge.OBJECTIVES
    metrics = AnswerJudge.METRICS

    def __init__(
        self,
        *,
        name: str,
        questions: Language,
        limit: Mapping[str, int],
        seed: int,
        max_new_tokens: int,
        answer_parser: str,
        language: str | None,
        language_threshold: float,
    ) -> None:
        """Check the options; problems are drawn at the first call of ``examples``.

        Args:
            name: What the run calls the task.
            questions: The language that the problems are told in; the same seed draws the same problems in both.
            limit: How many problems each split has.
            seed: Of the problems; the run's own seed does not touch them.
            max_new_tokens: A completion is cut after so many.
            answer_parser: See ``AnswerJudge``.
            language: See ``AnswerJudge``.
            language_threshold: See ``AnswerJudge``.

        Raises:
            ConfigError: A value makes no sense; names the option.
        """
        check_choice("questions", questions, get_args(Language))
        self.name = name
        self._judge = AnswerJudge(
            answer_kind="number",
            answer_parser=answer_parser,
            language=language,
            language_threshold=language_threshold,
        )
        self.language = language
        self.decoding = Decoding(checked_count("max_new_tokens", max_new_tokens, least=1))
        self._questions: Language = questions
        self._limit = _checked_sizes(limit)
        self._seed = checked_count("seed", seed, least=0)
        self._drawn: dict[Split, tuple[Example, ...]] = {}

    def examples(self, split: Split) -> Sequence[Example]:
        """The problems of a split, drawn once; no problem is in two splits, whatever the seeds and the languages."""
        if split not in self._drawn:
            self._drawn[split] = self._draw(split)
        return self._drawn[split]

    def prompt(self, example: Example) -> Prompt:
        """The text that the family's models have learnt to continue."""
        return f"Q: {example.question}\nA: "

    def answering_of(self, example: Example) -> Decoding:
        """The same for all."""
        return self.decoding

    def judge(self, example: Example, completion: str) -> Verdict:
        """Compare a completion with the reference."""
        return self._judge.judge(example.answer, completion)

    def score(self, example: Example, completion: str) -> tuple[float, ...]:
        """Accuracy, correct and language_ok, each 0 or 1."""
        return self.judge(example, completion).metrics

    def saved_completions(self, path: str) -> list[tuple[Example, str]]:
        """Read completions that were saved with the ``id`` and ``answer`` of their problems.

        Raises:
            DataError: The file is missing, or a row cannot be used.
        """
        return read_completions(path, _COLUMNS, self._judge.problem_with)

    def _draw(self, split: Split) -> tuple[Example, ...]:
        problems = tiny_world.problems(split, self._limit[split], self._seed)
        return tuple(
            Example(
                f"tiny-{self._questions}-{split}-{number:04d}",
                "".join(tiny_world.question_pieces(problem, self._questions)),
                str(problem.answer),
            )
            for number, problem in enumerate(problems)
        )


def _checked_sizes(limit: Mapping[str, int]) -> dict[Split, int]:
    sizes: dict[Split, int] = {}
    for split, size in checked_limit(limit).items():
        if size is None or size > LARGEST_SPLIT:
            raise ConfigError(f"task.limit.{split}: must be a number of problems up to {LARGEST_SPLIT}, got {size}")
        sizes[split] = size
    return sizes
