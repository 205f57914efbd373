"""Refuses runs that are not about the same thing, so that a rank between them would mean nothing."""

from collections.abc import Sequence

from evo_merge.errors import ConfigError
from evo_merge.report.comparison.run import ComparedRun


def refuse_unlike(runs: Sequence[ComparedRun]) -> None:
    """Raise ``ConfigError`` where two runs differ in their task, in what they maximise, or in the problems of a split."""
    first = runs[0]
    known: dict[str, ComparedRun] = {}  # a split's first run; one that was stopped early has not asked the test split
    configured = next((run for run in runs if run.config), first)
    for run in runs:
        pair = f"'{first.folder}' and '{run.folder}'"
        if run.task != first.task:
            raise ConfigError(f"{pair} have other tasks, '{first.task}' and '{run.task}'; compare runs of one task")
        for names, of in (("objectives", "objectives="), ("fitness_names", "scalarize=")):
            pair_of = [", ".join(getattr(r, names)) for r in (first, run)]
            if pair_of[0] != pair_of[1]:
                raise ConfigError(
                    f"{pair} maximise other numbers, '{pair_of[0]}' and '{pair_of[1]}'; compare runs with the same {of}…"
                )
        if run.is_scalarized and run.config and run.part("scalarize") != configured.part("scalarize"):
            raise ConfigError(
                f"'{configured.folder}' and '{run.folder}' make '{run.fitness_names[0]}' of their objectives in other ways "
                f"({_difference(configured, run)}); compare runs with the same scalarize.*"
            )
        for split, digest in run.asked.items():
            other = known.setdefault(split, run)
            if other.asked[split] != digest:
                raise ConfigError(
                    f"'{other.folder}' and '{run.folder}' were asked other problems of the {split} split; compare runs with "
                    "the same task.*"
                )


def _difference(a: ComparedRun, b: ComparedRun) -> str:
    """The first key that differs: ``scalarize.ideal is 1.0 and 0.9``."""
    values_a, values_b = a.part("scalarize"), b.part("scalarize")
    key = next(key for key in (values_a | values_b) if values_a.get(key) != values_b.get(key))
    said = [str(values[key]) if key in values else "not given" for values in (values_a, values_b)]
    return f"{key} is {said[0]} and {said[1]}"
