"""How a prompt of the harness is put together: a description, solved examples, and the question; once for all tasks.

The texts themselves are in ``prompt_versions``.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from evo_merge.tasks.base import Example

Fields: TypeAlias = Mapping[str, str | tuple[str, ...]]
"""What a row holds, by name: texts and lists of texts."""

_FIELD = re.compile(r"\{(\w+)\}")


@dataclass(frozen=True, slots=True)
class JaExample(Example):
    """A row of one of the tasks.

    Attributes:
        fields: What prompts are made of, by name.
        references: The answers that count as right, or where choices are given the choices' names in ``fields``' order.
        right: Which of the choices is right, from 0; of a question that is answered in words 0.
        target: What stands after the prompt where this row is shown as solved; empty where the version's choices say it.
        weight: What a right answer counts where classes count alike: rows divided by (classes times rows of this class).
        context: The whole text that the model is given, once its solved examples are drawn.
    """

    fields: Fields
    references: tuple[str, ...]
    right: int = 0
    target: str = ""
    weight: float = 1.0
    context: str = ""


@dataclass(frozen=True, slots=True)
class PromptVersion:
    """One of the harness's prompt versions of a task.

    Attributes:
        description: What every prompt begins with.
        body: One question, with ``{field}`` for what the row holds.
        separator: Stands after each solved example.
        newline: What the version writes between lines of its own making (lists of choices, passages); ``<NL>`` for models
            whose tokenizer knows no line break.
        choices: What is compared where the choices are the same for all rows; ``None`` where the row has its own.
        target: What a solved example ends with, a template; empty: its choice or its ``JaExample.target``.
        stop: A completion ends before it.
    """

    description: str
    body: str
    separator: str = "\n\n"
    newline: str = "\n"
    choices: tuple[str, ...] | None = None
    target: str = ""
    stop: str = "\n"

    def question(self, example: JaExample) -> str:
        """The row as a question, unsolved."""
        # In one pass: what a row holds may have braces of its own.
        return _FIELD.sub(lambda found: _value(example, found[1], self.newline), self.body)

    def solution(self, example: JaExample) -> str:
        """What follows the question where it is shown as solved."""
        if self.target:
            return _FIELD.sub(lambda found: _value(example, found[1], self.newline), self.target)
        return self.choices_of(example)[example.right] if not example.target else example.target

    def choices_of(self, example: JaExample) -> tuple[str, ...]:
        """What is compared."""
        return example.references if self.choices is None else self.choices

    def context(self, example: JaExample, shots: Sequence[JaExample]) -> str:
        """The whole prompt: description, solved examples, question."""
        solved = (self.question(shot) + self.solution(shot) + self.separator for shot in shots)
        return self.description + "".join(solved) + self.question(example)


def _value(example: JaExample, name: str, newline: str) -> str:
    """A field as text; of a list ``{x}`` is its lines, ``{x_bulleted}``, ``{x_numbered}`` and ``{x_enclosed}`` as they say."""
    stem, _, form = name.rpartition("_")
    if name in example.fields:
        value = example.fields[name]
        return value if isinstance(value, str) else newline.join(value)
    values = example.fields[stem]
    if form == "bulleted":
        return newline.join(f"- {value}" for value in values)
    if form == "numbered":
        return ",".join(f"{i}.{value}" for i, value in enumerate(values))
    assert form == "enclosed", name
    return f"[{', '.join(values)}]"
