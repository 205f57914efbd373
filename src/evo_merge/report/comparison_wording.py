"""What a comparison says in sentences: who is ahead, by which test, and what could not be compared."""

from collections.abc import Sequence

from evo_merge.report.comparison import Contrast, FairComparison
from evo_merge.report.rank_tests import FEWEST_BLOCKS, FEWEST_GROUPS
from evo_merge.report.wording import ScoreFormat, counted, listing, p_clause

ALPHA = 0.05


def comparison_format(comparison: FairComparison) -> ScoreFormat:
    """Scores are written in percent where every known one lies between 0 and 1."""
    known = [score for run in comparison.runs for score in (run.test, run.best_search) if score is not None]
    return ScoreFormat(all(0 <= score <= 1 for score in known))


def score_name(comparison: FairComparison) -> str:
    """What the scores are."""
    run = comparison.compared[0]
    return f"hypervolume of {listing(run.fitness_names)}" if run.is_of_several else run.fitness_names[0]


def verdict(comparison: FairComparison) -> str:
    """One sentence on top of the page."""
    ranked, contrasts, first = comparison.friedman, comparison.contrasts, comparison.groups[0].label
    if ranked is not None:
        over = f"over {counted(ranked.n_blocks, 'seed')}"
        best = [s.group.label for s in comparison.standings if s.mean_rank == comparison.standings[0].mean_rank]
        ahead = f"{first} ranks first" if len(best) == 1 else f"{listing(best)} share the first rank"
        if ranked.p < ALPHA:
            return f"{ahead} of {len(comparison.groups)}, and {over} the groups differ by more than chance."
        return f"{ahead} of {len(comparison.groups)}, but {over} the groups do not differ by more than chance."
    if len(comparison.groups) == 2 and contrasts:
        (contrast,) = contrasts
        over = f"over {counted(contrast.test.n_blocks, 'seed')}"
        other = comparison.groups[1].label
        by_chance = "by more than chance" if contrast.test.p < ALPHA else "but not by more than chance"
        return (
            f"{first} is ahead of {other} {over}, {by_chance}." if _differs(comparison) else f"{first} and {other} tie {over}."
        )
    if comparison.standings[0].mean is None:
        return "The runs are not finished, so that there is no test score to compare."
    return f"{first} has the highest mean test score, which no rank test could examine."


def friedman_sentence(comparison: FairComparison) -> str:
    """The test's numbers, or why there are none."""
    ranked, n_groups = comparison.friedman, len(comparison.groups)
    if ranked is not None:
        return (
            f"Friedman’s test on the test scores, with {counted(ranked.n_blocks, 'seed')} as blocks: "
            f"χ² = {ranked.statistic:.2f} with {n_groups - 1} degrees of freedom, {p_clause(ranked.p)}."
        )
    if comparison.standings[0].mean is None:
        return "There is no rank test before the runs have test scores."
    if n_groups == 1:
        return "All runs differ in nothing but the seed, so that there is nothing to rank."
    if max(len(group.runs) for group in comparison.groups) < FEWEST_BLOCKS:
        return "There is no rank test: one seed a group says nothing about another seed; run several, such as seed=1,2,3,4,5,6."
    if n_groups < FEWEST_GROUPS:
        return f"Friedman’s test needs {FEWEST_GROUPS} groups; the signed-rank test below compares the two."
    return (
        f"Friedman’s test needs {FEWEST_BLOCKS} seeds that every group has, and there are fewer; only pairs are tested below."
    )


def contrast_note(contrasts: Sequence[Contrast]) -> str:
    """What so few seeds can show at best; empty where they are enough."""
    if not contrasts:
        return ""
    fewest = min(contrasts, key=lambda contrast: contrast.test.n_blocks)
    smallest = fewest.test.smallest_p
    if smallest * len(contrasts) <= ALPHA:
        return ""
    corrected = f", {min(1.0, smallest * len(contrasts)):.3g} after the correction" if len(contrasts) > 1 else ""
    return (
        f"With {counted(fewest.test.n_blocks, 'seed')} the signed-rank test cannot give a p below {smallest:.3g}{corrected}: "
        "too few to show a difference, however large."
    )


def notes(comparison: FairComparison, failed_jobs: Sequence[str] = ()) -> list[str]:
    """Everything that is not as it should be in a fair comparison, a sentence each; ``failed_jobs`` are a sweep's."""
    said = [f"The job {job} left no finished run." for job in failed_jobs]
    said += [f"{folder} is left out: {reason}." for folder, reason in comparison.left_out]
    for group, seeds in comparison.missing:
        known = ", ".join(str(seed) for seed in seeds)
        said.append(f"{group.label} has no finished run with {'the seed' if len(seeds) == 1 else 'the seeds'} {known}.")
    if comparison.missing and comparison.friedman is not None:
        said.append(f"Friedman’s test is over the {comparison.friedman.n_blocks} seeds that all groups have.")
    made = sorted({run.evaluations for run in comparison.compared})
    if len(made) > 1:
        said.append(_unequal(comparison, made))
    run = comparison.compared[0]
    if run.is_of_several:
        said.append(
            f"The runs have the objectives {listing(run.fitness_names)}, which no one number stands for. What is called a "
            "score here is a hypervolume: on the search split of all candidates so far, on the test split of the members of "
            "the front."
        )
    if any(run.has_batches for run in comparison.compared):
        said.append("Generations were asked different problems, so that there is no best so far and no target to reach.")
    return said


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
        f"{begin}. Test scores are of what each run chose among all its evaluations: {len(late)} of {len(chosen)} chose one "
        f"that came after the first {comparison.evaluations}."
    )


def _differs(comparison: FairComparison) -> bool:
    first, second = (standing.mean for standing in comparison.standings)
    return first != second
