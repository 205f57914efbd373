"""Builds that are killed, stopped, or run out of disk: gone on with, to the same bytes, or gone without a trace."""

import importlib.util
import logging
import resource
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from safetensors.torch import load, load_file
from transformers import AutoModelForCausalLM

from evo_merge.errors import ModelError
from evo_merge.models import checkpoint, partial
from evo_merge.models.building import Built
from evo_merge.models.checkpoint import write_checkpoint
from evo_merge.models.pool import Pool
from evo_merge.models.residency import gigabytes
from evo_merge.recipe import ParameterRule, ParameterSpaceRecipe, to_yaml

MakeRecipe = Callable[..., ParameterSpaceRecipe]
SavePico = Callable[..., Path]
KILLER = Path(__file__).parents[1] / "support" / "killed_builds.py"
SPEC = importlib.util.spec_from_file_location("killed_builds", KILLER)
assert SPEC is not None
assert SPEC.loader is not None
killed_builds = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(killed_builds)
PLACES = [*map(str, killed_builds.TENSORS), killed_builds.DESCRIPTION]
SHARD = 4000


def write(recipe: ParameterSpaceRecipe, folder: Path) -> Path:
    write_checkpoint(recipe, Pool.of_recipe(recipe), folder)
    return folder


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the tensors that builds put into files, as they go on."""
    names: list[str] = []
    whole = checkpoint.write_tensor

    def noted(file: object, shard: object, name: str, tensor: torch.Tensor) -> None:
        names.append(name)
        whole(file, shard, name, tensor)  # type: ignore[arg-type]

    monkeypatch.setattr(checkpoint, "write_tensor", noted)
    return names


# --- killed ----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module", params=[1, 5000], ids=["marked after each tensor", "marked after some"])
def killed(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, family: Path) -> Path:
    """A folder with what killed builds left, and their recipe."""
    folder = tmp_path_factory.mktemp("killed")
    recipe = request.getfixturevalue("make_recipe")(
        "dare_ties",
        family / "base",
        {name: family / name for name in "abc"},
        ParameterRule(("*",), {"weight": (0.5, 0.7, 0.4), "density": (0.6, 0.5, 0.9)}),
    )
    (folder / "recipe.yaml").write_text(to_yaml(recipe), encoding="utf-8")
    command = [sys.executable, str(KILLER), str(folder / "recipe.yaml"), str(folder), str(SHARD), str(request.param)]
    subprocess.run(command, check=True)
    return folder


@pytest.mark.parametrize("place", PLACES)
def test_a_killed_build_is_gone_on_with_to_the_same_bytes(
    tmp_path: Path,
    killed: Path,
    dare: ParameterSpaceRecipe,
    made: list[str],
    monkeypatch: pytest.MonkeyPatch,
    place: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(checkpoint, "SHARD_BYTES", SHARD)
    whole = contents(write(dare, tmp_path / "whole"))
    n_tensors, written_first = len(made), list(made)
    made.clear()
    assert not (killed / place).exists()
    left = shutil.copytree(killed / f"{place}.partial", tmp_path / "model.partial")
    n_marked = max(map(int, (left / partial.JOURNAL).read_text().split("\n")[1:-1]), default=0)
    written = n_tensors if place == killed_builds.DESCRIPTION else int(place)
    assert n_marked <= written < n_marked + 8  # of the tensors that lie behind the last mark
    with caplog.at_level(logging.INFO):
        assert contents(write(dare, tmp_path / "model")) == whole
    assert len(made) == n_tensors - n_marked
    sizes = {
        name: tensor.nbytes for each in whole if each.endswith(".safetensors") for name, tensor in load(whole[each]).items()
    }
    there = gigabytes(sum(sizes[name] for name in written_first[:n_marked]))
    gone_on = f"model.partial': {n_marked} of {n_tensors} tensors are there, {there} of {gigabytes(sum(sizes.values()))}"
    over = "model.partial' nothing is known to be whole; starting over"
    (said,) = [each.getMessage() for each in caplog.records if each.name == partial.__name__]
    assert said.endswith(gone_on if n_marked else over)
    assert not left.exists()


def test_bytes_that_are_there_already_are_told_as_such(
    tmp_path: Path, killed: Path, dare: ParameterSpaceRecipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checkpoint, "SHARD_BYTES", SHARD)
    shutil.copytree(killed / f"{killed_builds.DESCRIPTION}.partial", tmp_path / "gone_on.partial")
    told: dict[str, list[tuple[int, int]]] = {}
    for name in ("anew", "gone_on"):
        said = told.setdefault(name, [])
        write_checkpoint(dare, Pool.of_recipe(dare), tmp_path / name, told=lambda *each, said=said: said.append(each))
    total = sum(tensor.nbytes for file in (tmp_path / "anew").glob("*.safetensors") for tensor in load_file(file).values())
    assert {of for _, of in told["anew"] + told["gone_on"]} == {total}
    assert (told["anew"][0][0], told["anew"][-1][0]) == (0, total)
    assert [done for done, _ in told["anew"]] == sorted({done for done, _ in told["anew"]})
    assert told["gone_on"] == told["anew"][-len(told["gone_on"]) :]


def test_what_a_killed_build_left_is_no_model(killed: Path) -> None:
    """transformers and our own reader refuse it, wherever it was killed."""
    for place in PLACES:
        folder = killed / f"{place}.partial"
        with pytest.raises((OSError, ValueError)):
            AutoModelForCausalLM.from_pretrained(folder)
        with pytest.raises(ModelError):
            Pool(base=None, sources=[str(folder)]).leader.config  # noqa: B018  reading it raises


def test_a_process_killed_from_outside_is_gone_on_with(
    tmp_path: Path, save_pico: SavePico, make_recipe: MakeRecipe, monkeypatch: pytest.MonkeyPatch, made: list[str]
) -> None:
    """The command itself, killed as soon as its journal says that a tensor is whole."""
    sources = {name: save_pico(tmp_path / name, seed, num_hidden_layers=40) for seed, name in enumerate("ab")}
    recipe = make_recipe("linear", None, sources, ParameterRule(("*",), {"weight": (1.0, 3.0)}))
    (tmp_path / "recipe.yaml").write_text(to_yaml(recipe), encoding="utf-8")
    code = "from evo_merge.models import checkpoint; checkpoint.MARK_BYTES = 1; from evo_merge.build import main; main()"
    command = [sys.executable, "-c", code, f"recipe={tmp_path / 'recipe.yaml'}", f"out={tmp_path / 'model'}"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    journal = tmp_path / "model.partial" / partial.JOURNAL
    while not (journal.exists() and journal.read_bytes().count(b"\n") > 1) and process.poll() is None:
        time.sleep(0.001)
    process.kill()
    process.wait()
    write(recipe, tmp_path / "again")
    n_tensors = len(made)
    if not (tmp_path / "model").exists():  # unless it was faster than we
        write(recipe, tmp_path / "model")
        assert len(made) < 2 * n_tensors
    assert not (tmp_path / "model.partial").exists()
    ours = contents(tmp_path / "model")
    ours.pop("README.md", None)  # only the command writes a card
    assert ours == contents(tmp_path / "again")


# --- another build ---------------------------------------------------------------------------------------------------


def test_another_recipe_in_the_same_place_starts_over_and_says_so(
    tmp_path: Path, killed: Path, family: Path, made: list[str], make_recipe: MakeRecipe, caplog: pytest.LogCaptureFixture
) -> None:
    other = make_recipe("linear", None, {"a": family / "a"}, ParameterRule(("*",), {"weight": (1.0,)}))
    expected = contents(write(other, tmp_path / "expected"))
    n_tensors = len(made)
    shutil.copytree(killed / "7.partial", tmp_path / "model.partial")
    with caplog.at_level(logging.INFO):
        assert contents(write(other, tmp_path / "model")) == expected
    assert "is of another recipe or other models; starting over" in caplog.text
    assert len(made) == 2 * n_tensors


def test_changed_weights_under_the_same_name_start_over(
    tmp_path: Path, family: Path, made: list[str], make_recipe: MakeRecipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checkpoint, "MARK_BYTES", 1)
    shutil.copytree(family / "a", tmp_path / "a")
    recipe = make_recipe("linear", None, {"a": tmp_path / "a"}, ParameterRule(("*",), {"weight": (1.0,)}))

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(checkpoint, "_write_description", stop)
        with pytest.raises(KeyboardInterrupt):
            write(recipe, tmp_path / "model")
    n_tensors = len(made)
    shutil.copyfile(family / "b" / "model.safetensors", tmp_path / "a" / "model.safetensors")
    write(recipe, tmp_path / "model")
    assert len(made) == 2 * n_tensors


def test_two_processes_do_not_write_one_folder(tmp_path: Path, dare: ParameterSpaceRecipe) -> None:
    with (
        partial.partial_folder(tmp_path / "model", "build x", []),
        pytest.raises(ModelError, match=r"another process is writing '.*model'; wait for it, or choose another folder"),
    ):
        write(dare, tmp_path / "model")


def test_the_number_of_threads_changes_no_byte(
    tmp_path: Path, family: Path, make_recipe: MakeRecipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    rule = ParameterRule(("*",), {"weight": (0.5, 0.7), "density": (0.6, 0.5)})
    recipe = make_recipe("ties", family / "base", {name: family / name for name in "ab"}, rule, options={"rescale": "norm"})
    built = []
    for workers in (1, 2, 5):
        monkeypatch.setattr("evo_merge.models.streaming._n_cores", lambda workers=workers: workers)
        built.append(contents(write(recipe, tmp_path / str(workers))))
    assert built[0] == built[1] == built[2]


# --- no room ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of its own, of 128 kB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    if subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=128k", "tmpfs", str(folder)], check=False, capture_output=True
    ).returncode:
        pytest.skip("only root may mount")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_a_disk_that_fills_up_is_one_sentence_and_leaves_nothing(
    small_disk: Path, dare: ParameterSpaceRecipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another program takes the room after we have looked for it."""
    monkeypatch.setattr(checkpoint, "_RESERVE", 0)
    usage, looked = shutil.disk_usage, []

    def look(path: Path) -> object:
        found = usage(path)
        if not looked:
            (small_disk / "other").write_bytes(bytes(found.free - 8192))
        looked.append(path)
        return found

    monkeypatch.setattr(shutil, "disk_usage", look)
    with pytest.raises(ModelError) as caught:
        write(dare, small_disk / "model")
    assert "\n" not in str(caught.value)
    assert f"the disk was full before '{small_disk / 'model'}' was written: it needs" in str(caught.value)
    assert "make room, or choose another folder" in str(caught.value)
    assert [path.name for path in small_disk.iterdir()] == ["other"]
    (small_disk / "other").unlink()
    write(dare, small_disk / "model")


def test_the_command_ends_with_code_2_where_a_file_may_not_grow(tmp_path: Path, dare: ParameterSpaceRecipe) -> None:
    """The limit of a file's size (``ulimit -f``), which any user has."""
    (tmp_path / "recipe.yaml").write_text(to_yaml(dare), encoding="utf-8")
    command = [sys.executable, "-m", "evo_merge.build", f"recipe={tmp_path / 'recipe.yaml'}", f"out={tmp_path / 'model'}"]
    finished = subprocess.run(
        command,
        check=False,
        capture_output=True,
        text=True,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (9000, 9000)),
    )
    assert finished.returncode == 2, finished.stderr
    assert finished.stderr.count("\n") == 1
    assert "the disk was full before" in finished.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["recipe.yaml"]


def test_what_is_there_already_needs_no_room_again(
    tmp_path: Path, dare: ParameterSpaceRecipe, monkeypatch: pytest.MonkeyPatch, killed: Path
) -> None:
    monkeypatch.setattr(checkpoint, "SHARD_BYTES", SHARD)
    monkeypatch.setattr(checkpoint, "_RESERVE", 0)
    shutil.copytree(killed / f"{killed_builds.DESCRIPTION}.partial", tmp_path / "model.partial")
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=0))
    write(dare, tmp_path / "model")
    assert [path.name for path in tmp_path.iterdir()] == ["model"]
    with pytest.raises(ModelError, match=r"and 0\.0 MB are free"):
        write(dare, tmp_path / "other")


def test_a_full_disk_is_known_by_what_libraries_say_of_it() -> None:
    assert partial.is_disk_full(OSError(28, "No space left on device"))
    assert partial.is_disk_full(Exception("No space left on device (os error 28)"))  # tokenizers
    assert not partial.is_disk_full(OSError(13, "Permission denied"))


def test_needs_are_told_by_the_dtypes_that_are_written(family: Path, make_recipe: MakeRecipe) -> None:
    recipe = make_recipe("linear", None, {"a": family / "a"}, ParameterRule(("*",), {"weight": (1.0,)}), out_dtype="bfloat16")
    from evo_merge.models.building import built

    model: Built = built(recipe, Pool.of_recipe(recipe))
    assert model.n_bytes == sum(model.read(name).nbytes for name in model.shapes)


# --- places ----------------------------------------------------------------------------------------------------------


def test_the_folder_that_it_runs_in_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ModelError, match=r"'\.' is the folder that this runs in"):
        partial.place_for(Path())
    assert partial.place_for(Path("model")) == tmp_path / "model"


@pytest.mark.parametrize("file", ["out", "out/model.partial"])
def test_a_file_where_a_folder_should_be_is_one_sentence(tmp_path: Path, file: str) -> None:
    (tmp_path / file).parent.mkdir(exist_ok=True)
    (tmp_path / file).write_text("mine")
    with pytest.raises(ModelError, match=f"cannot be written, as '{tmp_path / file}' is a file"):
        partial.place_for(tmp_path / "out" / "model")


def test_what_another_process_is_writing_is_left_to_it(tmp_path: Path) -> None:
    """Also by what is written in one go, as adapters and statistics are."""
    with partial.partial_folder(tmp_path / "model", "build", ()) as first:
        (first.path / "tensors").write_text("half")
        with pytest.raises(ModelError, match="another process is writing"), partial.partial_folder(tmp_path / "model", "b", ()):
            pytest.fail("two at once")
        assert (first.path / "tensors").read_text() == "half"
    assert [path.name for path in (tmp_path / "model").iterdir()] == ["tensors"]


def test_what_cannot_be_gone_on_with_is_not_left_by_an_interrupt(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt), partial.partial_folder(tmp_path / "model", "adapter", ()):
        raise KeyboardInterrupt
    assert not list(tmp_path.iterdir())
