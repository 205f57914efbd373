"""A task of the jp-stable harness as a task of ours; the constructor's arguments are those of ``conf/task/jp_lmeh``."""

import difflib
from collections.abc import Mapping, Sequence
from typing import Any

from evo_merge.command_line import nearest
from evo_merge.errors import ConfigError
from evo_merge.tasks.base import Answering, Decoding, Example, Prompt, Split
from evo_merge.tasks.japanese import check_installed
from evo_merge.tasks.jp_lmeh.benchmarks import BENCHMARKS
from evo_merge.tasks.jp_lmeh.data import ShotSplits
from evo_merge.tasks.jp_lmeh.prompt_versions import PROMPTS
from evo_merge.tasks.jp_lmeh.prompts import JaExample
from evo_merge.tasks.jp_lmeh.scoring import Classes

# A question from outside has no choices, so it is answered freely.
_FREELY = Decoding(max_new_tokens=256)


class JpLmeh:
    """One of the nine tasks, with the harness's prompts, solved examples and metric.

    Attributes:
        objectives: The metric of the paper's table.
    """

    language: str | None = None

    def __init__(
        self,
        *,
        name: str,
        benchmark: str,
        prompt_version: str | float,
        shots: int,
        data: str | None,
        files: Mapping[str, str | None],
        hub: Mapping[str, Mapping[str, str | None] | None] | None,
        limit: Mapping[str, int | None],
        allow_overlap: bool,
    ) -> None:
        """Check the options; no data is read before the first call of ``examples``.

        Args:
            name: What the run calls the task; a stand-in for the published data says so in its name.
            benchmark: One of ``BENCHMARKS``: prompts, fields of a row, metric.
            prompt_version: As ``0.3``, or with the task's version as ``1.2-0.3``.
            shots: Solved examples before each question.
            data: A folder that files are looked up in; see ``ShotSplits``.
            files: Per split, and of ``shots``, a JSON Lines file; it goes before the hub.
            hub: Likewise ``path``, ``name``, ``split`` and ``revision`` of a dataset.
            limit: Per split how many rows are used, after the harness's shuffle.
            allow_overlap: Whether splits may share questions.

        Raises:
            ConfigError: A value makes no sense, or a package is missing; names what to do.
        """
        if benchmark not in BENCHMARKS:
            raise ConfigError(f"task.benchmark: there is no '{benchmark}'; {nearest(benchmark, BENCHMARKS)}")
        chosen = BENCHMARKS[benchmark]
        self.name = name
        self._scoring = chosen.scoring
        if chosen.scoring.compares_words:
            check_installed(name)
        self.metrics = chosen.scoring.metrics
        self.objectives = self.metrics[:1]
        self.version = _version_named(benchmark, str(prompt_version))
        self._prompts = PROMPTS[benchmark][self.version]
        self._splits = ShotSplits(
            benchmark,
            chosen.parse,
            chosen.parse_shot or chosen.parse,
            data=data,
            files=files,
            hub=hub,
            limit=limit,
            shots=shots,
            stratified=chosen.stratified,
            allow_overlap=allow_overlap,
        )

    def examples(self, split: Split) -> Sequence[Example]:
        """The examples in the harness's order, prompts made; the validation split may be empty.

        Raises:
            DataError: Rows are missing or cannot be used; names the file and the line.
        """
        return self._splits.examples(split, self._prompts.context)

    def prompt(self, example: Example) -> Prompt:
        """Description, solved examples, question; of two sentences that are compared there is none, so they are shown."""
        if not isinstance(example, JaExample):
            return example.question
        return example.context or " / ".join(example.references)

    def answering_of(self, example: Example) -> Answering:
        """With a choice by its likelihood, or in words; a question from outside is answered freely."""
        return self._scoring.answering(example, self._prompts) if isinstance(example, JaExample) else _FREELY

    def score(self, example: Example, answer: Any) -> tuple[float, ...]:
        """The task's metrics."""
        assert isinstance(example, JaExample), "only these are scored"
        return self._scoring.score(example, answer)

    def corpus_metrics(self, examples: Sequence[Any], completions: Sequence[str]) -> dict[str, float]:
        """What is no mean over the examples, made of the kept answers; empty where the task has nothing such."""
        return self._scoring.corpus_metrics(examples, completions) if isinstance(self._scoring, Classes) else {}


def _version_named(benchmark: str, wanted: str) -> str:
    """The full name of a prompt version that may be given without the task's version."""
    known = PROMPTS[benchmark]
    full = next((name for name in known if wanted in (name, name.partition("-")[2])), None)
    if full is not None:
        return full
    short = [name.partition("-")[2] or name for name in known]
    near = difflib.get_close_matches(wanted, [*short, *known], n=1, cutoff=0.5)
    hint = f"; did you mean '{near[0]}'?" if near else ""
    raise ConfigError(f"task.prompt_version: '{benchmark}' has {', '.join(known)}, got '{wanted}'{hint}")
