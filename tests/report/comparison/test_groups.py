"""Which runs are a group, and which are refused."""

from pathlib import Path

import pytest

from evo_merge.errors import ConfigError
from evo_merge.report.comparison.notes import notes
from evo_merge.report.results import read_results
from evo_merge.report.wording import ScoreFormat
from evo_merge.study import Study, opened
from swept_runs import compared, write_swept

PERCENT = ScoreFormat(is_fraction=True)
pytestmark = pytest.mark.usefixtures("quick_commits")


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


def test_an_optimizer_out_of_a_library_is_named(tmp_path: Path) -> None:
    folders = [
        write_swept(tmp_path / f"{name}{seed}", "nevergrad", seed, config={"optimizer": {"name": name}})
        for name in ("NGOpt", "PSO")
        for seed in (1, 2)
    ]
    found = {group.label: group.seeds for group in compared(*folders).groups}
    assert found == {"optimizer=nevergrad (NGOpt)": (1, 2), "optimizer=nevergrad (PSO)": (1, 2)}
    with opened(Study.read(folders[0])) as study:
        assert read_results(study).optimizer == "nevergrad (NGOpt)"


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


def test_values_that_begin_alike_are_other_groups_with_other_names(tmp_path: Path) -> None:
    def pool(second: str) -> list[dict[str, str]]:
        return [{"name": "ja", "model": "some_organisation/a-model-with-a-long-name"}, {"name": "math", "model": second}]

    folders = [
        write_swept(tmp_path / f"{second}-{seed}", seed=seed, config={"models": {"sources": pool(second)}})
        for second in ("one", "two")
        for seed in (1, 2)
    ]
    comparison = compared(*folders)

    assert [group.seeds for group in comparison.groups] == [(1, 2), (1, 2)]
    assert comparison.left_out == ()
    names = [group.label for group in comparison.groups]
    assert len(set(names)) == len({group.short for group in comparison.groups}) == 2
    assert all(name.startswith('models.sources=[{"') and len(name) < 70 for name in names)
    assert set(names) == {group.label for group in compared(*folders[2:], *folders[:2]).groups}  # in whatever order


def test_a_value_that_only_looks_like_another_once_cut_gets_no_digest(tmp_path: Path) -> None:
    folders = [write_swept(tmp_path / n, config={"models": {"use": n * 50}}) for n in ("a", "b")]

    assert {group.short for group in compared(*folders).groups} == {f"{n * 39}…" for n in ("a", "b")}


def test_a_run_done_twice_counts_once(tmp_path: Path) -> None:
    comparison = compared(*(write_swept(tmp_path / name, seed=3) for name in ("one", "two")))

    assert len(comparison.compared) == 1
    assert f"{tmp_path / 'two'} is left out: it has the config and seed of '{tmp_path / 'one'}'." in notes(comparison)


@pytest.mark.parametrize("first", ["short", "long"])
def test_of_two_budgets_the_longer_run_is_kept(tmp_path: Path, first: str) -> None:
    searches = {"short": (0.3, 0.5), "long": (0.3, 0.5, 0.4, 0.6)}
    for name, search in searches.items():
        write_swept(tmp_path / name, search=search, config={"budget": {"evaluations": len(search)}})
    folders = sorted((tmp_path / name for name in searches), key=lambda folder: folder.name != first)
    comparison = compared(*folders)

    assert [run.folder.name for run in comparison.compared] == ["long"]
    kept = tmp_path / "long"
    assert notes(comparison) == [
        f"{tmp_path / 'short'} is left out: it is '{kept}' with another budget, 2 evaluations instead of 4, and the longer run "
        "is kept."
    ]


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
