"""Show 6: everything in the catalogue of broken pools is found, and nothing in good ones."""

import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, GPT2Config
from transformers.utils import logging

import good_families
from broken_pairs import CATALOGUE, Broken, adapter, lora_config, pool, with_adapter
from evo_merge.errors import IncompatibleModelsError
from evo_merge.models.assemble import Assembler
from evo_merge.models.checkpoint import write_checkpoint
from evo_merge.models.checks.kinds import KINDS
from evo_merge.models.pool import Pool
from evo_merge.recipe import ParameterRule, ParameterSpaceRecipe


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


@pytest.mark.parametrize("family", good_families.CONFIGS)
def test_a_good_family_is_merged_in_memory_as_it_is_built(
    good: Callable[[str], Path], tmp_path: Path, family: str, make_recipe: Callable[..., ParameterSpaceRecipe]
) -> None:
    folder = good(family)
    rule = ParameterRule(("*",), {"weight": (2.5, 0.25)})
    recipe = make_recipe("task_arithmetic", folder / "base", {name: folder / name for name in "ab"}, rule)
    models = Pool.of_recipe(recipe)
    write_checkpoint(recipe, models, tmp_path / "built")
    built, base = (AutoModelForCausalLM.from_pretrained(path) for path in (tmp_path / "built", folder / "base"))
    assembler = Assembler(models, torch.device("cpu"))
    mixed = assembler.assemble(recipe)
    tokens = torch.tensor([[3, 9, 27, 4, 11, 2]])
    with torch.no_grad():
        of_mixed, of_built, of_base = (model(tokens).logits for model in (mixed, built, base))
    assert torch.equal(of_mixed, of_built)
    assert not torch.equal(of_mixed, of_base)
    written = load_file(tmp_path / "built" / "model.safetensors")
    held = dict(assembler.tensors(recipe))
    assert held.keys() == written.keys()
    assert all(torch.equal(tensor, written[name]) for name, tensor in held.items())


def test_what_a_search_cannot_write_in_place_can_be_built(
    copied: Callable[[str], Path], tmp_path: Path, make_recipe: Callable[..., ParameterSpaceRecipe]
) -> None:
    folder = copied("llama")
    (broken,) = (each for each in CATALOGUE if each.finding == "rearranged")
    broken.make(folder)
    rule = ParameterRule(("*",), {"weight": (1.0, 0.0)})
    recipe = make_recipe("linear", None, {name: folder / name for name in "ab"}, rule)
    models = Pool.of_recipe(recipe)
    with pytest.raises(IncompatibleModelsError, match="transformers rearranges weights of 'hrm_text' when it loads them"):
        Assembler(models, torch.device("cpu")).assemble(recipe)
    write_checkpoint(recipe, models, tmp_path / "built")
    own, built = (load_file(path / "model.safetensors") for path in (folder / "a", tmp_path / "built"))
    assert all(torch.equal(tensor, built[name]) for name, tensor in own.items())


@pytest.mark.parametrize(
    "settings",
    [
        {"target_modules": ["q_proj", "v_proj"]},
        {"target_modules": ["embed_tokens"]},
        {"target_modules": ["q_proj", "embed_tokens"], "use_dora": True},
        {"modules_to_save": ["lm_head"]},
    ],
    ids=["plain", "embeddings", "dora", "saved_head"],
)
def test_nothing_is_found_in_an_adapter_that_fits(command, copied: Callable[[str], Path], settings: dict[str, object]) -> None:
    ended = command(*adapter(copied("llama"), **settings), verb="check")
    assert (ended.code, ended.out, ended.err) == (0, "Nothing was found that speaks against merging these models.\n", "")


def test_nothing_is_found_in_an_adapter_of_transposed_matrices_that_fits(command, tmp_path: Path) -> None:
    for seed, name in enumerate(("base", "a"), start=1):  # GPT-2's matrices are (in, out), and c_attn is not square
        config = GPT2Config(vocab_size=64, n_embd=16, n_layer=1, n_head=2, n_positions=64, bos_token_id=0, eos_token_id=1)
        good_families.save(tmp_path / name, config, seed, near=1)
    ended = command(*adapter(tmp_path, target_modules=["c_attn"], fan_in_fan_out=True), verb="check")
    assert (ended.code, ended.out, ended.err) == (0, "Nothing was found that speaks against merging these models.\n", "")
    lora_config(tmp_path, fan_in_fan_out=False)
    assert "refusal  adapter_shapes" in command(*with_adapter(tmp_path), verb="check").out


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


def test_more_tokens_and_their_rows_are_one_finding(command, copied: Callable[[str], Path]) -> None:
    (broken,) = (each for each in CATALOGUE if each.name == "more_tokens")
    words = broken.make(copied(broken.family))
    assert list(named(command(*words, verb="check").out)) == ["vocabulary"]
    assert list(named(command(*words, "paths=true", verb="check").out)) == ["added_tokens"]


def test_the_catalogue_has_every_kind() -> None:
    # Whatever nobody thought of, and a GGUF file, which is not made in a moment.
    assert {broken.finding for broken in CATALOGUE} == set(KINDS) - {"unreadable", "quantised_source"}
