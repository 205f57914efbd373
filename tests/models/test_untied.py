"""Models with tied embeddings beside models with a head of their own."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, LlamaConfig

from evo_merge.models.assemble import Assembler
from evo_merge.models.checkpoint import write_checkpoint
from evo_merge.models.pool import Pool
from evo_merge.recipe import ParameterRule, ParameterSpaceRecipe

SIZES = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2, "num_attention_heads": 4, "vocab_size": 32}


@pytest.fixture
def folders(tmp_path: Path) -> dict[str, Path]:
    for seed, (name, tied) in enumerate({"tied": True, "apart": False, "other": True}.items()):
        torch.manual_seed(seed)
        AutoModelForCausalLM.from_config(LlamaConfig(**SIZES, tie_word_embeddings=tied)).save_pretrained(tmp_path / name)
    return {name: tmp_path / name for name in ("tied", "apart")}


def test_the_embeddings_stand_in_for_the_head_that_is_not_there(
    folders: dict[str, Path], make_recipe: Callable[..., ParameterSpaceRecipe], tmp_path: Path
) -> None:
    recipe = make_recipe("linear", None, folders, ParameterRule(("*",), {"weight": (1.0, 3.0)}))
    write_checkpoint(recipe, Pool.of_recipe(recipe), tmp_path / "merged")
    merged = load_file(tmp_path / "merged" / "model.safetensors")
    tied, apart = (load_file(folder / "model.safetensors") for folder in folders.values())
    expected = 0.25 * tied["model.embed_tokens.weight"] + 0.75 * apart["lm_head.weight"]
    torch.testing.assert_close(merged["lm_head.weight"], expected)
    loaded = AutoModelForCausalLM.from_pretrained(tmp_path / "merged")
    assert not loaded.config.tie_word_embeddings
    in_memory = Assembler(Pool.of_recipe(recipe), torch.device("cpu")).assemble(recipe)
    assert torch.equal(in_memory.lm_head.weight, loaded.lm_head.weight)


def test_models_that_are_all_tied_stay_tied(folders: dict[str, Path]) -> None:
    pool = Pool(base=str(folders["tied"]), sources=[str(folders["tied"].with_name("other"))])
    assert pool.leader.config.tie_word_embeddings
    assert "lm_head.weight" not in pool.leader.shapes
    assert [model.config.tie_word_embeddings for model in Pool(base=None, sources=list(map(str, folders.values()))).models] == [
        False,
        False,
    ]
    assert Pool(base=None, sources=list(map(str, folders.values()))).for_paths().leader.config.tie_word_embeddings
