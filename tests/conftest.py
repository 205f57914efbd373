"""What all tests share: no network, and the folder with data of other implementations."""

import os

# Before any library reads them.
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["WANDB_MODE"] = "offline"

import contextlib
import importlib
import shutil
import sqlite3
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch

# absl, which ROUGE imports, logs to the standard error of its first import and closes that when logging is set up anew, unless
# it is the process' own: not one of those that pytest captures with.
with contextlib.suppress(ImportError), contextlib.redirect_stderr(sys.__stderr__):
    import absl.logging  # noqa: F401

FAMILY = Path(__file__).parents[1] / "src" / "evo_merge" / "models" / "tiny" / "tiny_ja_math"


@dataclass(frozen=True)
class Ended:
    """How a command ended, and what it printed."""

    code: int
    out: str
    err: str


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> Iterator[None]:
    """Two threads over a pico model wait for each other: 8 times slower on a busy machine."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., Ended]:
    """Runs a command in this process, in a folder of its own: ``command("seed=2")``, ``command(…, verb="build")``."""
    monkeypatch.chdir(tmp_path)

    def run(*words: object, verb: str = "__main__") -> Ended:
        module = importlib.import_module(f"evo_merge.{verb}")
        monkeypatch.setattr(sys, "argv", [verb, *map(str, words)])
        capsys.readouterr()
        code = module.main()
        return Ended(code, *capsys.readouterr())

    return run


@pytest.fixture
def pico(tmp_path: Path) -> Callable[..., Path]:
    """Makes the folder of a very small Llama with the embedded family's tokenizer and random weights: ``pico("a", seed=1)``."""
    from transformers import LlamaConfig, LlamaForCausalLM, set_seed
    from transformers.utils import logging

    logging.disable_progress_bar()

    def make(name: str, seed: int = 0, **changes: object) -> Path:
        folder = tmp_path / name
        sizes: dict[str, object] = {
            "vocab_size": 136,
            "hidden_size": 16,
            "intermediate_size": 16,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "max_position_embeddings": 256,
        }
        set_seed(seed)
        LlamaForCausalLM(LlamaConfig(**{**sizes, **changes})).save_pretrained(folder)
        for file in ("tokenizer.json", "tokenizer_config.json", "generation_config.json"):
            shutil.copy(FAMILY / "base" / file, folder / file)
        return folder

    return make


@pytest.fixture
def remembered() -> Callable[[Path], list[object]]:
    """Reads what a run folder remembers of every candidate, the models beside them and what all scored; no timings."""
    from evo_merge.recipe import to_yaml
    from evo_merge.study import Study, opened
    from evo_merge.tasks.base import SPLITS

    def read(folder: Path) -> list[object]:
        with opened(Study.read(folder)) as study:
            asked = [(c.number, c.generation, tuple(c.genome), c.recipe, c.stage, c.portion) for c in study.candidates()]
            asked += [(e.role, e.name, (), e.recipe, "", "search") for e in study.entrants()]
            found: list[object] = []
            for *who, recipe, stage, portion in asked:
                evaluations = [study.evaluation(recipe, key) for key in (*SPLITS, portion)]
                kept = [e and (e.scores.tobytes(), e.completions, e.failure, e.cost.new_tokens) for e in evaluations]
                found.append((*who, to_yaml(recipe), kept, stage, portion))
            return found

    return read


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder ``shared`` beside the checkout; the test is skipped where there is none."""
    folder = Path(__file__).parents[2] / "shared"
    if not folder.is_dir():
        pytest.skip(f"there is no folder {folder}")
    return folder


@pytest.fixture
def quick_commits(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where what survives a pulled plug is not looked at: waiting for the disk would take most of the time."""

    def quick(connection: sqlite3.Connection) -> sqlite3.Connection:
        connection.execute("PRAGMA synchronous = OFF")
        return connection

    monkeypatch.setattr("evo_merge.study_file._durable", quick)
