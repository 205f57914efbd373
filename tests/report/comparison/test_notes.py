"""What is said where something is missing, or is not the same for all."""

from collections.abc import Sequence
from pathlib import Path

import pytest

from evo_merge.report.comparison.figures.curves import curves_figure
from evo_merge.report.comparison.figures.scores import finals_figure
from evo_merge.report.comparison.html import render_comparison
from evo_merge.report.comparison.notes import notes
from evo_merge.report.comparison.wording import console_lines, friedman_sentence, verdict
from evo_merge.report.wording import ScoreFormat
from evo_merge.tasks.base import Portion
from swept_runs import FAILED, compared, write_swept

PERCENT = ScoreFormat(is_fraction=True)
pytestmark = pytest.mark.usefixtures("quick_commits")


def test_other_constraints_are_said(tmp_path: Path) -> None:
    def run(name: str, bound: float, seed: int) -> Path:
        return write_swept(
            tmp_path / name, "cmaes", seed, config={"constraints": {"en": bound}}, constraints=f'{{"en": {bound}}}'
        )

    first = run("a", 0.5, 1)
    other, same = compared(first, run("b", 0.6, 1)), compared(first, run("c", 0.5, 2))
    assert {group.short for group in other.groups} == {"0.5", "0.6"}
    assert any("had to keep to different constraints" in note for note in notes(other))
    assert not any("constraints" in note for note in notes(same))


@pytest.mark.parametrize(
    ("search", "violations", "test_failure", "said", "is_flattering"),
    [
        ((0.5, 0.6), (0.1, 0.2), "", "none of its candidates kept to the constraints", True),
        ((FAILED, FAILED), (), "", "none of its candidates could be scored", True),
        ((0.5, 0.6), (), "it ran out of memory", "its chosen model failed on the test split (it ran out of memory)", True),
        ((0.5, 0.6), (0.1, 0.0), "", "it is not finished", False),
    ],
)
def test_a_run_without_a_test_score_says_why(
    tmp_path: Path,
    search: Sequence[float | None],
    violations: Sequence[float],
    test_failure: str,
    said: str,
    is_flattering: bool,
) -> None:
    ended = write_swept(tmp_path / "a", seed=2, search=search, test=None, violations=violations, test_failure=test_failure)
    comparison = compared(write_swept(tmp_path / "b"), ended)

    assert f"{ended} is left out: {said}." in notes(comparison)
    assert any("flatters their group" in note for note in notes(comparison)) == is_flattering


def test_unequal_budgets_are_compared_where_all_were(tmp_path: Path) -> None:
    short = write_swept(tmp_path / "a", "cmaes", search=(0.3, 0.5))
    comparison = compared(short, write_swept(tmp_path / "b", "random", search=(0.2, 0.4, 0.3, 0.9)))

    assert comparison.evaluations == 2
    assert {s.group.optimizer: s.search for s in comparison.standings} == {"cmaes": 0.5, "random": 0.4}  # not 0.9
    (note,) = [note for note in notes(comparison) if "evaluations" in note]
    assert note.startswith("The runs made 2 to 4 evaluations; search scores are compared at 2, which all reached.")
    assert "1 of 2 chose one that came after the first 2" in note
    within = compared(short, write_swept(tmp_path / "c", "random", search=(0.2, 0.4, 0.3)))
    assert any("Every chosen candidate was among the first 2" in note for note in notes(within))


def test_an_unfinished_run_is_left_out_and_its_seed_is_missed(three_by_three: list[Path], tmp_path: Path) -> None:
    folders = [*three_by_three[:-1], write_swept(tmp_path / "stopped", "de", 2, test=None)]
    comparison = compared(*folders)

    assert comparison.friedman is not None
    assert comparison.friedman.n_blocks == 2
    assert {s.group.label: len(s.group.runs) for s in comparison.standings}["optimizer=de"] == 2
    said = notes(comparison, ["optimizer=de seed=2"])
    assert said == [
        "The job optimizer=de seed=2 left no finished run.",
        f"{tmp_path / 'stopped'} is left out: it is not finished.",
        "optimizer=de has no finished run with the seed 2.",
        "Friedman’s test is over the 2 seeds that all groups have.",
    ]
    by_label = {contrast.group.label: contrast.test.n_blocks for contrast in comparison.contrasts}
    assert by_label == {"optimizer=cmaes": 3, "optimizer=de": 2}  # each pair on the seeds that it shares


def test_runs_of_which_none_is_finished_show_their_search(tmp_path: Path) -> None:
    comparison = compared(*(write_swept(tmp_path / name, name, test=None) for name in ("cmaes", "random")))

    assert curves_figure(comparison, PERCENT, 880) is not None
    assert finals_figure(comparison, PERCENT, 880) is None
    assert "no test score" in verdict(comparison)
    assert "no rank test before" in friedman_sentence(comparison)
    assert "not finished" in render_comparison(comparison, tmp_path)


def test_generations_with_problems_of_their_own_have_no_curve(tmp_path: Path) -> None:
    portion = Portion("search", tuple(range(20)))
    folders = [write_swept(tmp_path / name, name, portion=portion) for name in ("cmaes", "random")]
    comparison = compared(*folders)

    assert curves_figure(comparison, PERCENT, 880) is None
    assert comparison.target is None
    assert any("no best so far" in note for note in notes(comparison))
    assert "Best so far" not in render_comparison(comparison, tmp_path)


@pytest.mark.parametrize(
    ("names", "seeds", "said"),
    [
        (("cmaes", "random"), (1,), ["has the highest mean test score", "There is no rank test: one seed a group"]),
        (
            ("cmaes", "random"),
            (1, 2, 3),
            [
                "cmaes is ahead of optimizer=random over 3 seeds, but not by more than chance.",
                "signed-rank test",
                "p below 0.25",
            ],
        ),
        (("cmaes", "de", "random"), (1, 2, 3), ["optimizer=cmaes ranks first of 3", "Friedman’s test", "p below 0.25"]),
    ],
)
def test_the_console_says_who_leads_and_by_which_test(
    tmp_path: Path, names: Sequence[str], seeds: Sequence[int], said: Sequence[str]
) -> None:
    folders = [
        write_swept(tmp_path / f"{name}{seed}", name, seed, test=0.9 - 0.1 * place)
        for place, name in enumerate(names)
        for seed in seeds
    ]
    lines = console_lines(compared(*folders))
    assert len(lines) == len(said)
    for line, part in zip(lines, said, strict=True):
        assert part in line
    assert len(seeds) == 1 or "p\N{NO-BREAK SPACE}=" in lines[1]
