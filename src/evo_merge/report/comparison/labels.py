"""What tells runs from each other, but for the seed: names of parts, and the numbers in them."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any

from evo_merge.report.comparison.run import ComparedRun

BUDGETS = ("budget", "merge.budget")
# These decide nothing of what is compared, or are compared in another way.
_IGNORED = (
    *("seed", *BUDGETS, "tracker", "trainer", "plan", "resume", "allow_code", "export"),
    *("generator.batch_size", "generator.python", "generator.cache_gigabytes", "evaluation.reuse"),
)
_NAMED = ("merge", "optimizer")  # parts whose choice is shown by its name
_MOST_CHARACTERS = 40  # of a value in a label

Factors = dict[str, str]  # a run's values by their dotted keys, written out in full


def factors(runs: Sequence[ComparedRun]) -> list[Factors]:
    """What differs, of each run: equal for runs that differ in their seed at most.

    Keys inside a merge or an optimizer are looked at among the runs that have the same one.
    """
    found: list[Factors] = [{} for _ in runs]
    everyone = range(len(runs))
    for part in _NAMED:
        names = [getattr(run, part) for run in runs]
        if len(set(names)) > 1:
            for i, name in enumerate(names):
                found[i][part] = name
        for name in dict.fromkeys(names):
            _note(found, runs, [i for i in everyone if names[i] == name], f"{part}.")
    _note(found, runs, list(everyone), "")
    return [of or {"optimizer": runs[0].optimizer} for of in found]


def labels(found: Sequence[Factors]) -> list[str]:
    """``optimizer=cmaes, merge.granularity=layer``, with long values shortened, and other for other factors."""
    values: dict[str, set[str]] = {}
    for of in found:
        for key, value in of.items():
            values.setdefault(key, set()).add(value)
    shown = {key: _shown(of_key) for key, of_key in values.items()}
    return [", ".join(f"{key}={shown[key][value]}" for key, value in of.items()) for of in found]


def shortened(found: Sequence[Factors]) -> list[str]:
    """The labels without their key where all have the same single one: ``cmaes`` for ``optimizer=cmaes``."""
    is_one = all(len(of) == 1 for of in found) and len({key for of in found for key in of}) == 1
    return [label.partition("=")[2] if is_one else label for label in labels(found)]


def _note(found: list[Factors], runs: Sequence[ComparedRun], cohort: Sequence[int], prefix: str) -> None:
    """Add the keys with the prefix, or outside the named parts, whose values differ within a cohort of runs."""
    known = [i for i in cohort if runs[i].config]
    for key in dict.fromkeys(key for i in known for key in runs[i].config):
        if not _is_looked_at(key, prefix):
            continue
        values = [_written(runs[i].config, key) for i in known]
        if len(set(values)) > 1:
            for i, value in zip(known, values, strict=True):
                found[i][key] = value


def _is_looked_at(key: str, prefix: str) -> bool:
    if any(key == ignored or key.startswith(f"{ignored}.") for ignored in _IGNORED):
        return False
    return key.startswith(prefix) if prefix else key.split(".")[0] not in _NAMED


def _written(config: Mapping[str, Any], key: str) -> str:
    value = config.get(key)
    if value in ("", [], {}):  # like an option that the version of an earlier run did not have
        value = None
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _shown(values: set[str]) -> dict[str, str]:
    """Each value as a label shows it. Values that begin alike get a digest, which does not depend on the other runs."""
    cut = {value: value if len(value) <= _MOST_CHARACTERS else f"{value[: _MOST_CHARACTERS - 1]}…" for value in values}
    texts = list(cut.values())
    return {
        value: text if texts.count(text) == 1 else f"{text} #{hashlib.sha256(value.encode()).hexdigest()[:6]}"
        for value, text in cut.items()
    }
