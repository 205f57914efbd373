"""Who is compared: runs that can be, in groups that differ in more than the seed, and why the others are left out."""

from collections.abc import Sequence

from evo_merge.errors import ConfigError
from evo_merge.report.comparison.labels import BUDGETS, factors, labels, shortened
from evo_merge.report.comparison.run import ComparedRun
from evo_merge.report.comparison.values import Group, LeftOut


def grouped(runs: Sequence[ComparedRun]) -> tuple[list[Group], list[LeftOut]]:
    """The groups of the finished runs, or of all that searched where none is finished, and who is left out.

    Raises:
        ConfigError: No run has evaluated a candidate.
    """
    chosen = [run for run in runs if run.is_finished] or [run for run in runs if run.evaluations]
    if not chosen:
        raise ConfigError("none of the runs has evaluated a candidate yet; wait for them, or resume them")
    left_out = [_without_score(run) for run in runs if run not in chosen]
    found = factors(chosen)
    by_factors: dict[tuple[tuple[str, str], ...], dict[int | None, ComparedRun]] = {}
    kept = {}
    for run, of in zip(chosen, found, strict=True):
        key = tuple(of.items())
        kept[key] = of
        seen = by_factors.setdefault(key, {})
        if run.seed not in seen:
            seen[run.seed] = run
            continue
        longer, shorter = (run, seen[run.seed]) if run.evaluations > seen[run.seed].evaluations else (seen[run.seed], run)
        seen[run.seed] = longer
        left_out.append(LeftOut(shorter.folder, _again(shorter, longer)))
    groups = []
    names = zip(labels(list(kept.values())), shortened(list(kept.values())), by_factors.values(), strict=True)
    for label, short, by_seed in names:
        ordered = sorted(by_seed.values(), key=lambda run: -1 if run.seed is None else run.seed)
        groups.append(Group(label, short, ordered[0].optimizer, tuple(ordered)))
    return groups, left_out


def _without_score(run: ComparedRun) -> LeftOut:
    return LeftOut(run.folder, run.dead_end or "it is not finished", is_flattering=bool(run.dead_end))


def _again(run: ComparedRun, kept: ComparedRun) -> str:
    if run.part(*BUDGETS) != kept.part(*BUDGETS):
        other = f"it is '{kept.folder}' with another budget"
        if run.evaluations == kept.evaluations:
            return f"{other} and as many evaluations"
        return f"{other}, {run.evaluations} evaluations instead of {kept.evaluations}, and the longer run is kept"
    return f"it has the config and seed of '{kept.folder}'"
