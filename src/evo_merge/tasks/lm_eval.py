"""Any task or group of EleutherAI's lm-evaluation-harness by name, a user's own YAML included, scored on the candidate itself.

The harness reads the data, writes the prompts with their shots, and scores: its own task objects are used for all three. What
lies between, the model's answer, comes from this project's generator, so that nothing is written to disk and answers are kept
per problem. See ``docs/lm-eval.md``.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from evo_merge.errors import ConfigError, DataError
from evo_merge.tasks.base import SPLITS, Answering, Decoding, Example, Prompt, Split
from evo_merge.tasks.checks import check_choice, check_keys, checked_count, checked_limit, plain
from evo_merge.tasks.examples import refuse_overlap
from evo_merge.tasks.harness.columns import Column, columns_of
from evo_merge.tasks.harness.division import SOURCES, Division, Problem, Source
from evo_merge.tasks.harness.loading import load_units
from evo_merge.tasks.harness.metrics import mean_weight
from evo_merge.tasks.harness.requests import Answer, Asked, asked, context_of, outcomes
from evo_merge.tasks.harness.shots import Shots

# A question from outside belongs to no harness task, so it is answered freely.
_FREELY = Decoding(max_new_tokens=256)


@dataclass(frozen=True, slots=True)
class HarnessExample(Example):
    """A problem of a harness task.

    Attributes:
        task: The harness' name of the task.
        doc: The harness' document.
        asked: What the model is asked.
        split: Which of our splits it is in.
    """

    task: str
    doc: Any
    asked: Asked
    split: Split


class LmEval:
    """What the harness scores, an objective a task or group; the constructor's arguments are those of ``conf/task``."""

    language: str | None = None

    def __init__(
        self,
        *,
        name: str,
        names: Sequence[str],
        include_path: str | Sequence[str] | None,
        metric: str | None,
        num_fewshot: int | None,
        limit: Mapping[str, int | None],
        splits: Mapping[str, str | None],
        share: Mapping[str, float],
        seed: int,
        apply_chat_template: bool,
        system_instruction: str | None,
        allow_overlap: bool,
    ) -> None:
        """Load the tasks; their data is read here, since the harness reads it when it builds a task.

        Args:
            name: What the run calls the task.
            names: Tasks, groups and tags of the harness, or paths of YAMLs.
            include_path: A folder of YAMLs, or several; searched before the harness' own.
            metric: The objective of every task and group; ``None`` is the first that each has.
            num_fewshot: Shots; ``None`` is each task's own number. As in the harness, a task whose own is 0 stays at 0.
            limit: Per split how many problems of each task.
            splits: Per split which of the task's: ``training``, ``validation`` or ``test``; ``None`` leaves it to the rule.
            share: Where splits share one of the task's, the part of each.
            seed: Of the shots and of that division; the run's own seed does not touch them.
            apply_chat_template: Prompts are messages, shots as turns, for the tokenizer's chat template.
            system_instruction: What stands before all prompts.
            allow_overlap: Whether splits may share questions.

        Raises:
            ConfigError: A value makes no sense, or a task cannot be asked here; names the option.
            DataError: The data of a task cannot be had.
        """
        self.name = name
        if not names or not all(isinstance(each, str) and each for each in names):
            raise ConfigError(f"task.names: must be a list of harness tasks, 'task.names=[my_task]', got {plain(names)!r}")
        folders = [include_path] if isinstance(include_path, str) else list(include_path or ())
        if num_fewshot is not None:
            checked_count("num_fewshot", num_fewshot, least=0)
        self._seed = checked_count("seed", seed, least=0)
        self._limit = checked_limit(plain(limit))
        sources, shares = _checked_sources(plain(splits)), _checked_share(plain(share))
        self._is_chat, self._system, self._allow_overlap = apply_chat_template, system_instruction, allow_overlap

        units = load_units(list(dict.fromkeys(names)), folders)
        self._tasks = {task.task_name: task for unit in units for task in unit.tasks}
        for task in self._tasks.values():
            if num_fewshot is not None and task.config.num_fewshot != 0:
                task.set_config(key="num_fewshot", value=num_fewshot)
        self._divisions = {each: Division(task, sources, shares, self._limit, self._seed) for each, task in self._tasks.items()}
        self._columns: tuple[Column, ...] = columns_of(units, metric, self._first)
        self.objectives = tuple(column.name for column in self._columns if column.is_objective)
        self.metrics = tuple(column.name for column in self._columns)
        self._read: dict[Split, tuple[HarnessExample, ...]] = {}
        self._chosen: dict[Split, dict[str, list[Problem]]] = {}
        # What a number is multiplied by, so that the mean over the split's problems is the harness' result.
        self._factors: dict[tuple[Split, str, str], float] = {}

    def examples(self, split: Split) -> Sequence[Example]:
        """The tasks' problems one after another; the validation split may be empty.

        Raises:
            DataError: A split has no problems, a row cannot be asked, or splits share questions.
        """
        if split not in self._read:
            if not self._allow_overlap:
                refuse_overlap({each: self._for_comparison(each) for each in SPLITS})
            examples = [example for name, task in self._tasks.items() for example in self._asked(name, task, split)]
            if not examples and split != "validation":
                raise DataError(
                    f"task '{self.name}' has no {split} problems; give it some: task.share.{split}, task.splits.{split}"
                )
            self._read[split] = tuple(examples)
            self._weigh(split)
        return self._read[split]

    def prompt(self, example: Example) -> Prompt:
        """As the harness writes it, shots included."""
        return example.asked.prompt if isinstance(example, HarnessExample) else example.question

    def answering_of(self, example: Example) -> Answering:
        """As the harness asks: a completion, or likelihoods."""
        return example.asked.answering if isinstance(example, HarnessExample) else _FREELY

    def score(self, example: Example, answer: Answer) -> tuple[float, ...]:
        """The harness' numbers; nan for those of other tasks. See ``evo_merge.tasks.harness.metrics``."""
        assert isinstance(example, HarnessExample), "only these are scored"
        found = outcomes(self._tasks[example.task], example.doc, example.asked.instances, answer)
        row = []
        for column in self._columns:
            metric = column.metrics.get(example.task)
            factor = self._factors.get((example.split, example.task, column.name), 1.0)
            row.append(math.nan if metric is None else factor * metric.of(found, example.task))
        return tuple(row)

    def _first(self, name: str) -> tuple[Any, Asked]:
        """A problem of a task, without shots."""
        task = self._tasks[name]
        doc = next(iter(task.eval_docs))
        return doc, asked(task, doc, 0, context_of(task, doc, 0, self._system, is_chat=self._is_chat), is_chat=self._is_chat)

    def _problems(self, split: Split) -> dict[str, list[Problem]]:
        if split not in self._chosen:
            self._chosen[split] = {name: division.problems(split) for name, division in self._divisions.items()}
        return self._chosen[split]

    def _for_comparison(self, split: Split) -> list[Example]:
        return [problem.as_example(name) for name, problems in self._problems(split).items() for problem in problems]

    def _asked(self, name: str, task: Any, split: Split) -> list[HarnessExample]:
        problems = self._problems(split)[name]
        tested = frozenset(problem.key for problem in self._problems("test")[name])
        shots = Shots(task, self._seed, self._system, is_chat=self._is_chat)
        if split == "test":
            contexts = shots.of_the_harness(problems, self._divisions[name].docs(split))
        else:
            contexts = shots.apart_from(problems, tested)
        return [
            HarnessExample(
                id=f"{name}/{problem.source}-{problem.number:04d}",
                question=problem.question,
                answer=problem.answer,
                task=name,
                doc=problem.doc,
                asked=asked(task, problem.doc, problem.number, context, is_chat=self._is_chat),
                split=split,
            )
            for problem, context in zip(problems, contexts, strict=True)
        ]

    def _weigh(self, split: Split) -> None:
        own = {name: [each for each in self._read[split] if each.task == name] for name in self._tasks}
        for column in self._columns:
            sizes = {name: len(own[name]) for name in column.metrics if own[name]}
            for name, size in sizes.items():
                metric = column.metrics[name]
                factor = 1 / mean_weight(metric, self._tasks[name], [(each.doc, each.asked) for each in own[name]])
                if not column.by_size:
                    factor *= sum(sizes.values()) / (len(sizes) * size)
                self._factors[split, name, column.name] = factor


def _checked_sources(splits: Any) -> dict[Split, Source | None]:
    check_keys("splits", splits, SPLITS)
    for split, source in splits.items():
        if source is not None:
            check_choice(f"splits.{split}", source, SOURCES)
    return {split: splits.get(split) for split in SPLITS}


def _checked_share(share: Any) -> dict[Split, float]:
    check_keys("share", share, SPLITS)
    for split, part in share.items():
        if isinstance(part, bool) or not isinstance(part, int | float) or not 0 <= part < math.inf:
            raise ConfigError(f"task.share.{split}: must be a number of at least 0, got {part!r}")
    return {split: float(share.get(split, 0.0)) for split in SPLITS}
