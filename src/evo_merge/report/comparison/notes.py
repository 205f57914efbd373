"""What is not as it should be in a fair comparison, a sentence each."""

from collections.abc import Sequence

from evo_merge.report.comparison.values import FairComparison
from evo_merge.report.wording import listing
from evo_merge.statistics.ranks import FEWEST_BLOCKS


def notes(comparison: FairComparison, failed_jobs: Sequence[str] = ()) -> list[str]:
    """The sentences; ``failed_jobs`` are a sweep's."""
    said = [f"The job {job} left no finished run." for job in failed_jobs]
    said += [f"{left.folder} is left out: {left.reason}." for left in comparison.left_out]
    if any(left.is_flattering for left in comparison.left_out):
        said.append(
            "Leaving out runs that ended without a model to compare flatters their group: only its luckier seeds count."
        )
    said += _missing(comparison)
    made = sorted({run.evaluations for run in comparison.compared})
    if len(made) > 1:
        said.append(_unequal(comparison, made))
    if any(run.constraints != comparison.compared[0].constraints for run in comparison.compared):
        said.append(
            "The runs had to keep to different constraints: a lower score may be the price of a stricter one, and is no "
            "shortcoming of the optimizer or the method."
        )
    run = comparison.compared[0]
    if run.is_of_several:
        said.append(
            f"The runs have the objectives {listing(run.fitness_names)}, which no one number stands for. What is called a "
            "score here is a hypervolume: on the search split of all candidates so far, on the test split of the members of "
            f"the front. {_reference_points(comparison)}".rstrip()
        )
    if any(run.has_batches for run in comparison.compared):
        said.append(
            "Candidates were asked some of the search problems only, so that there is no best so far and no target to reach."
        )
    return said


def _missing(comparison: FairComparison) -> list[str]:
    said = []
    for group, seeds in comparison.missing:
        known = ", ".join(str(seed) for seed in seeds)
        finished = "finished run" if comparison.is_tested else "run"
        said.append(f"{group.label} has no {finished} with {'the seed' if len(seeds) == 1 else 'the seeds'} {known}.")
    if comparison.missing and comparison.friedman is not None:
        said.append(f"Friedman’s test is over the {comparison.friedman.n_blocks} seeds that all groups have.")
    tested = [contrast.group for contrast in comparison.contrasts]
    untested = [group.label for group in comparison.groups if group not in (*tested, comparison.reference)]
    if tested and untested:
        said.append(
            f"{listing(untested)} {'has' if len(untested) == 1 else 'have'} fewer than {FEWEST_BLOCKS} seeds in common with "
            f"{comparison.reference.label}, too few for a test against it."
        )
    return said


def _reference_points(comparison: FairComparison) -> str:
    """``The volumes begin at score 0 and brevity -30.0 on the search split, …``."""
    if comparison.above is None:
        return ""
    names = comparison.compared[0].fitness_names
    at = [
        f"{listing([f'{name} {value:.3g}' for name, value in zip(names, point, strict=True)])} on the {split} split"
        for split, point in (("search", comparison.above.search), ("test", comparison.above.test))
        if point
    ]
    return f"The volumes begin at the reference point {listing(at)}." if at else ""


def _unequal(comparison: FairComparison, made: Sequence[int]) -> str:
    begin = f"The runs made {made[0]} to {made[-1]} evaluations"
    if comparison.has_curves:
        begin += f"; search scores are compared at {comparison.evaluations}, which all reached"
    chosen = [run for run in comparison.compared if run.chosen_after is not None]
    late = [run for run in chosen if (run.chosen_after or 0) > comparison.evaluations]
    if not chosen:
        return f"{begin}."
    if not late:
        return (
            f"{begin}. Every chosen candidate was among the first {comparison.evaluations}, so that test scores are fair too."
        )
    return (
        f"{begin}. Test scores are of what each run chose among all its evaluations: {len(late)} of "
        f"{len(chosen)} chose one that came after the first {comparison.evaluations}."
    )
