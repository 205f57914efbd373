"""Questions with given choices, answered by how probable the model finds each: any JSON Lines with question, choices, answer.

As in lm-evaluation-harness (``output_type: multiple_choice``): ``accuracy`` is its ``acc``, the choice whose continuation has
the greatest log-likelihood; ``accuracy_norm`` its ``acc_norm``, the greatest log-likelihood a character of the choice. The
first of equals is taken.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from evo_merge.errors import ConfigError, DataError
from evo_merge.tasks.base import FREELY, Answering, Example, Likelihoods, LogLikelihood, Prompt, Split
from evo_merge.tasks.checks import check_keys, plain
from evo_merge.tasks.examples import Columns
from evo_merge.tasks.splits import Splits

_LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
# A question from outside has no choices, so it is answered freely.


@dataclass(frozen=True, slots=True)
class ChoiceExample(Example):
    """A question with its choices.

    Attributes:
        choices: At least two.
        right: Which of them is the answer, from 0.
    """

    choices: tuple[str, ...]
    right: int


class MultipleChoice:
    """Right where the right choice is the most probable; the constructor's arguments are those of ``conf/task``."""

    objectives = ("accuracy",)
    metrics = ("accuracy", "accuracy_norm")
    language: str | None = None

    def __init__(
        self,
        *,
        name: str,
        files: Mapping[str, str | None],
        hub: Mapping[str, Mapping[str, str | None] | None] | None,
        columns: Mapping[str, str],
        limit: Mapping[str, int | None],
        prompt: str,
        choice_line: str,
        continuation: str,
        allow_overlap: bool,
    ) -> None:
        """Check the options; no data is read before the first call of ``examples``.

        Args:
            name: What the run calls the task.
            files: Per split a JSON Lines file, from the current directory; it goes before the hub.
            hub: Per split ``path``, ``name``, ``split`` and ``revision`` of a dataset.
            columns: The fields of a row that hold ``id``, ``question``, ``choices`` (a list of texts) and ``answer`` (a number
                is a place among the choices, from 0; a text is one of them).
            limit: Per split how many rows are used, from the first.
            prompt: The context, with ``{question}`` and, where they are to be listed, ``{choices}`` in it.
            choice_line: One of the listed choices, with ``{choice}``, ``{letter}`` (A, B, ...) or ``{number}`` (0, 1, ...).
            continuation: What is compared, with one of the same.
            allow_overlap: Whether splits may share questions.

        Raises:
            ConfigError: A value makes no sense; names the option.
        """
        self.name = name
        named = plain(columns)
        check_keys("columns", named, ("id", "question", "choices", "answer"))
        for part in ("id", "question", "choices", "answer"):
            if not isinstance(named.get(part), str) or not named[part]:
                raise ConfigError(f"task.columns.{part}: must be the name of a field, got {named.get(part)!r}")
        self._choices, self._answer = named["choices"], named["answer"]
        _check_template("prompt", prompt, ("{question}",))
        for option, template in (("choice_line", choice_line), ("continuation", continuation)):
            _check_template(option, template, ("{choice}", "{letter}", "{number}"))
        self._prompt, self._choice_line, self._continuation = prompt, choice_line, continuation
        columns_read = Columns(named["id"], named["question"], named["answer"])
        self._splits = Splits(name, files, hub, limit, columns_read, allow_overlap=allow_overlap, refine=self._with_choices)

    def examples(self, split: Split) -> Sequence[Example]:
        """The examples of a split, read once; the validation split may be empty.

        Raises:
            DataError: The split is missing or cannot be read, a row's choices or answer cannot be used, or it shares questions
                with another split.
        """
        return self._splits.examples(split)

    def prompt(self, example: Example) -> Prompt:
        """The context of all choices."""
        choices = example.choices if isinstance(example, ChoiceExample) else ()
        listed = "\n".join(_filled(self._choice_line, i, choice) for i, choice in enumerate(choices))
        # The question last: it may hold braces of its own. Choices that do are refused when they are read.
        return self._prompt.replace("{choices}", listed).replace("{question}", example.question)

    def answering_of(self, example: Example) -> Answering:
        """The likelihood of each choice after the prompt; a question without choices is answered freely."""
        if not isinstance(example, ChoiceExample):
            return FREELY
        context = self.prompt(example)
        pairs = tuple((context, _filled(self._continuation, i, choice)) for i, choice in enumerate(example.choices))
        return Likelihoods(pairs, labels=example.choices)

    def score(self, example: Example, answer: tuple[LogLikelihood, ...]) -> tuple[float, ...]:
        """Accuracy by log-likelihood, and by log-likelihood a character of the choice; each 0 or 1."""
        assert isinstance(example, ChoiceExample), "only these are compared"
        totals = [each.total for each in answer]
        by_character = [total / len(choice) for total, choice in zip(totals, example.choices, strict=True)]
        return tuple(float(values.index(max(values)) == example.right) for values in (totals, by_character))

    def _with_choices(self, example: Example, row: Mapping[str, object], place: str) -> Example:
        choices = row.get(self._choices)
        if (
            not isinstance(choices, list | tuple)
            or len(choices) < 2
            or not all(isinstance(choice, str) and choice for choice in choices)
        ):
            raise DataError(
                f"{place}: '{self._choices}' must be a list of two texts or more, none of them empty, got {choices!r}; "
                "task.columns.choices names the field"
            )
        if any("{question}" in choice for choice in choices):
            raise DataError(f"{place}: a choice cannot hold the text '{{question}}'")
        if len(choices) > len(_LETTERS):
            raise DataError(f"{place}: '{self._choices}' may hold {len(_LETTERS)} choices, got {len(choices)}")
        answer = row.get(self._answer)
        if isinstance(answer, str) and choices.count(answer) == 1:
            right = list(choices).index(answer)
        elif isinstance(answer, int) and not isinstance(answer, bool) and 0 <= answer < len(choices):
            right = answer
        else:
            raise DataError(
                f"{place}: '{self._answer}' must be one of the {len(choices)} choices, or its place from 0 to "
                f"{len(choices) - 1}, got {answer!r}"
            )
        return ChoiceExample(example.id, example.question, choices[right], tuple(choices), right)


def _filled(template: str, number: int, choice: str) -> str:
    # The choice last: it may hold braces of its own.
    return template.replace("{letter}", _LETTERS[number]).replace("{number}", str(number)).replace("{choice}", choice)


def _check_template(option: str, template: object, needed: Sequence[str]) -> None:
    if not isinstance(template, str) or not any(name in template for name in needed):
        raise ConfigError(f"task.{option}: must be a text with {' or '.join(needed)} in it, got {template!r}")
