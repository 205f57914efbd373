"""What a comparison says in sentences: who is ahead, by which test, and against whom."""

import math
from dataclasses import dataclass

from evo_merge.report.comparison.values import Contrast, FairComparison, Standing
from evo_merge.report.wording import ScoreFormat, counted, listing, p_clause
from evo_merge.statistics.ranks import FEWEST_BLOCKS, FEWEST_GROUPS, RESAMPLES

ALPHA = 0.05
_SLACK = 1e-12  # between means that are the same number


@dataclass(frozen=True, slots=True)
class PlainNumbers(ScoreFormat):
    """Scores that are no shares of problems, with ``digits`` significant digits."""

    is_fraction: bool = False
    digits: int = 3

    def score(self, value: float) -> str:
        """``0.500``, ``12.3``, ``1,230``."""
        return self._written(value)

    def interval(self, low: float, high: float) -> str:
        """``0.480 to 0.520``."""
        return f"{self._written(low)} to {self._written(high)}"

    def difference(self, value: float) -> str:
        """``+0.0200``."""
        return self._written(value, "+")

    def distance(self, value: float) -> str:
        """Without a sign."""
        return self._written(abs(value))

    def _written(self, value: float, sign: str = "") -> str:
        magnitude = math.floor(math.log10(abs(value))) if value and math.isfinite(value) else 0
        if not -5 <= magnitude <= 6:
            return f"{value:{sign}.{self.digits}g}"
        decimals = self.digits - 1 - magnitude
        return f"{round(value, decimals):{sign},.{max(0, decimals)}f}"


def comparison_format(comparison: FairComparison) -> ScoreFormat:
    """Scores are written in percent where all are shares of problems."""
    return ScoreFormat(is_fraction=True) if comparison.is_fraction else PlainNumbers()


def score_name(comparison: FairComparison) -> str:
    """What the scores are."""
    run = comparison.compared[0]
    return f"hypervolume of {listing(run.fitness_names)}" if run.is_of_several else run.fitness_names[0]


def verdict(comparison: FairComparison) -> str:
    """One or two sentences on top of the page."""
    ranked, groups = comparison.friedman, comparison.groups
    if not comparison.is_tested:
        return "The runs are not finished, so that there is no test score to compare."
    if len(groups) == 1:
        return f"All runs are of one group, {groups[0].label}: there is nothing to compare it with."
    if ranked is not None:
        over = f"over {counted(ranked.n_blocks, 'seed')}"
        best = [s.group.label for s in comparison.standings if s.mean_rank == comparison.standings[0].mean_rank]
        ahead = f"{best[0]} ranks first" if len(best) == 1 else f"{listing(best)} share the first rank"
        differ = "and {} the groups differ" if ranked.p < ALPHA else "but {} the groups do not differ"
        said = f"{ahead} of {len(groups)}, {differ.format(over)} by more than chance."
        return f"{said} {_ranks_and_means(comparison)}".rstrip()
    if len(groups) == 2 and comparison.contrasts:
        return _of_two(comparison, comparison.contrasts[0])
    means = [-math.inf if standing.mean is None else standing.mean for standing in comparison.standings]
    leading = [s.group.label for s, mean in zip(comparison.standings, means, strict=True) if mean >= max(means) - _SLACK]
    highest = f"{leading[0]} has the highest mean test score"
    if len(leading) > 1:
        highest = f"{listing(leading)} have the same mean test score"
    if comparison.contrasts:
        return f"{highest}; no test could examine all groups together."
    return f"{highest}, which no rank test could examine."


def _of_two(comparison: FairComparison, contrast: Contrast) -> str:
    """By the sum of the signed ranks, which p is about; the mean may say otherwise."""
    test, pair = contrast.test, (contrast.group.label, comparison.reference.label)
    over = f"over {counted(test.n_blocks, 'seed')}"
    if test.lead == 0:
        return f"{pair[0]} and {pair[1]} tie {over}."
    first, second = pair if test.lead > 0 else pair[::-1]
    by_chance = "by more than chance" if test.p < ALPHA else "but not by more than chance"
    said = f"{first} is ahead of {second} {over}, {by_chance}."
    if test.is_mean_opposed:
        said += f" The means disagree with the ranks: over these seeds {second} has the higher mean test score."
    return said


def _ranks_and_means(comparison: FairComparison) -> str:
    """Where a group that does not rank first has the highest mean over the ranked seeds; else empty."""

    def mean(standing: Standing) -> float:
        return -math.inf if standing.shared_mean is None else standing.shared_mean

    highest = max(comparison.standings, key=mean)  # of equals the best-ranked
    tied = [s for s in comparison.standings if s.mean_rank == comparison.standings[0].mean_rank]
    if highest in tied or mean(highest) <= max(map(mean, tied)) + _SLACK:
        return ""
    return f"The means disagree with the ranks: over these seeds {highest.group.label} has the highest mean test score."


def friedman_sentence(comparison: FairComparison) -> str:
    """The test's numbers, or why there are none."""
    ranked, n_groups = comparison.friedman, len(comparison.groups)
    if ranked is not None:
        how = (
            f"p by {RESAMPLES:,} permutations within the seeds"
            if ranked.is_permuted
            else f"p of the χ² distribution with {n_groups - 1} degrees of freedom"
        )
        return (
            f"Friedman’s test on the test scores, with {counted(ranked.n_blocks, 'seed')} as blocks: "
            f"χ² = {ranked.statistic:.2f}, {p_clause(ranked.p)} ({how})."
        )
    if not comparison.is_tested:
        return "There is no rank test before the runs have test scores."
    if n_groups == 1:
        return "All runs differ in nothing but the seed, so that there is nothing to rank."
    if max(len(group.runs) for group in comparison.groups) < FEWEST_BLOCKS:
        return "There is no rank test: one seed a group says nothing about another seed; run several, such as seed=1,2,3,4,5,6."
    if not comparison.contrasts:
        return (
            f"There is no rank test: no group has {FEWEST_BLOCKS} seeds in common with {comparison.reference.label}; "
            "run every group with the same seeds, such as seed=1,2,3,4,5,6."
        )
    if n_groups < FEWEST_GROUPS:
        return f"Friedman’s test needs {FEWEST_GROUPS} groups; the signed-rank test below compares the two."
    return (
        f"Friedman’s test needs {FEWEST_BLOCKS} seeds that every group has, and there are fewer; only pairs are tested below."
    )


def reference_sentence(comparison: FairComparison) -> str:
    """What the others are tested against, and why; empty where nothing is tested."""
    if not comparison.contrasts:
        return ""
    label = comparison.reference.label
    if comparison.is_reference_random:
        return f"The reference is {label}, random search, which any optimizer has to beat."
    if len(comparison.groups) == 2:
        return f"The reference is {label}; with two groups it does not matter which of them is."
    by = "best mean rank" if comparison.friedman is not None else "highest mean test score"
    over = counted(comparison.n_tests, "pair")
    return (
        f"The reference is {label}, which has the {by}: just one group of random search would be the reference otherwise. "
        f"As the same scores chose it, p is corrected for all {over} that could be tested."
    )


def console_lines(comparison: FairComparison) -> list[str]:
    """Who leads, by which test and with which p, and what so few seeds cannot show: for those who read nothing else."""
    tested = friedman_sentence(comparison)
    if len(comparison.groups) == 2 and comparison.contrasts:
        test = comparison.contrasts[0].test
        tested = f"Wilcoxon’s signed-rank test on the test scores of {counted(test.n_blocks, 'seed')}: {p_clause(test.p)}."
    return [line for line in (verdict(comparison), tested, contrast_note(comparison)) if line]


def contrast_note(comparison: FairComparison) -> str:
    """What so few seeds can show at best; empty where they are enough."""
    if not comparison.contrasts:
        return ""
    fewest = min(comparison.contrasts, key=lambda contrast: contrast.test.n_blocks)
    smallest, n_tests = fewest.test.smallest_p, comparison.n_tests
    if smallest * n_tests <= ALPHA:
        return ""
    corrected = f", {min(1.0, smallest * n_tests):.3g} after the correction" if n_tests > 1 else ""
    return (
        f"With {counted(fewest.test.n_blocks, 'seed')} the signed-rank test cannot give a p below {smallest:.3g}{corrected}: "
        "too few to show a difference, however large."
    )
