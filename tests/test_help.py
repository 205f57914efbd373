"""``--help``: what a command does, every option of its config with what it means, and examples."""

import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from omegaconf import OmegaConf

import evo_merge
from evo_merge.command_line import CONF
from evo_merge.help import help_of

VERBS = {file.stem: "__main__" if file.stem == "config" else file.stem for file in CONF.glob("*.yaml")}
NEVER_USED = {("evaluate", "models")}
PACKAGE = Path(evo_merge.__file__).parent


def row(text: str, option: str) -> str:
    """What is said of an option: the rest of its line, and the line below where that goes on."""
    lines = text.splitlines()
    number = next(i for i, line in enumerate(lines) if line.startswith((f"  {option} ", f"  {option}=")))
    return " ".join(lines[number : number + 2])


@pytest.mark.parametrize("name", VERBS)
def test_a_command_tells_what_it_does_and_every_option(command: Callable[..., Any], tmp_path: Path, name: str) -> None:
    ended = command("--help", verb=VERBS[name])
    assert (ended.code, ended.err) == (0, "")
    assert ended.out == command("-h", verb=VERBS[name]).out
    assert not list(tmp_path.iterdir())  # nothing was begun
    usage, _, sentence, _, example, *_ = ended.out.splitlines()
    verb = "python -m evo_merge" + ("" if name == "config" else f".{name}")
    assert usage.startswith(f"{verb} ")
    assert sentence.endswith((".", ")."))
    assert shlex.split(example)[:3] == verb.split()
    config: Any = OmegaConf.to_container(OmegaConf.load(CONF / f"{name}.yaml"))
    for option, value in config.items():
        if option in ("defaults", "hydra"):
            continue
        inside = [f"{option}.{key}" for key in value] if isinstance(value, dict) else [option]
        for each in inside:
            assert len(row(ended.out, each).split()) > 2, each
    shown = {line.split()[0] for line in ended.out.split("Options,")[0].splitlines() if line.startswith("  ")}
    for entry in config["defaults"]:
        for part in entry if isinstance(entry, dict) else ():
            if not part.startswith("override"):
                assert (part in shown) != ((name, part) in NEVER_USED), part
                assert not (shown & {"merge", "optimizer"}) or name == "config", "parts that the verb does not take"


def test_a_part_is_told_with_every_choice(command: Callable[..., Any]) -> None:
    told = command("--help").out.replace(",", " ").split()
    for group in ("merge", "optimizer", "models", "task", "generator", "scalarize", "trainer", "tracker", "experiment"):
        assert {file.stem for file in (CONF / group).glob("*.yaml")} <= set(told)
    assert {"merge/encoding=binary", "segments", "merge/scales=matrix", "per_hop"} <= set(told)


def test_the_first_help_names_the_other_verbs() -> None:
    head = help_of(CONF, "config").split("Parts (")[0]
    verbs = {file.stem for file in PACKAGE.glob("*.py") if "def main(" in file.read_text() and file.stem != "__main__"} | {
        "report"
    }
    assert verbs == set(head.split("python -m evo_merge.")[-1].replace(",", " ").split())


def test_choices_of_the_users_own_are_told_too(command: Callable[..., Any], tmp_path: Path) -> None:
    (tmp_path / "my_conf" / "experiment").mkdir(parents=True)
    (tmp_path / "my_conf" / "experiment" / "mine.yaml").touch()
    assert "mine" not in command("--help").out
    for words in (["--config-dir", "my_conf"], ["--config-dir=my_conf"], ["-cd", "my_conf"]):
        assert ", mine\n" in command(*words, "--help").out


def test_the_numbers_of_a_part_are_where_the_help_says(command: Callable[..., Any]) -> None:
    assert "of one part: --cfg job --package merge" in command("--help").out
    shown = command("--cfg", "job", "--package", "merge", "merge=ties")
    assert shown.code == 0
    assert "evo_merge.methods.ties.Ties" in shown.out


def test_ask_has_a_help_too(command: Callable[..., Any]) -> None:
    ended = command("--help", verb="ask")
    assert ended.code == 0
    assert ended.out.startswith('python -m evo_merge.ask <run folder> "QUESTION"\n')
