"""Groups against each other: ranks, tests and the target."""

import math
from collections.abc import Sequence
from pathlib import Path

import pytest

from evo_merge.report.comparison.html import render_comparison
from evo_merge.report.comparison.notes import notes
from evo_merge.report.comparison.wording import contrast_note, friedman_sentence, reference_sentence, verdict
from swept_runs import compared, write_swept

pytestmark = pytest.mark.usefixtures("quick_commits")


# -- ranks ---------------------------------------------------------------------------------------------------------------------


def test_three_groups_are_ranked_and_tested_against_random(three_by_three: list[Path]) -> None:
    comparison = compared(*three_by_three)

    assert [(s.group.short, s.mean_rank) for s in comparison.standings] == [("cmaes", 1.0), ("de", 2.0), ("random", 3.0)]
    assert comparison.friedman is not None
    assert comparison.friedman.statistic == pytest.approx(6.0)  # 12 / (3 * 3 * 4) * (9 + 36 + 81) - 3 * 3 * 4
    assert verdict(comparison) == "optimizer=cmaes ranks first of 3, and over 3 seeds the groups differ by more than chance."
    assert comparison.reference.label == "optimizer=random"
    assert [c.group.short for c in comparison.contrasts] == ["cmaes", "de"]
    assert [c.test.p for c in comparison.contrasts] == [0.25, 0.25]  # all of 3 seeds: 2 of 8 flips
    assert [c.p_holm for c in comparison.contrasts] == [0.5, 0.5]
    assert "cannot give a p below 0.25, 0.5 after the correction" in contrast_note(comparison)


def test_without_random_search_the_others_are_tested_against_the_best(three_by_three: list[Path]) -> None:
    comparison = compared(*three_by_three[3:])

    assert comparison.reference.label == "optimizer=cmaes"
    assert comparison.friedman is None
    assert friedman_sentence(comparison) == "Friedman’s test needs 3 groups; the signed-rank test below compares the two."
    assert verdict(comparison).startswith("optimizer=cmaes is ahead of optimizer=de over 3 seeds, but not by more than chance")


@pytest.mark.parametrize(
    ("seeds", "said"),
    [
        (((1,), (1,), (1,)), "one seed a group says nothing"),
        (
            ((1, 2), (1, 3), (1, 2)),
            "Friedman’s test needs 2 seeds that every group has, and there are fewer; only pairs are tested",
        ),
        (((1, 2), (1, 3), (2, 3)), "There is no rank test: no group has 2 seeds in common with optimizer=random"),
    ],
)
def test_too_few_seeds_are_said(tmp_path: Path, seeds: Sequence[Sequence[int]], said: str) -> None:
    names = zip(("cmaes", "de", "random"), seeds, strict=True)
    comparison = compared(*(write_swept(tmp_path / f"{name}{seed}", name, seed) for name, own in names for seed in own))

    assert comparison.friedman is None
    assert said in friedman_sentence(comparison)
    assert friedman_sentence(comparison) in render_comparison(comparison, tmp_path)


def test_groups_of_other_seeds_promise_no_test(tmp_path: Path) -> None:
    comparison = compared(
        *(write_swept(tmp_path / f"{n}{s}", n, s) for n, of in {"a": (1, 2), "b": (3, 4)}.items() for s in of)
    )
    page = render_comparison(comparison, tmp_path)

    assert friedman_sentence(comparison).startswith("There is no rank test: no group has 2 seeds in common with optimizer=")
    assert "which no rank test could examine" in verdict(comparison)
    assert "below compares" not in page
    assert "igned-rank test" not in page


def test_one_group_has_nothing_to_be_compared_with(tmp_path: Path) -> None:
    comparison = compared(*(write_swept(tmp_path / f"{seed}", seed=seed) for seed in (1, 2)))

    assert verdict(comparison) == "All runs are of one group, optimizer=cmaes: there is nothing to compare it with."
    assert "highest mean" not in render_comparison(comparison, tmp_path)


def test_a_group_that_shares_no_seeds_with_the_reference_is_named(tmp_path: Path) -> None:
    seeds = {"random": (1, 2), "cmaes": (1, 2), "de": (3, 4)}
    comparison = compared(*(write_swept(tmp_path / f"{n}{s}", n, s) for n, of in seeds.items() for s in of))

    assert [contrast.group.short for contrast in comparison.contrasts] == ["cmaes"]
    assert "optimizer=de has fewer than 2 seeds in common with optimizer=random, too few for a test against it." in notes(
        comparison
    )


def write_scores(folder: Path, tests: dict[str, Sequence[float]]) -> list[Path]:
    """A run a score, with seeds from 0."""
    return [write_swept(folder / f"{n}{s}", n, s, test=score) for n, of in tests.items() for s, score in enumerate(of)]


def test_the_direction_is_that_of_the_seeds_that_were_tested(tmp_path: Path) -> None:
    # Six seeds are for de; a seventh, which de lacks, lifts the mean of cmaes above its.
    folders = write_scores(
        tmp_path, {"cmaes": (0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 1.0), "de": (0.1, 0.2, 0.3, 0.4, 0.5, 0.6)[:6]}
    )
    folders += [write_swept(tmp_path / "last", "de", 9, test=0.0)]
    comparison = compared(*folders)

    means = {s.group.short: s.mean for s in comparison.standings}
    assert (means["cmaes"] or 0) > 0.29
    assert verdict(comparison) == "optimizer=de is ahead of optimizer=cmaes over 6 seeds, by more than chance."
    (contrast,) = comparison.contrasts
    own, other = (0.35, 0.175) if contrast.group.short == "de" else (0.175, 0.35)  # of the six
    assert contrast.test.means == pytest.approx((own, other))
    assert {s.group.short: s.shared_mean for s in comparison.standings} == pytest.approx({"de": 0.35, "cmaes": 0.175})
    page = render_comparison(comparison, tmp_path)
    assert "over shared<br>seeds" in page
    assert ("35.0\N{NO-BREAK SPACE}% and 17.5" in page) or ("17.5\N{NO-BREAK SPACE}% and 35.0" in page)


def test_means_that_disagree_with_the_ranks_are_named(tmp_path: Path) -> None:
    two = write_scores(tmp_path / "two", {"cmaes": (0.5, 0.55, 0.6, 0.65, 0.7, 0.1), "de": (0.45, 0.5, 0.55, 0.6, 0.65, 0.9)})
    assert verdict(compared(*two)) == (
        "optimizer=cmaes is ahead of optimizer=de over 6 seeds, but not by more than chance. The means disagree with the "
        "ranks: over these seeds optimizer=de has the higher mean test score."
    )
    three = [*two, *write_scores(tmp_path / "three", {"random": (0.1, 0.1, 0.1, 0.1, 0.1, 0.05)})]
    assert verdict(compared(*three)).endswith("over these seeds optimizer=de has the highest mean test score.")
    agreeing = write_scores(tmp_path / "again", {"cmaes": (0.5, 0.6), "de": (0.4, 0.3), "random": (0.2, 0.1)})
    assert "disagree" not in verdict(compared(*agreeing))


def test_a_reference_that_the_scores_chose_is_corrected_for_all_pairs(tmp_path: Path) -> None:
    tests = {
        "cmaes": (0.5, 0.55, 0.6, 0.65, 0.7, 0.75),
        "de": (0.4, 0.4, 0.4, 0.4, 0.4, 0.4),
        "random": (0.3, 0.2, 0.1, 0.3, 0.2, 0.1),
    }
    given = compared(*write_scores(tmp_path / "given", tests))
    chosen = compared(*write_scores(tmp_path / "chosen", {**{n: tests[n] for n in ("cmaes", "de")}, "pso": tests["random"]}))

    assert (given.is_reference_random, given.n_tests) == (True, 2)
    assert [c.p_holm for c in given.contrasts] == pytest.approx([2 / 32, 2 / 32])  # each 2/64, twice
    assert (chosen.reference.short, chosen.n_tests) == ("cmaes", 3)
    assert [c.p_holm for c in chosen.contrasts] == pytest.approx([3 / 32, 3 / 32])  # and the pair of de and pso
    assert "random search, which any optimizer has to beat" in reference_sentence(given)
    assert "corrected for all 3 pairs" in reference_sentence(chosen)
    page = render_comparison(chosen, tmp_path)
    assert reference_sentence(chosen) in page
    assert "allows for 3 comparisons at once" in page
    assert "cannot give a p below 0.0312, 0.0938 after the correction" in contrast_note(chosen)


def test_two_settings_of_random_search_are_no_given_reference(tmp_path: Path) -> None:
    folders = [
        write_swept(tmp_path / f"{size}-{seed}", "random", seed, test=size / 20, config={"optimizer": {"size": size}})
        for size in (4, 8)
        for seed in (1, 2)
    ]
    assert not compared(*folders).is_reference_random


def test_the_test_says_how_its_p_was_found(three_by_three: list[Path], tmp_path: Path) -> None:
    assert "(p by 9,999 permutations within the seeds)" in friedman_sentence(compared(*three_by_three))
    ten = write_scores(
        tmp_path, {name: [0.1 * i + 0.05 * place for i in range(10)] for place, name in enumerate(("a", "b", "c"))}
    )
    assert "(p of the χ² distribution with 2 degrees of freedom)" in friedman_sentence(compared(*ten))


def test_intervals_of_fractions_end_at_0_and_1(tmp_path: Path) -> None:
    comparison = compared(*write_scores(tmp_path, {"cmaes": (0.5, 0.95, 1.0), "de": (0.1, 0.2)}))
    by_name = {s.group.short: s.interval for s in comparison.standings}

    assert by_name["cmaes"] is not None
    assert 0 < by_name["cmaes"].low < 0.5
    assert by_name["cmaes"].high == 1.0
    assert by_name["de"] is None  # of two seeds


# -- the target ----------------------------------------------------------------------------------------------------------------


def test_the_target_is_random_searchs_median_and_the_unreached_count_as_never(tmp_path: Path) -> None:
    searches = {"cmaes": [(0.5, 0.6), (0.2, 0.5), (0.1, 0.3)], "random": [(0.1, 0.5), (0.1, 0.4), (0.6, 0.1)]}
    folders = [
        write_swept(tmp_path / f"{name}{seed}", name, seed, search)
        for name, of in searches.items()
        for seed, search in enumerate(of)
    ]
    comparison = compared(*folders)

    assert comparison.target == (0.5, "the median final best search score of optimizer=random")
    standing = {s.group.optimizer: s for s in comparison.standings}
    assert standing["cmaes"].to_target == (1, 2, math.inf)
    assert (standing["cmaes"].n_reached, standing["cmaes"].median_to_target) == (2, 2)
    assert (standing["random"].n_reached, standing["random"].median_to_target) == (2, 2)
    asked = {s.group.optimizer: s for s in compared(*folders, target=0.6).standings}
    assert asked["cmaes"].to_target == (2, math.inf, math.inf)
    assert asked["cmaes"].median_to_target == math.inf
    assert "too few reached it" in render_comparison(compared(*folders, target=0.6), tmp_path)


def test_a_group_that_found_nothing_is_no_target_and_is_named(tmp_path: Path) -> None:
    nothing = [write_swept(tmp_path / f"random{seed}", "random", seed, (0.9, 0.9), violations=(1, 1)) for seed in (1, 2)]
    others = [
        write_swept(tmp_path / f"{name}{seed}", name, seed, (0.1, score))
        for name, score in (("cmaes", 0.6), ("de", 0.4))
        for seed in (1, 2)
    ]
    comparison = compared(*nothing, *others)

    assert comparison.target == (
        0.4,
        "the median final best search score of optimizer=de, the lowest that there is: there is none of optimizer=random",
    )
    assert {s.group.short: s.n_reached for s in comparison.standings} == {"random": 0, "cmaes": 2, "de": 2}
