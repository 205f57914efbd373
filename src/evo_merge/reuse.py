"""What earlier runs evaluated, for a run that asks the same: ``evaluation.reuse``.

An answer is taken over only where it would come out the same again: the same recipe, over models with the same weights, asked
the same texts, answered and scored by the same settings of the same version. Whatever differs is evaluated as ever.
"""

import hashlib
import json
import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
from omegaconf import DictConfig, OmegaConf

from evo_merge import __version__
from evo_merge.errors import ConfigError, StudyError
from evo_merge.evaluation.base import Evaluation
from evo_merge.evaluation.cost import NOTHING
from evo_merge.fingerprints import is_same
from evo_merge.models.pool import Pool
from evo_merge.recipe import Recipe
from evo_merge.study import Study
from evo_merge.tasks.base import Decoding, Example, Split, Task

log = logging.getLogger(__name__)
# Of a generator: what changes only how fast answers come, or where from.
_SAME_ANSWERS = ("batch_size", "token_budget", "drafts", "python", "cache_gigabytes", "tolerance")
ANSWERING = "answering"  # of a study: what ``answering`` says of its pool
_OF_NO_ACCOUNT = ("_name_or_path", "transformers_version", "use_cache")  # of a model's config
_DATA = ("files", "limit", "share", "data")  # of a task: what its examples stand for


class Memories:
    """A run's study, and behind it those of earlier runs; see ``evo_merge.evaluation.pieced.Memory``.

    Args:
        own: The run's.
        earlier: Studies that ``earlier_studies`` found to fit.
        task: Whose metrics are wanted: an earlier run may have had objectives of its own besides.
    """

    def __init__(self, own: Study, earlier: Sequence[Study], task: Task) -> None:
        self._own, self._earlier, self._task = own, earlier, task
        self._same: dict[tuple[int, str], bool] = {}
        self._writes: dict[str, tuple[bool, ...]] = {}

    def examples(self, split: str) -> list[Example]:
        """Of a whole split, by its portion's key."""
        return self._own.examples(split)

    def portions(self, recipe: Recipe, split: str) -> list[str]:
        """Keys of the portions of a split that a recipe has answered, here or there."""
        keys = self._own.portions(recipe, split)
        for study in self._asked_alike(split):
            keys += study.portions(recipe, split)
        return list(dict.fromkeys(keys))

    def evaluation(self, recipe: Recipe, portion: str) -> Evaluation | None:
        """What it scored on one of them; what an earlier run found costs this one nothing."""
        split = portion.split(":")[0]
        found = self._own.evaluation(recipe, portion)
        if found is not None:
            return replace(found, written=self._written(split, found))
        for study in self._asked_alike(split):
            found = study.evaluation(recipe, portion)
            if found is not None and found.failure is None and set(self._task.metrics) <= set(found.metrics):
                return replace(self._of_task(found), written=self._written(split, found))
        return None

    def _written(self, split: str, found: Evaluation) -> tuple[bool, ...] | None:
        """Which completions the model wrote itself: a study does not say, the task does."""
        if found.failure is not None:
            return None
        if split not in self._writes:
            examples = self._task.examples(cast(Split, split.rpartition("/")[2]))
            self._writes[split] = tuple(isinstance(self._task.answering_of(example), Decoding) for example in examples)
        writes = self._writes[split]
        return writes if found.positions is None else tuple(writes[place] for place in found.positions)

    def _asked_alike(self, split: str) -> Iterator[Study]:
        for number, study in enumerate(self._earlier):
            if (number, split) not in self._same:
                mine, theirs = self._own.get(f"asked/{split}"), study.get(f"asked/{split}")
                same = bool(mine) and mine == theirs and self._own.examples(split) == study.examples(split)
                self._same[number, split] = same
            if self._same[number, split]:
                yield study

    def _of_task(self, found: Evaluation) -> Evaluation:
        """Without the other run's aim and costs."""
        columns = [found.metrics.index(name) for name in self._task.metrics]
        return replace(
            found,
            metrics=self._task.metrics,
            n_objectives=len(self._task.objectives),
            scores=np.ascontiguousarray(found.scores[:, columns]),
            scalar=None,
            violation=0.0,
            cost=NOTHING,
        )


@contextmanager
def earlier_studies(
    folders: Sequence[str], config: DictConfig, pool: Pool, *, is_resumed: bool = False
) -> Iterator[list[Study]]:
    """The studies of earlier runs whose answers would come out the same in this one, open as long as the context.

    Args:
        folders: Run folders.
        config: Of this run, resolved.
        pool: This run's models.
        is_resumed: Whether a folder that is gone is only a warning: what the run took from it is in its own study.

    Raises:
        ConfigError: A folder holds no run, or one that answers or scores otherwise; the message says what differs.
    """
    with ExitStack() as stack:
        studies = []
        for folder in folders:
            try:
                study = Study.read(Path(folder).expanduser())
            except StudyError as error:
                if not is_resumed:
                    raise ConfigError(f"evaluation.reuse: {error}") from error
                log.warning("evaluation.reuse: %s; what it would have spared is evaluated", error)
                continue
            stack.callback(study.close)
            if difference := _difference(study, config, pool):
                raise ConfigError(
                    f"evaluation.reuse: answers of '{folder}' would not be those of this run: {difference}; leave it out, or "
                    "give the runs the same settings"
                )
            studies.append(study)
        yield studies


def answering(pool: Pool) -> dict[str, str]:
    """Digests of what decides answers beside weights and prompts, by what it is."""
    tokenizer = pool.tokenizer
    words = None if tokenizer is None else [tokenizer.backend_tokenizer.to_str(), tokenizer.chat_template]
    found = {
        "tokenizer and chat template": words,
        "end tokens": None if pool.generation_config is None else pool.generation_config.eos_token_id,
    }
    for model in pool.models:
        found[f"config of '{model.reference}'"] = {
            key: value for key, value in model.config.to_dict().items() if key not in _OF_NO_ACCOUNT
        }
    return {
        what: hashlib.sha256(json.dumps(value, sort_keys=True, default=str).encode()).hexdigest()
        for what, value in found.items()
    }


def _difference(study: Study, config: DictConfig, pool: Pool) -> str | None:
    """What keeps the answers of a study from being this run's, or ``None``."""
    version = study.get("evo_merge_version")
    if version != __version__:
        return f"it was made by evo-merge {version}, this is {__version__}" if version else "it ended before it began"
    theirs, ours = OmegaConf.create(study.get("config") or "{}"), config
    for part, free in (("task", _DATA), ("generator", _SAME_ANSWERS)):
        if different := _first_difference(_without(theirs, part, free), _without(ours, part, free), part):
            return different
    known = {f"weights of '{name}'": value for name, value in study.fingerprints.items()}
    known |= json.loads(study.get(ANSWERING) or "{}")
    mine = {f"weights of '{model.reference}'": model.fingerprint for model in pool.models} | answering(pool)
    changed = [what for what in mine.keys() & known.keys() if not is_same(known[what], mine[what])]
    return f"the {min(changed)} changed" if changed else None


def _without(config: Any, part: str, free: Sequence[str]) -> Any:
    def trimmed(node: Any) -> Any:
        if isinstance(node, Mapping):
            return {key: trimmed(value) for key, value in node.items() if key not in free}
        return node

    return trimmed(OmegaConf.to_container(config[part], resolve=True) if part in config else {})


def _first_difference(theirs: Any, ours: Any, path: str) -> str | None:
    if isinstance(theirs, Mapping) and isinstance(ours, Mapping):
        found = (_first_difference(theirs.get(key), ours.get(key), f"{path}.{key}") for key in sorted({*theirs, *ours}))
        return next((difference for difference in found if difference), None)
    return None if theirs == ours else f"{path} is {theirs!r} there and {ours!r} here"
