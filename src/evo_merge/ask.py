"""``python -m evo_merge.ask <run folder> "…"``: what the sources and the merge answer to one question, side by side."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from evo_merge.command_line import guarded
from evo_merge.errors import ConfigError
from evo_merge.help import asks_for_help
from evo_merge.recipe import methods_of
from evo_merge.study import Study, opened
from evo_merge.study_records import Entrant
from evo_merge.tasks.base import FREELY, Decoding, Example, Portion, Prompt, Split, Task

_HELP = """\
python -m evo_merge.ask <run folder> "QUESTION"

Prints what the sources of a run and its merge answer to one question, side by side. They are asked as the run's task asks, with
its prompt and its generator; nothing is scored.

  python -m evo_merge.ask outputs/<day>/<time> "What is 3 + 5?"
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit code."""
    return guarded(lambda: _ask(list(sys.argv[1:] if arguments is None else arguments)))


def _ask(arguments: list[str]) -> None:
    if asks_for_help(arguments):
        print(_HELP, end="")  # noqa: T201
        return
    if len(arguments) != 2:
        raise ConfigError('give a run folder and a question: python -m evo_merge.ask outputs/<day>/<time> "…"')
    folder, question = Path(arguments[0]).expanduser(), arguments[1]
    if not question.strip():
        raise ConfigError("the question is empty")
    from omegaconf import OmegaConf

    with opened(Study.read(folder)) as study:
        config: Any = OmegaConf.create(study.get("config") or "")
        asked = [entrant for entrant in study.entrants() if entrant.role in ("source", "best")]
    if not any(entrant.role == "best" for entrant in asked):
        raise ConfigError(f"'{folder}' has no merge yet; finish the run with  python -m evo_merge resume={folder}")
    for name, text in _answers(config, asked, question):
        print(f"{name}\n    {text.strip() or '(nothing)'}\n")  # noqa: T201


def _answers(config: Any, asked: Sequence[Entrant], question: str) -> list[tuple[str, str]]:
    from hydra.utils import instantiate

    from evo_merge.evaluation.setup import few_threads, new_evaluator, new_pool, new_trainer
    from evo_merge.models.assemble import Assembler
    from evo_merge.tasks.several import Several

    way = instantiate(config.task, _convert_="all")
    # A task made of several asks each its own way; a question from outside is none of theirs, so the first part's has to do.
    task = _OneQuestion(way.parts[0] if isinstance(way, Several) else way, question)
    pool = new_pool(config)
    generator = instantiate(config.generator, _convert_="all")
    allowed = (*config.allow_code, *(name for e in asked for name in methods_of(e.recipe)))  # the run had allowed them
    with few_threads(pool):
        trainer = new_trainer(config)
        assembler = Assembler(pool, trainer.strategy.root_device, tuple(allowed))
        evaluator = new_evaluator(assembler, task, generator, trainer, ["test"], ())
        return [(e.name, "".join(evaluator.evaluate(e.recipe, Portion("test")).completions)) for e in asked]


class _OneQuestion:
    """A task's way of asking, with one question of the user's and no score."""

    metrics: tuple[str, ...] = ("score",)
    objectives: tuple[str, ...] = ("score",)

    def __init__(self, task: Task, question: str) -> None:
        self._task, self._example = task, Example("question", question, "")
        self.name, self.language = task.name, task.language

    def examples(self, split: Split) -> Sequence[Example]:
        """The one question, in any split."""
        return [self._example]

    def prompt(self, example: Example) -> Prompt:
        """As the task asks it."""
        return self._task.prompt(example)

    def answering_of(self, example: Example) -> Decoding:
        """As the task asks; freely, where it would compare continuations."""
        asked = self._task.answering_of(example)
        return asked if isinstance(asked, Decoding) else FREELY

    def score(self, example: Example, completion: str) -> tuple[float, ...]:
        """There is no right answer to compare with."""
        return (0.0,)


if __name__ == "__main__":
    sys.exit(main())
