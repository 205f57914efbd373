"""Show 6: everything in the catalogue of broken pools is found, and nothing in good ones."""

import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from transformers.utils import logging

import good_families
from broken_pairs import CATALOGUE, Broken, adapter, pool
from evo_merge.models.checks.kinds import KINDS


@pytest.fixture(scope="session")
def good(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The folder of a good family, made once; not to be changed."""
    logging.disable_progress_bar()
    root = tmp_path_factory.mktemp("good")

    def folder(name: str) -> Path:
        return root / name if (root / name).is_dir() else good_families.make(root / name, name)

    return folder


@pytest.fixture
def copied(good: Callable[[str], Path], tmp_path: Path) -> Callable[[str], Path]:
    """A copy of a good family, to be broken."""
    return lambda name: Path(shutil.copytree(good(name), tmp_path / name))


def named(out: str) -> dict[str, str]:
    """Sentence and mend of each finding by its name, without the line breaks."""
    blocks = re.split(r"^(?:refusal|warning|note)  ", out, flags=re.MULTILINE)[1:]
    found: dict[str, str] = {}
    for block in blocks:
        name, _, text = block.partition("\n")
        found[name] = found.get(name, "") + " ".join(text.replace("\n  → ", "; ").split()) + " "
    return found


@pytest.mark.parametrize("family", good_families.CONFIGS)
@pytest.mark.parametrize("base", ["base", None])
def test_nothing_is_found_in_a_good_family(command, good: Callable[[str], Path], family: str, base: str | None) -> None:
    ended = command(*pool(good(family), base=base), verb="check")
    assert (ended.code, ended.out, ended.err) == (0, "Nothing was found that speaks against merging these models.\n", "")


@pytest.mark.parametrize("modules", [["q_proj", "v_proj"], ["embed_tokens"]])
def test_nothing_is_found_in_an_adapter_that_fits(command, copied: Callable[[str], Path], modules: list[str]) -> None:
    ended = command(*adapter(copied("llama"), target_modules=modules), verb="check")
    assert (ended.code, ended.out, ended.err) == (0, "Nothing was found that speaks against merging these models.\n", "")


@pytest.mark.parametrize("broken", CATALOGUE, ids=lambda broken: broken.name)
def test_what_is_broken_is_found(command, copied: Callable[[str], Path], broken: Broken) -> None:
    ended = command(*broken.make(copied(broken.family)), verb="check")
    found = named(ended.out)
    assert broken.finding in found, ended
    assert broken.part in found[broken.finding]
    is_refused = any(KINDS[name].severity == "refusal" for name in found)
    assert ended.code == (2 if is_refused else 0)
    if is_refused:
        (sentence,) = ended.err.splitlines()
        assert sentence.startswith("evo-merge: these models cannot be merged as they are: ")


def test_the_catalogue_has_every_kind() -> None:
    # Whatever nobody thought of, and a GGUF file, which is not made in a moment.
    assert {broken.finding for broken in CATALOGUE} == set(KINDS) - {"unreadable", "quantised_source"}
