"""The models of a run: which are opened, what is taken from whom, and what is refused."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from evo_merge.errors import ConfigError, ModelError
from evo_merge.models import tiny
from evo_merge.models.building import check_buildable
from evo_merge.models.compatibility import refuse_unmixable
from evo_merge.models.merging import TensorMerger
from evo_merge.models.pool import Pool
from evo_merge.models.residency import candidate_bytes, weight_bytes
from evo_merge.recipe import ModelReference, ParameterRule, ParameterSpaceRecipe

SavePico = Callable[..., Path]
MakeRecipe = Callable[..., ParameterSpaceRecipe]


@pytest.fixture
def folders(family: Path) -> dict[str, Any]:
    return {"base": str(family / "base"), "sources": [str(family / name) for name in "abc"]}


def test_sources_are_named_after_their_folders_or_as_wanted(family: Path) -> None:
    pool = Pool(
        base=None, sources=[str(family / "a"), {"name": "ja", "model": str(family / "b")}, {"model": str(family / "c")}]
    )
    assert [source.name for source in pool.recipe_sources] == ["a", "ja", "c"]
    assert pool.leader is pool.sources[0]
    assert len(pool.models) == 3


def test_the_base_leads_where_there_is_one(folders: dict[str, Any]) -> None:
    pool = Pool(**folders)
    assert pool.base is not None
    assert pool.leader is pool.base
    assert [model.name for model in pool.models] == ["base", "a", "b", "c"]


def test_some_sources_can_be_chosen_by_name(folders: dict[str, Any]) -> None:
    assert [model.name for model in Pool(**folders, use=["c", "a"]).sources] == ["a", "c"]


def test_the_other_sources_are_not_even_looked_for(folders: dict[str, Any]) -> None:
    folders["sources"].append("/no/such/folder")
    assert len(Pool(**folders, use=["a", "b"]).sources) == 2


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"use": ["d"]}, "models.use: there is no source 'd'; there are a, b, c"),
        ({"use": []}, "models.use is empty; name at least one of a, b, c"),
        ({"sources": []}, "models.sources is empty; name at least one model"),
        ({"sources": ["x/a", "y/a"]}, "models.sources needs different names, got a, a"),
        ({"sources": [{"nmae": "a", "model": "x"}]}, "models: a model has no key 'nmae'; it has model and revision"),
        ({"sources": [{"name": "a"}]}, "models: a model is named by 'model', by 'adapter' and 'base', or by 'recipe'"),
        ({"sources": [{"adapter": "a"}]}, "models: an adapter needs both 'adapter'"),
        ({"residency": "gpu"}, "models.residency must be one of auto, device, host, disk, got 'gpu'"),
        ({"out_dtype": "float64"}, "models.out_dtype must be one of float32, bfloat16, float16, got 'float64'"),
    ],
)
def test_options_that_cannot_be_are_one_sentence(folders: dict[str, Any], changes: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        Pool(**folders | changes)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_candidates_have_the_dtype_that_the_base_is_stored_in(tmp_path: Path, save_pico: SavePico, dtype: str) -> None:
    base = save_pico(tmp_path / "base", 0, dtype=getattr(torch, dtype))
    source = save_pico(tmp_path / "a", 1)
    pool = Pool(base=str(base), sources=[str(source)])
    assert pool.out_dtype == dtype
    assert Pool(base=str(base), sources=[str(source)], out_dtype="float16").out_dtype == "float16"
    n_weights = sum(pool.leader.weights.read(name).numel() for name in pool.leader.weights.shapes)
    assert candidate_bytes(pool) == n_weights * (4 if dtype == "float32" else 2)
    assert weight_bytes(pool) == n_weights * (4 if dtype == "float32" else 2) + n_weights * 4


def test_the_dtype_of_most_tensors_counts(tmp_path: Path, save_pico: SavePico) -> None:
    folder = save_pico(tmp_path / "a", 1, dtype=torch.bfloat16)
    path = folder / "model.safetensors"
    tensors = {name: tensor.float() if "norm" in name else tensor for name, tensor in load_file(path).items()}
    save_file(tensors, path, metadata={"format": "pt"})
    assert Pool(base=None, sources=[str(folder)]).out_dtype == "bfloat16"


def test_a_model_without_a_tokenizer_merges_with_a_warning(
    tmp_path: Path, family: Path, save_pico: SavePico, make_recipe: MakeRecipe
) -> None:
    mute = save_pico(tmp_path / "mute", 9, near=family / "base")
    pool = Pool(base=str(family / "base"), sources=[str(mute), str(family / "a")])
    rule = ParameterRule(("*",), {"weight": (0.5, 0.5)})
    recipe = make_recipe("task_arithmetic", family / "base", {"mute": mute, "a": family / "a"}, rule)
    assert check_buildable(recipe, pool) == [f"'mute' ({mute}) has no tokenizer"]
    assert torch.isfinite(TensorMerger(pool, torch.device("cpu")).of(recipe)["lm_head.weight"]).all()
    assert pool.tokenizer.get_vocab()["w3"] == 6  # the base's


def test_the_tokenizer_is_the_first_that_there_is(tmp_path: Path, family: Path, save_pico: SavePico) -> None:
    mute = save_pico(tmp_path / "mute", 9, near=family / "base")
    assert Pool(base=str(mute), sources=[str(family / "a")]).tokenizer.get_vocab()["w3"] == 6
    with pytest.raises(ModelError, match="none of the models has a tokenizer, so nothing can be asked of them; add one"):
        Pool(base=None, sources=[str(mute)]).tokenizer  # noqa: B018


def test_the_generation_config_is_the_first_that_there_is(tmp_path: Path, family: Path, save_pico: SavePico) -> None:
    base = save_pico(tmp_path / "base", 9, near=family / "base")
    (base / "generation_config.json").unlink(missing_ok=True)
    source = save_pico(tmp_path / "a", 9, near=family / "base")
    (source / "generation_config.json").write_text(json.dumps({"eos_token_id": [1, 5]}))
    assert Pool(base=str(base), sources=[str(source)]).generation_config.eos_token_id == [1, 5]
    (source / "generation_config.json").unlink()
    assert Pool(base=str(base), sources=[str(source)]).generation_config.eos_token_id == 1  # the config's


def test_adapters_are_looked_for_in_the_folder_named(tmp_path: Path, family: Path) -> None:
    entry = {"name": "ja", "adapter": "ja", "base": str(family / "base")}
    with pytest.raises(ModelError, match=f"'{tmp_path}/ja' is no adapter folder"):
        Pool(base=None, sources=[entry], adapters=str(tmp_path))
    with pytest.raises(ModelError, match="'ja' is no adapter folder"):
        Pool(base=None, sources=[entry])


def test_the_models_of_a_recipe_are_its_own(dare: ParameterSpaceRecipe) -> None:
    pool = Pool.of_recipe(dare)
    assert pool.recipe_sources == dare.sources
    assert pool.base is not None
    assert pool.base.reference == dare.base
    assert pool.out_dtype == dare.out_dtype


def test_the_embedded_family_is_a_pool() -> None:
    names = ("ja", "math_a", "math_b")
    pool = Pool(base="builtin:tiny_ja_math/base", sources=[f"builtin:tiny_ja_math/{name}" for name in names])
    assert [model.reference for model in pool.sources] == [ModelReference(f"builtin:tiny_ja_math/{name}") for name in names]
    assert pool.tokenizer is not None


def test_a_folder_without_a_config_is_no_model(tmp_path: Path, family: Path) -> None:
    folder = tmp_path / "bare"
    folder.mkdir()
    shutil.copy(family / "a" / "model.safetensors", folder)
    pool = Pool(base=str(family / "base"), sources=[str(folder)])
    with pytest.raises(ModelError, match=r"has no config.json, so it is no model folder"):
        refuse_unmixable(pool.base, pool.sources)


@pytest.mark.parametrize("text", ["{", '{"model_type": "no_such_model"}', "[]"])
def test_a_config_that_cannot_be_read_is_one_sentence(tmp_path: Path, family: Path, text: str) -> None:
    folder = shutil.copytree(family / "a", tmp_path / "a")
    (folder / "config.json").write_text(text)
    pool = Pool(base=str(family / "base"), sources=[str(folder)])
    with pytest.raises(ModelError, match=r"has a config that transformers cannot read: .+") as caught:
        refuse_unmixable(pool.base, pool.sources)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("card", "licence"),
    [
        ("---\nlicense: apache-2.0\n---\n# A model", "apache-2.0"),
        ("---\ntags: [x]\n---\n", None),
        ("# A model\n---\nlicense: mit\n---\n", None),
        ("---\n: [\n---\n", None),
        ("", None),
    ],
)
def test_the_licence_is_what_the_card_states(tmp_path: Path, family: Path, card: str, licence: str | None) -> None:
    folder = shutil.copytree(family / "a", tmp_path / "a")
    (folder / "README.md").write_text(card)
    assert Pool(base=None, sources=[str(folder)]).sources[0].licence == licence


def test_any_models_end_of_sequence_token_ends_an_answer(tmp_path: Path) -> None:
    family = Path(tiny.__file__).parent / "tiny_ja_math"
    other = tmp_path / "other"
    shutil.copytree(family / "ja", other)
    settings = json.loads((other / "generation_config.json").read_text())
    (other / "generation_config.json").write_text(json.dumps(settings | {"eos_token_id": 7}))

    pool = Pool(base=str(family / "base"), sources=[str(other), str(family / "math_a")])
    alike = Pool(base=str(family / "base"), sources=[str(family / "ja")])

    assert isinstance(alike.generation_config.eos_token_id, int)
    assert pool.generation_config.eos_token_id == [alike.generation_config.eos_token_id, 7]


def test_the_first_chat_template_is_taken(tmp_path: Path) -> None:
    family = Path(tiny.__file__).parent / "tiny_ja_math"
    chat = tmp_path / "chat"
    shutil.copytree(family / "ja", chat)
    settings = json.loads((chat / "tokenizer_config.json").read_text())
    (chat / "tokenizer_config.json").write_text(json.dumps(settings | {"chat_template": "{{ messages }}"}))

    assert Pool(base=str(family / "base"), sources=[str(chat)]).tokenizer.chat_template == "{{ messages }}"
    assert Pool(base=str(family / "base"), sources=[str(family / "ja")]).tokenizer.chat_template is None
