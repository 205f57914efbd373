"""Questions with one right answer each, a number or a short text: the task for MGSM and for anyone's own JSON Lines.

Right means that the answer equals the reference and, where the task has a language rule, that the completion is in that
language (Akiba et al. 2024, https://arxiv.org/abs/2403.13187, section 4.1).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from evo_merge.errors import ConfigError
from evo_merge.evaluation import language as languages
from evo_merge.tasks import answer_parsers
from evo_merge.tasks.base import Decoding, Example, Prompt, Split
from evo_merge.tasks.checks import check_choice, check_keys, checked_count, plain
from evo_merge.tasks.examples import Columns, normalised, read_completions
from evo_merge.tasks.splits import Splits

QUESTION = "{question}"
ANSWER_KINDS = ("number", "text")
ROLES = ("system", "user", "assistant")


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a completion is worth.

    Attributes:
        number: The number read out of it; ``None`` where there is none or the answer is a text.
        correct: Whether the answer equals the reference.
        language_ok: Whether it is in the wanted language; true where none is asked for.
        score: 1 where both hold, else 0.
    """

    number: float | None
    correct: bool
    language_ok: bool
    score: float

    @property
    def metrics(self) -> tuple[float, float, float]:
        """In the order of ``AnswerJudge.METRICS``."""
        return self.score, float(self.correct), float(self.language_ok)


class AnswerJudge:
    """Compares completions with references."""

    METRICS = ("accuracy", "correct", "language_ok")
    OBJECTIVES = ("accuracy",)

    def __init__(self, *, answer_kind: str, answer_parser: str, language: str | None, language_threshold: float) -> None:
        """Check the options.

        Args:
            answer_kind: ``number``, or ``text`` for the same text up to case, width, spaces and punctuation.
            answer_parser: One of ``answer_parsers.PARSERS``, which reads the number of a completion.
            language: What a completion must be in, a code such as ``ja``; ``None`` allows any.
            language_threshold: 0 to 1; the probability of the language must be above it.

        Raises:
            ConfigError: A value is not one of these.
        """
        check_choice("answer_kind", answer_kind, ANSWER_KINDS)
        check_choice("answer_parser", answer_parser, tuple(answer_parsers.PARSERS))
        if language is not None:
            check_choice("language", language, languages.known_languages())
        if isinstance(language_threshold, bool) or not isinstance(language_threshold, int | float):
            raise ConfigError(f"task.language_threshold: must be a number from 0 to 1, got {language_threshold!r}")
        if not 0 <= language_threshold <= 1:
            raise ConfigError(f"task.language_threshold: must be from 0 to 1, got {language_threshold}")
        self._expects_number = answer_kind == "number"
        self._parse = answer_parsers.PARSERS[answer_parser]
        self._language = language
        self._threshold = language_threshold

    def problem_with(self, answer: str) -> str | None:
        """Say what is wrong with a reference answer; ``None`` where it can be used."""
        if self._expects_number and answer_parsers.strict(answer) is None:
            return f"answer {answer!r} has no number; with task.answer_kind=text answers may be any text"
        return None

    def judge(self, answer: str, completion: str) -> Verdict:
        """Compare a completion with its reference.

        Args:
            answer: The reference. Of a number the last one in it counts, whatever parser reads the completion.
            completion: Its last number, or for a text all of it or its last line, is the answer.
        """
        number = self._parse(completion) if self._expects_number else None
        if self._expects_number:
            correct = number is not None and number == answer_parsers.strict(answer)
        else:
            lines = completion.strip().splitlines()
            correct = normalised(answer) in (normalised(completion), normalised(lines[-1] if lines else ""))
        language_ok = self._language is None or languages.probability(completion, self._language) > self._threshold
        return Verdict(number, correct, language_ok, float(correct and language_ok))


class QuestionAnswer:
    """Questions and answers from files or from the hub; the constructor's arguments are those of ``conf/task``."""

    objectives = AnswerJudge.OBJECTIVES
    metrics = AnswerJudge.METRICS

    def __init__(
        self,
        *,
        name: str,
        files: Mapping[str, str | None],
        hub: Mapping[str, Mapping[str, str | None] | None] | None,
        columns: Mapping[str, str],
        limit: Mapping[str, int | None],
        prompt: str | None,
        messages: Sequence[Mapping[str, str]] | None,
        stop: Sequence[str],
        max_new_tokens: int,
        answer_kind: str,
        answer_parser: str,
        language: str | None,
        language_threshold: float,
        allow_overlap: bool,
    ) -> None:
        """Check the options; no data is read before the first call of ``examples``.

        Args:
            name: What the run calls the task.
            files: Per split a JSON Lines file, from the current directory; it goes before the hub.
            hub: Per split ``path``, ``name``, ``split`` and ``revision`` of a dataset.
            columns: The fields of a row that hold ``id``, ``question`` and ``answer``.
            limit: Per split how many rows are used, from the first.
            prompt: What the model is given, with ``{question}`` in it; ``None`` where there are messages.
            messages: ``role`` and ``content`` of each turn, ``{question}`` in one; ``None`` where there is a prompt.
            stop: A completion ends before the first of these.
            max_new_tokens: A completion is cut after so many.
            answer_kind: See ``AnswerJudge``.
            answer_parser: See ``AnswerJudge``.
            language: See ``AnswerJudge``.
            language_threshold: See ``AnswerJudge``.
            allow_overlap: Whether splits may share questions.

        Raises:
            ConfigError: A value makes no sense; names the option.
        """
        self.name = name
        self.language = language
        self._judge = AnswerJudge(
            answer_kind=answer_kind,
            answer_parser=answer_parser,
            language=language,
            language_threshold=language_threshold,
        )
        self.decoding = Decoding(checked_count("max_new_tokens", max_new_tokens, least=1), _checked_stop(plain(stop)))
        self._columns = _checked_columns(plain(columns))
        self._splits = Splits(
            name, files, hub, limit, self._columns, allow_overlap=allow_overlap, check=self._judge.problem_with
        )
        self._prompt, self._messages = _checked_prompt(plain(prompt), plain(messages))

    def examples(self, split: Split) -> Sequence[Example]:
        """The examples of a split, read once; the validation split may be empty.

        The search examples are compared with all other splits, so that a run stops before its first candidate; the
        others with those that need no hub.

        Raises:
            DataError: The split is missing or cannot be read, or it shares questions with another.
        """
        return self._splits.examples(split)

    def prompt(self, example: Example) -> Prompt:
        """The text, or the turns of the chat, that the model is to continue."""
        # Not str.format: templates and questions may hold braces of their own.
        if self._messages is None:
            return self._prompt.replace(QUESTION, example.question)
        return [
            {"role": turn["role"], "content": turn["content"].replace(QUESTION, example.question)} for turn in self._messages
        ]

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
        """Read completions that were saved with the fields of their examples; the question may be missing.

        Raises:
            DataError: The file is missing, or a row cannot be used.
        """
        return read_completions(path, self._columns, self._judge.problem_with)


def _checked_columns(columns: Mapping[str, str]) -> Columns:
    check_keys("columns", columns, ("id", "question", "answer"))
    for part in ("id", "question", "answer"):
        column = columns.get(part)
        if not isinstance(column, str) or not column:
            raise ConfigError(f"task.columns.{part}: must be the name of a field, got {column!r}")
    return Columns(**columns)


def _checked_stop(stop: Sequence[str]) -> tuple[str, ...]:
    if not isinstance(stop, list | tuple) or not all(isinstance(text, str) and text for text in stop):
        raise ConfigError(f"task.stop: must be a list of texts, none of them empty, got {stop!r}")
    return tuple(stop)


def _checked_prompt(
    prompt: str | None, messages: Sequence[Mapping[str, str]] | None
) -> tuple[str, tuple[Mapping[str, str], ...] | None]:
    if (prompt is None) == (messages is None):
        given = "both" if messages is not None else "neither"
        raise ConfigError(f"task.prompt: exactly one of task.prompt and task.messages must be given, got {given}")
    if messages is None:
        if not isinstance(prompt, str) or QUESTION not in prompt:
            raise ConfigError(f"task.prompt: must be a text with {QUESTION} where the question goes, got {prompt!r}")
        return prompt, None
    if not isinstance(messages, list | tuple):
        raise ConfigError(f"task.messages: must be a list of turns with role and content, got {messages!r}")
    for turn in messages:
        check_keys("messages", turn, ("role", "content"))
        check_choice("messages", turn.get("role"), ROLES)
        if not isinstance(turn.get("content"), str):
            raise ConfigError(f"task.messages: the content of a turn must be a text, got {turn.get('content')!r}")
    if not any(QUESTION in turn["content"] for turn in messages):
        raise ConfigError(f"task.messages: one content must have {QUESTION} where the question goes")
    return "", tuple(messages)
