"""What tells runs from each other, but for the seed: names of parts, and the numbers in them."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from evo_merge.report.compared_runs import ComparedRun

# These decide nothing of what is compared, or are compared in another way.
_IGNORED = (
    "seed",
    "budget",
    "merge.budget",
    "tracker",
    "trainer",
    "plan",
    "resume",
    "allow_code",
    "export",
    "generator.batch_size",
)
_NAMED = ("merge", "optimizer")  # parts whose choice is shown by its name
_MOST_CHARACTERS = 40  # of a value in a label


def labels(runs: Sequence[ComparedRun]) -> list[str]:
    """A label a run, the same for runs that differ in their seed at most: ``optimizer=cmaes, merge.granularity=layer``.

    Keys inside a merge or an optimizer are looked at among the runs that have the same one.
    """
    found: list[dict[str, str]] = [{} for _ in runs]
    everyone = range(len(runs))
    for part in _NAMED:
        names = [getattr(run, part) for run in runs]
        if len(set(names)) > 1:
            for i, name in enumerate(names):
                found[i][part] = name
        for name in dict.fromkeys(names):
            _note(found, runs, [i for i in everyone if names[i] == name], f"{part}.")
    _note(found, runs, list(everyone), "")
    return [", ".join(f"{key}={value}" for key, value in of.items()) or f"optimizer={runs[0].optimizer}" for of in found]


def shortened(found: Sequence[str]) -> list[str]:
    """Labels without their key where all have the same single one: ``cmaes`` for ``optimizer=cmaes``."""
    keys = {label.partition("=")[0] for label in found}
    return [label.partition("=")[2] if len(keys) == 1 and ", " not in "".join(found) else label for label in found]


def _note(found: list[dict[str, str]], runs: Sequence[ComparedRun], cohort: Sequence[int], prefix: str) -> None:
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
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= _MOST_CHARACTERS else f"{text[: _MOST_CHARACTERS - 1]}…"
