"""Runs against each other: who is compared, at how many evaluations, and what is said where something is missing."""

import csv
import io
import math
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest

from evo_merge.errors import ConfigError
from evo_merge.report.__main__ import main
from evo_merge.report.compare import compare
from evo_merge.report.compared_runs import read_compared, run_folders
from evo_merge.report.comparison import FairComparison
from evo_merge.report.comparison_html import render_comparison
from evo_merge.report.comparison_wording import contrast_note, friedman_sentence, notes, verdict
from evo_merge.report.comparison_write import comparison_csv
from evo_merge.report.figures.comparison_curves import bands_figure, curves_figure
from evo_merge.report.figures.comparison_scores import finals_figure
from evo_merge.report.wording import ScoreFormat
from evo_merge.tasks.base import Portion
from swept_runs import AGAIN, FAILED, KNOWN, write_swept

PERCENT = ScoreFormat(is_fraction=True)
pytestmark = pytest.mark.usefixtures("quick_commits")


def compared(*folders: Path, target: float | None = None) -> FairComparison:
    return compare([read_compared(folder) for folder in folders], target)


@pytest.fixture
def three_by_three(tmp_path: Path) -> list[Path]:
    """Three optimizers, three seeds, in the same order of every seed."""
    tests = {"random": (0.4, 0.5, 0.3), "cmaes": (0.6, 0.65, 0.7), "de": (0.5, 0.55, 0.4)}
    return [
        write_swept(tmp_path / f"{name}-{seed}", name, seed, (0.25, tests[name][seed] - 0.1, 0.2), tests[name][seed])
        for name in tests
        for seed in range(3)
    ]


# -- one run -------------------------------------------------------------------------------------------------------------------


def test_the_best_so_far_counts_what_the_budget_counts(tmp_path: Path) -> None:
    run = read_compared(write_swept(tmp_path / "run", search=(FAILED, KNOWN, 0.25, AGAIN, 0.2, 0.5), test=0.6))

    # A failed candidate costs one, a known one and a repeated one nothing; the known one's score counts all the same.
    assert run.best_so_far.tolist() == [0.1, 0.25, 0.25, 0.5]
    assert (run.evaluations, run.generations, run.chosen_after) == (4, 1, 4)
    assert (run.best_search, run.test, run.best_source, run.unoptimised) == (0.5, 0.6, 0.2, 0.3)
    assert run.test_interval is not None
    assert run.test_interval.low < 0.6 < run.test_interval.high


def test_there_is_no_best_before_a_candidate_scores_and_meets_the_constraints(tmp_path: Path) -> None:
    run = read_compared(write_swept(tmp_path / "run", search=(FAILED, 0.9, 0.3), violations=(0, 0.2, 0)))

    assert np.isnan(run.best_so_far[:2]).all()
    assert run.best_so_far[2] == 0.3


def test_a_stages_own_task_counts_and_says_nothing_about_the_best(make_path_run: Callable[[str], Path]) -> None:
    run = read_compared(make_path_run("hybrid"))

    assert run.best_search == pytest.approx(0.7)  # the stage with a task of its own has 0.9 and 1.0
    assert run.evaluations == 17
    assert run.best_so_far[5] == run.best_so_far[7] == pytest.approx(0.5)  # before and after that stage
    assert not run.has_batches


def test_a_folder_of_a_sweep_stands_for_its_runs_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    for number in (10, 9, 0):
        write_swept(tmp_path / "sweep" / str(number), seed=number)

    assert [folder.name for folder in run_folders(tmp_path / "sweep")] == ["0", "9", "10"]
    assert run_folders(tmp_path / "sweep" / "9") == [tmp_path / "sweep" / "9"]


# -- groups --------------------------------------------------------------------------------------------------------------------


def test_groups_are_what_differs_but_for_the_seed_and_the_budget(tmp_path: Path) -> None:
    def cmaes(name: str, seed: int, sigma0: float, **others: object) -> Path:
        return write_swept(tmp_path / name, "cmaes", seed, config={"optimizer": {"sigma0": sigma0}, **others})

    folders = [
        cmaes("a", 1, 0.2, budget={"evaluations": 2}, tracker={"group": "x"}),
        cmaes("b", 2, 0.2, budget={"evaluations": 9}),
        cmaes("c", 1, 0.5),
        write_swept(tmp_path / "d", "random", 1, config={"optimizer": {"population_size": 9}}),
    ]
    found = {group.label: group.seeds for group in compared(*folders).groups}

    assert found == {
        "optimizer=cmaes, optimizer.sigma0=0.2": (1, 2),
        "optimizer=cmaes, optimizer.sigma0=0.5": (1,),
        "optimizer=random": (1,),  # it has no sigma0 to differ in
    }


def test_keys_of_other_parts_tell_groups_apart_too(tmp_path: Path) -> None:
    pools = (["ja", "math_a"], ["ja", "math_b"])
    folders = [
        write_swept(tmp_path / f"{i}-{seed}", seed=seed, config={"models": {"use": pool, "licences": None}})
        for i, pool in enumerate(pools)
        for seed in (1, 2)
    ]
    comparison = compared(*folders)

    assert {group.label for group in comparison.groups} == {f'models.use=["ja", "{name}"]' for name in ("math_a", "math_b")}
    assert [group.seeds for group in comparison.groups] == [(1, 2)] * 2


def test_a_run_done_twice_counts_once(tmp_path: Path) -> None:
    comparison = compared(*(write_swept(tmp_path / name, seed=3) for name in ("one", "two")))

    assert len(comparison.compared) == 1
    assert f"{tmp_path / 'two'} is left out: it has the config and seed of '{tmp_path / 'one'}'." in notes(comparison)


# -- what is refused, and what is only said ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("described", "said"),
    [
        ({"task": "another"}, "other tasks, 'a_task' and 'another'; compare runs of one task"),
        ({"objectives": '["score", "length"]'}, "maximise other numbers, 'score' and 'score, length'; .* the same objectives="),
        (
            {"fitness": '["weighted_sum"]'},
            "maximise other numbers, 'score' and 'weighted_sum'; compare runs with the same scalarize=",
        ),
    ],
)
def test_runs_about_other_things_are_refused(tmp_path: Path, described: dict[str, str], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        compared(write_swept(tmp_path / "a"), write_swept(tmp_path / "b", **described))


def test_runs_that_were_asked_other_problems_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = write_swept(tmp_path / "a")
    monkeypatch.setattr("swept_runs.N_PROBLEMS", 10)
    with pytest.raises(
        ConfigError, match=r"were asked other problems of the search split; compare runs with the same task\.\*"
    ):
        compared(folder, write_swept(tmp_path / "b"))


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
    assert "cannot give a p below 0.25, 0.5 after the correction" in contrast_note(comparison.contrasts)


def test_without_random_search_the_others_are_tested_against_the_best(three_by_three: list[Path]) -> None:
    comparison = compared(*three_by_three[3:])

    assert comparison.reference.label == "optimizer=cmaes"
    assert comparison.friedman is None
    assert friedman_sentence(comparison) == "Friedman’s test needs 3 groups; the signed-rank test below compares the two."
    assert verdict(comparison).startswith("optimizer=cmaes is ahead of optimizer=de over 3 seeds, but not by more than chance")


@pytest.mark.parametrize(
    ("seeds", "said"),
    [(((1,), (1,), (1,)), "one seed a group says nothing"), (((1, 2), (1, 3), (2, 3)), "Friedman’s test needs 2 seeds that")],
)
def test_too_few_seeds_are_said(tmp_path: Path, seeds: Sequence[Sequence[int]], said: str) -> None:
    names = zip(("cmaes", "de", "random"), seeds, strict=True)
    comparison = compared(*(write_swept(tmp_path / f"{name}{seed}", name, seed) for name, own in names for seed in own))

    assert comparison.friedman is None
    assert said in friedman_sentence(comparison)
    assert friedman_sentence(comparison) in render_comparison(comparison, tmp_path)


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
    assert "not reached" in render_comparison(compared(*folders, target=0.6), tmp_path)


# -- what is written -----------------------------------------------------------------------------------------------------------


def test_the_table_has_a_row_a_run(three_by_three: list[Path], tmp_path: Path) -> None:
    stopped = write_swept(tmp_path / "stopped", "de", 9, test=None)
    rows = list(csv.DictReader(io.StringIO(comparison_csv(compared(*three_by_three, stopped), tmp_path))))

    assert [row["folder"] for row in rows] == [*(folder.name for folder in three_by_three), "stopped"]
    first = rows[3]
    assert (first["group"], first["seed"], first["evaluations"], first["compared_at"]) == ("optimizer=cmaes", "0", "3", "3")
    assert [float(first[key]) for key in ("best_search_score", "test_score", "best_source_test_score")] == [0.5, 0.6, 0.2]
    assert float(first["test_low"]) < 0.6 < float(first["test_high"])
    assert (first["target"], first["evaluations_to_target"]) == ("0.3", "2")
    assert (rows[-1]["group"], rows[-1]["test_score"], rows[-1]["evaluations_to_target"]) == ("", "", "")


@pytest.mark.parametrize("n_groups", [3, 8])
@pytest.mark.parametrize("width", [880, 360])
def test_figures_draw_every_group_inside_their_frame(tmp_path: Path, n_groups: int, width: float) -> None:
    names = [f"optimizer_number_{i}" for i in range(n_groups)]
    folders = [
        write_swept(tmp_path / f"{name}{seed}", name, seed, (0.1 * seed, 0.3, 0.05 * (i + seed)), 0.1 * (i + 1))
        for i, name in enumerate(names)
        for seed in range(3)
    ]
    comparison = compared(*folders)
    curves, bands, scores = (draw(comparison, PERCENT, width) for draw in (curves_figure, bands_figure, finals_figure))

    assert curves is not None
    assert scores is not None
    assert curves.inline().count('class="line thick median') == n_groups
    assert curves.inline().count("tinted bar band") == (n_groups if n_groups <= 4 else 0)
    assert scores.inline().count("shade3 run") == 3 * n_groups
    assert (bands is None) == (n_groups <= 4)
    if bands is not None:
        assert bands.inline().count("tinted bar band") == n_groups
    for figure in filter(None, (curves, bands, scores)):
        for element in ElementTree.fromstring(figure.standalone()).iter():
            x, y = float(element.get("x", 0)), float(element.get("y", 0))
            assert -16 <= x <= figure.width + 16
            assert -16 <= y <= figure.height + 16


def test_the_page_says_names_of_runs_as_text_and_has_no_script(tmp_path: Path) -> None:
    folders = [write_swept(tmp_path / f"{i}", "<script>alert(1)</script>" if i else "random") for i in range(2)]
    page = render_comparison(compared(*folders), tmp_path)

    assert "<script" not in page
    assert "&lt;script&gt;" in page
    assert "http" not in page.replace('xmlns="http://www.w3.org/2000/svg"', "").replace("http-equiv", "")


# -- the command ---------------------------------------------------------------------------------------------------------------


def test_the_command_writes_the_comparison_into_the_sweeps_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sweep = tmp_path / "sweep"
    for number, name in enumerate(("cmaes", "random")):
        write_swept(sweep / str(number), name)
    assert main([str(sweep), "target=0.25"]) == 0

    out = capsys.readouterr().out
    assert str(sweep / "comparison.html") in out
    assert str(sweep / "comparison.csv") in out
    page = (sweep / "comparison.html").read_text(encoding="utf-8")
    assert 'href="0/report.html"' in page
    assert "25.0\N{NO-BREAK SPACE}%, as asked" in page
    first = (sweep / "comparison.html").read_bytes()
    assert main([str(sweep / "0"), str(sweep / "1"), "target=0.25", f"out={tmp_path / 'elsewhere'}"]) == 0
    assert (tmp_path / "elsewhere" / "comparison.csv").is_file()
    assert main([str(sweep), "target=0.25"]) == 0
    assert (sweep / "comparison.html").read_bytes() == first  # the same runs give the same page


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["target=high"], "target must be a search score, such as target=0.8, got 'high'"),
        (["tarket=1"], "there is no option 'tarket=1'"),
        (["../b"], "have other tasks"),
    ],
)
def test_bad_input_is_one_sentence_and_nothing_is_written(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    words: list[str],
    said: str,
) -> None:
    for number in range(2):
        write_swept(tmp_path / "sweep" / str(number), seed=number)
    write_swept(tmp_path / "b", task="another")
    monkeypatch.chdir(tmp_path / "sweep")
    assert main(["0", "1", *words]) == 2

    ended = capsys.readouterr()
    assert said in ended.err
    assert len(ended.err.splitlines()) == 1
    assert not list(tmp_path.rglob("*.html"))


def test_an_option_of_comparing_with_a_single_run_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(write_swept(tmp_path / "run")), "target=0.5"]) == 2
    assert "target= is about comparing runs" in capsys.readouterr().err


def test_comparing_loads_no_torch(tmp_path: Path) -> None:
    for number, name in enumerate(("cmaes", "random")):
        write_swept(tmp_path / str(number), name)
    code = (
        "import sys\n"
        "from evo_merge.report.__main__ import main\n"
        f"assert main([{str(tmp_path)!r}]) == 0\n"
        "assert not {'torch', 'transformers', 'huggingface_hub'} & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)
