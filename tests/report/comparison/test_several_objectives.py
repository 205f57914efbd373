"""Runs with several objectives: hypervolumes, and one number made of several."""

from pathlib import Path

import pytest

from evo_merge.errors import ConfigError
from evo_merge.report.comparison.html import render_comparison
from evo_merge.report.comparison.notes import notes
from evo_merge.report.wording import ScoreFormat
from swept_runs import FAILED, compared, write_swept

PERCENT = ScoreFormat(is_fraction=True)
pytestmark = pytest.mark.usefixtures("quick_commits")


def scalarized(folder: Path, optimizer: str, options: dict[str, object], name: str = "weighted_sum") -> Path:
    made = {"_target_": f"evo_merge.scalarize.{name}", **options}
    described = {"objectives": '["score", "brevity"]', "fitness": f'["{name}"]'}
    return write_swept(folder, optimizer, config={"scalarize": made}, **described)


@pytest.mark.parametrize(
    ("other", "said"),
    [
        ({"weights": {"score": 1, "brevity": 3}}, r"\(scalarize.weights.brevity is 2 and 3\)"),
        ({"weights": None}, r"\(scalarize.weights.brevity is 2 and not given\)"),
        ({"weights": {"score": 1, "brevity": 2}, "ideal": 0.5}, r"\(scalarize.ideal is not given and 0.5\)"),
    ],
)
def test_sums_of_other_weights_are_refused(tmp_path: Path, other: dict[str, object], said: str) -> None:
    first = scalarized(tmp_path / "a", "cmaes", {"weights": {"score": 1, "brevity": 2}})
    with pytest.raises(ConfigError, match=f"make 'weighted_sum' of their objectives in other ways {said}"):
        compared(first, scalarized(tmp_path / "b", "random", other))
    same = scalarized(tmp_path / "c", "random", {"weights": {"score": 1.0, "brevity": 2.0}})
    assert len(compared(first, same).groups) == 2


def test_several_objectives_are_compared_by_hypervolume(tmp_path: Path) -> None:
    a = write_swept(tmp_path / "a", "nsga2", search=(0.5, 0.25, 0.2), test=0.5, brevity=(0.2, 0.4, 0.1, 0.6))
    b = write_swept(tmp_path / "b", "random", search=(0.1, FAILED, 0.4), test=0.2, brevity=(0.1, 0, 0.5, 0.3))
    comparison = compared(a, b)

    volumes = {group.optimizer: group.curves(3)[0].tolist() for group in comparison.groups}
    assert volumes["nsga2"] == pytest.approx([0.1, 0.1 + 0.25 * 0.2, 0.15])  # above 0; the third is dominated
    assert volumes["random"] == pytest.approx([0.01, 0.01, 0.2])
    assert {s.group.optimizer: s.mean for s in comparison.standings} == pytest.approx({"nsga2": 0.3, "random": 0.06})
    (note,) = notes(comparison)
    assert "objectives score and brevity" in note
    page = render_comparison(comparison, tmp_path)
    assert "Hypervolume of each run’s front on 20 problems" in page
    assert "hypervolume of score and brevity" in page


def test_hypervolumes_of_lengths_begin_at_the_worst_of_all_runs(tmp_path: Path) -> None:
    a = write_swept(tmp_path / "a", "nsga2", search=(0.5,), brevity=(-10, -10))
    b = write_swept(tmp_path / "b", "random", search=(0.5,), brevity=(-30, -20))

    comparison = compared(a, b)
    assert {g.optimizer: g.curves(1)[0, 0] for g in comparison.groups} == pytest.approx({"nsga2": 0.5 * 20, "random": 0.0})


def test_only_compared_runs_decide_where_hypervolumes_begin(tmp_path: Path) -> None:
    a = write_swept(tmp_path / "a", "nsga2", search=(0.5, 0.25), brevity=(-10, -5, -10))
    b = write_swept(tmp_path / "b", "random", search=(0.5,), brevity=(-30, -20))
    stopped = write_swept(tmp_path / "c", "random", 2, search=(0.5,), test=None, brevity=(-90,))
    comparison = compared(a, b, stopped)

    assert comparison.above is not None
    assert comparison.above.search == (0.0, -30.0)  # not -90
    (note,) = [note for note in notes(comparison) if "hypervolume" in note]
    assert "reference point score 0 and brevity -30 on the search split and score 0 and brevity -20 on the test split" in note


@pytest.mark.parametrize("is_scalarized", [True, False])
def test_what_is_made_of_several_objectives_is_a_plain_number(tmp_path: Path, is_scalarized: bool) -> None:
    def run(name: str, score: float) -> Path:
        if is_scalarized:
            return scalarized(tmp_path / name, name, {"weights": None})
        return write_swept(tmp_path / name, name, search=(score,), test=score, brevity=(0.25, 0.25))

    comparison = compared(run("cmaes", 0.5), run("random", 0.55))
    page = render_comparison(comparison, tmp_path)

    shown = page.partition("<main>")[2].partition("How to read this")[0].replace("95 %", "").replace("100%", "")
    assert "%" not in shown
    assert ("0.500" if is_scalarized else "0.138") in shown  # 0.55 * 0.25 to three digits
