"""The models of a run: which are opened, what is taken from whom, and what is refused."""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from evo_merge.errors import ConfigError, ModelError, RecipeError
from evo_merge.licences import StatedLicence
from evo_merge.models import tiny
from evo_merge.models.building import check_buildable
from evo_merge.models.checkpoint import write_checkpoint
from evo_merge.models.compatibility import refuse_unmixable
from evo_merge.models.description import read_licences
from evo_merge.models.merging import TensorMerger
from evo_merge.models.pool import Pool
from evo_merge.models.pool_licences import licences_in
from evo_merge.models.reference import ModelFiles
from evo_merge.models.residency import candidate_bytes, weight_bytes
from evo_merge.recipe import (
    DataFlowRecipe,
    ModelReference,
    ParameterRule,
    ParameterSpaceRecipe,
    Source,
    Step,
    to_record,
    to_yaml,
)

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
    (warning,) = check_buildable(recipe, pool)
    assert warning.startswith(f"'mute' ({mute}) has no tokenizer; ")
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


@pytest.mark.parametrize(
    ("data_flow", "names"), [(None, ["a", "b", "c"]), (["c", "a"], ["c", "a"]), (["b", "c", "a"], ["b", "c", "a"])]
)
def test_paths_run_through_the_sources_named_the_first_leads(
    folders: dict[str, Any], data_flow: list[str] | None, names: list[str]
) -> None:
    pool = Pool(**folders, data_flow=data_flow)
    paths = pool.for_paths()
    assert [model.name for model in paths.models] == names
    assert paths.leader is paths.sources[0]
    assert paths.base is None
    assert paths.sources[0] in pool.sources  # opened once
    assert [model.name for model in pool.models] == ["base", "a", "b", "c"]  # mixing keeps its own


@pytest.mark.parametrize(
    ("use", "data_flow", "said"),
    [
        (None, ["a", "d"], "models.data_flow: there is no source 'd'; there are a, b, c"),
        (["a", "b"], ["a", "c"], "models.data_flow: there is no source 'c'; there are a, b"),
        (None, ["a"], "merge=dfs runs through the layers of two models or more, got a; name each once, model A first: "),
        (None, [], "merge=dfs runs through the layers of two models or more, got none; name each once, model A first: "),
        (None, ["a", "b", "a"], "got a, b, a; name each once, model A first: 'models.data_flow=[a,b]'"),
        (["a"], None, "merge=dfs runs through the layers of two models or more, got a; name each once"),
    ],
)
def test_paths_need_two_models_each_named_once(
    folders: dict[str, Any], use: list[str] | None, data_flow: list[str] | None, said: str
) -> None:
    pool = Pool(**folders, use=use, data_flow=data_flow)  # who mixes does not care
    with pytest.raises(ConfigError) as caught:
        pool.for_paths()
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_paths_have_tokenizer_and_ends_of_their_own_models(tmp_path: Path, folders: dict[str, Any], family: Path) -> None:
    copied = shutil.copytree(family / "c", tmp_path / "ending")
    (copied / "generation_config.json").write_text(json.dumps({"eos_token_id": 5}))
    pool = Pool(**folders | {"sources": [*folders["sources"], str(copied)]}, data_flow=["a", "ending"])
    whole = (pool.tokenizer, pool.generation_config)  # read before, and not handed on
    assert pool.for_paths().generation_config.eos_token_id == [1, 5]
    assert Pool(**folders, data_flow=["a", "b"]).for_paths().generation_config.eos_token_id == 1
    assert whole[1].eos_token_id == [1, 5]
    assert pool.for_paths().tokenizer is not whole[0]


def test_a_model_of_the_pool_is_opened_once_and_another_besides(folders: dict[str, Any], family: Path, tmp_path: Path) -> None:
    pool = Pool(**folders)
    assert pool.open("other name", pool.sources[1].reference) is pool.sources[1]
    copied = shutil.copytree(family / "a", tmp_path / "copied")
    opened = pool.open("copied", ModelReference(str(copied)))
    assert (opened.name, opened.reference) == ("copied", ModelReference(str(copied)))
    assert len(pool.models) == 4
    with pytest.raises(ModelError, match="there is no model folder '/nowhere'"):
        pool.open("x", ModelReference("/nowhere"))


def test_a_tensor_that_is_not_finite_is_named_when_it_is_read(tmp_path: Path, family: Path) -> None:
    folder = shutil.copytree(family / "a", tmp_path / "a")
    tensors = load_file(folder / "model.safetensors")
    tensors["model.norm.weight"][3] = float("inf")
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    (model,) = Pool(base=None, sources=[str(folder)]).sources
    assert torch.equal(model.read("lm_head.weight"), tensors["lm_head.weight"])
    for _ in range(2):
        with pytest.raises(
            ModelError, match=r"'a' \(.*\) has a NaN or an infinity in 'model.norm.weight'; it cannot be merged"
        ):
            model.read("model.norm.weight")


# --- models that are recipes ----------------------------------------------------------------------------------------------


@pytest.fixture
def mixture(family: Path, make_recipe: MakeRecipe) -> ParameterSpaceRecipe:
    rule = ParameterRule(("*",), {"weight": (0.25, 0.75)})
    return make_recipe("linear", None, {"a": family / "a", "b": family / "b"}, rule, out_dtype="bfloat16")


def test_a_recipe_is_a_model_with_the_tensors_that_its_checkpoint_has(
    tmp_path: Path, mixture: ParameterSpaceRecipe, family: Path
) -> None:
    (tmp_path / "mixture.yaml").write_text(to_yaml(mixture))
    write_checkpoint(mixture, Pool.of_recipe(mixture), tmp_path / "written")
    expected = load_file(tmp_path / "written" / "model.safetensors")
    pool = Pool(base=None, sources=[{"name": "mix", "recipe": str(tmp_path / "mixture.yaml")}, str(family / "c")])
    model = pool.sources[0]
    assert model.reference == ModelReference(recipe=mixture)
    assert {name: model.read(name).tolist() for name in model.shapes} == {n: t.tolist() for n, t in expected.items()}
    assert set(model.dtypes.values()) == {torch.bfloat16}
    assert model.shapes == {name: tuple(tensor.shape) for name, tensor in expected.items()}
    assert model.tokenizer is not None
    assert model.config.num_hidden_layers == 2
    assert pool.out_dtype == "bfloat16"
    assert pool.generation_config.eos_token_id == 1


def test_a_recipe_needs_a_name(tmp_path: Path, mixture: ParameterSpaceRecipe) -> None:
    (tmp_path / "mixture.yaml").write_text(to_yaml(mixture))
    with pytest.raises(ConfigError, match=r"models\.sources: a recipe needs a name: \{name: …, recipe: FILE\}"):
        Pool(base=None, sources=[{"recipe": str(tmp_path / "mixture.yaml")}])
    with pytest.raises(ConfigError, match=r"models: cannot read the recipe 'none\.yaml'"):
        Pool(base=None, sources=[{"name": "x", "recipe": "none.yaml"}])


def test_a_recipe_that_cannot_be_built_is_named_when_it_is_read(mixture: ParameterSpaceRecipe) -> None:
    broken = replace(mixture, options={"normalize": False}, parameters=(ParameterRule(("*",), {"weight": (1e39, 1e39)}),))
    model = Pool(base=None, sources=[{"name": "mix", "recipe": to_record(broken)}]).sources[0]
    with pytest.raises(RecipeError, match=r"'mix' \(recipe \w{8}\) cannot be built: weights are not finite: 'lm_head.weight'"):
        model.read("lm_head.weight")


def test_code_from_elsewhere_in_a_recipe_that_is_a_model_runs_only_where_it_is_allowed(mixture: ParameterSpaceRecipe) -> None:
    outside = replace(mixture, method="evo_merge.methods.linear.Linear")
    pool = Pool.of_recipe(mixture)
    with pytest.raises(RecipeError, match="allow_code"):
        pool.open("mix", ModelReference(recipe=outside)).read("lm_head.weight")
    allowed = pool.open("mix", ModelReference(recipe=outside), ("evo_merge.methods.linear.Linear",))
    same = pool.open("mix", ModelReference(recipe=mixture))
    assert torch.equal(allowed.read("lm_head.weight"), same.read("lm_head.weight"))


def test_the_licences_of_a_recipe_are_those_of_all_models_in_it(tmp_path: Path, family: Path, make_recipe: MakeRecipe) -> None:
    folders = {name: shutil.copytree(family / name, tmp_path / name) for name in ("base", "a", "b")}
    for name, licence in (("base", "apache-2.0"), ("a", "mit")):
        (folders[name] / "README.md").write_text(f"---\nlicense: {licence}\n---\n")
    sources = {name: folders[name] for name in "ab"}
    recipe = make_recipe("task_arithmetic", folders["base"], sources, ParameterRule(("*",), {"weight": (0.5, 0.5)}))
    (model,) = Pool(base=None, sources=[{"name": "mix", "recipe": to_record(recipe)}]).sources
    assert [each.name for each in model.licences] == ["apache-2.0", "mit", "unknown"]
    (stated,) = Pool(base=None, sources=[{"name": "mix", "recipe": to_record(recipe), "licence": "isc"}]).sources
    assert [each.name for each in stated.licences] == ["apache-2.0", "mit", "isc"]


def test_other_weights_of_its_models_are_another_fingerprint_of_a_recipe(
    tmp_path: Path, family: Path, make_recipe: MakeRecipe
) -> None:
    folders = {name: shutil.copytree(family / name, tmp_path / name) for name in "ab"}
    recipe = make_recipe("linear", None, folders, ParameterRule(("*",), {"weight": (0.5, 0.5)}))

    def fingerprint() -> str:
        return Pool(base=None, sources=[{"name": "mix", "recipe": to_record(recipe)}]).sources[0].fingerprint

    before = fingerprint()
    assert fingerprint() == before
    shutil.copy(family / "c" / "model.safetensors", folders["b"])
    assert fingerprint() != before


def test_the_models_of_a_path_are_its_own(family: Path, mixture: ParameterSpaceRecipe) -> None:
    models = (Source("a", ModelReference(str(family / "a"))), Source("mix", ModelReference(recipe=mixture)))
    pool = Pool.of_recipe(DataFlowRecipe(models, (Step("a", 0), Step("mix", 1)), "residual", "float16"))
    assert pool.recipe_sources == models
    assert (pool.base, pool.out_dtype) == (None, "float16")


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
    ("card", "licences"),
    [
        ("---\nlicense: apache-2.0\n---\n# A model", ["apache-2.0"]),
        ("---\nlicense: [mit, apache-2.0]\n---\n", ["mit", "apache-2.0"]),
        ("---\nlicense: other\nlicense_name: qwen\n---\n", ["qwen"]),
        ("---\ntags: [x]\n---\n", ["unknown"]),
        ("---\n- license: mit\n---\n", ["unknown"]),
        ("# A model\n---\nlicense: mit\n---\n", ["unknown"]),
        ("---\n: [\n---\n", ["unknown"]),
        ("", ["unknown"]),
    ],
)
def test_the_licences_are_what_the_card_states(tmp_path: Path, family: Path, card: str, licences: list[str]) -> None:
    folder = shutil.copytree(family / "a", tmp_path / "a")
    (folder / "README.md").write_text(card)
    assert [each.name for each in Pool(base=None, sources=[str(folder)]).sources[0].licences] == licences


def test_a_licence_file_is_named_and_not_read(tmp_path: Path, family: Path) -> None:
    folder = shutil.copytree(family / "a", tmp_path / "a")
    (folder / "LICENSE.txt").write_text("MIT License")
    assert Pool(base=None, sources=[str(folder)]).sources[0].licences == (StatedLicence("unknown", f"{folder}/LICENSE.txt"),)


def test_the_licences_of_an_adapter_are_its_own_and_its_bases(tmp_path: Path, family: Path) -> None:
    base = shutil.copytree(family / "base", tmp_path / "base")
    adapter = tmp_path / "lora"
    adapter.mkdir()
    files = ModelFiles(base, adapter=adapter)
    (adapter / "README.md").write_text("---\nlicense: cc-by-nc-4.0\n---\n")
    (base / "README.md").write_text("---\nlicense: llama2\n---\n")
    assert [each.name for each in licences_in(files, None)] == ["cc-by-nc-4.0", "llama2"]
    (adapter / "README.md").unlink()
    assert [each.name for each in licences_in(files, None)] == ["unknown", "llama2"]


def test_a_gguf_file_without_a_card_states_its_own_licence(tmp_path: Path) -> None:
    gguf = pytest.importorskip("gguf")
    for name, licence in (("one", "apache-2.0"), ("two", None)):
        writer = gguf.GGUFWriter(tmp_path / f"{name}.gguf", "llama")
        if licence is not None:
            writer.add_license(licence)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.close()
    (tmp_path / "broken.gguf").write_bytes(b"GGUF")
    found = [[each.name for each in read_licences(ModelFiles(tmp_path, f"{name}.gguf"))] for name in ("one", "two", "broken")]
    assert found == [["apache-2.0"], ["unknown"], ["unknown"]]


# --- only permissive sources ----------------------------------------------------------------------------------------------


@pytest.fixture
def licensed(tmp_path: Path, family: Path) -> dict[str, Any]:
    """A base and sources with cards: a is permissive, b non-commercial, c states nothing."""
    for name, licence in (("base", "apache-2.0"), ("a", "mit"), ("b", "cc-by-nc-4.0"), ("c", None)):
        folder = shutil.copytree(family / name, tmp_path / name)
        (folder / "README.md").write_text(f"---\nlicense: {licence}\n---\n" if licence else "")
    return {"base": str(tmp_path / "base"), "sources": [str(tmp_path / name) for name in "abc"]}


def test_only_permissive_sources_are_kept_and_the_others_named(
    licensed: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    pool = Pool(**licensed, licences="permissive")
    assert [model.name for model in pool.sources] == ["a"]
    reasons = {"b": "states cc-by-nc-4.0 (non-commercial)", "c": "states no licence, so that it is unknown"}
    assert pool.left_out == reasons
    said = "; ".join(f"'{name}' {reason}" for name, reason in reasons.items())
    assert caplog.messages == [f"models.licences=permissive leaves out: {said}; 'a' alone is left"]
    with pytest.raises(
        ConfigError, match=r"two models or more, got a \(models.licences=permissive leaves out b, c\); name each"
    ):
        pool.for_paths()
    with pytest.raises(ConfigError, match=r"there is no source 'b' \(models.licences=permissive leaves it out\); there are a"):
        Pool(**licensed, licences="permissive", data_flow=["a", "b"]).for_paths()


def test_without_the_filter_all_are_kept(licensed: dict[str, Any], caplog: pytest.LogCaptureFixture) -> None:
    pool = Pool(**licensed)
    assert ([model.name for model in pool.sources], pool.left_out, caplog.messages) == (["a", "b", "c"], {}, [])


def test_a_licence_that_the_pool_states_counts_where_the_card_states_none(licensed: dict[str, Any]) -> None:
    *others, c = licensed["sources"]
    entries = [*others[:1], {"name": "b", "model": others[1], "licence": "mit"}, {"name": "c", "model": c, "licence": "mit"}]
    pool = Pool(base=licensed["base"], sources=entries, licences="permissive")
    assert [model.name for model in pool.sources] == ["a", "c"]  # b's card does say
    assert [each.name for each in pool.sources[1].licences] == ["mit"]


def test_sources_that_are_not_used_are_not_judged(licensed: dict[str, Any], caplog: pytest.LogCaptureFixture) -> None:
    assert Pool(**licensed, licences="permissive", use=["a"]).left_out == {}
    assert caplog.messages == []


def test_a_recipe_is_permissive_where_all_models_in_it_are(licensed: dict[str, Any], make_recipe: MakeRecipe) -> None:
    a, b, _ = map(Path, licensed["sources"])
    rule = ParameterRule(("*",), {"weight": (0.5, 0.5)})
    good, bad = (make_recipe("linear", None, {"a": a, "x": x}, rule) for x in (Path(licensed["base"]), b))
    sources = [{"name": "good", "recipe": to_record(good)}, {"name": "bad", "recipe": to_record(bad)}]
    pool = Pool(base=licensed["base"], sources=sources, licences="permissive")
    assert [model.name for model in pool.sources] == ["good"]
    assert pool.left_out == {"bad": "states cc-by-nc-4.0 (non-commercial)"}


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"licences": "open"}, "models.licences must be permissive, or null for all, got 'open'"),
        (
            {"licences": "permissive", "use": ["b", "c"]},
            "models.licences=permissive leaves no source: 'b' states cc-by-nc-4.0 (non-commercial); 'c' states no licence, so "
            "that it is unknown; name others, or models.licences=null",
        ),
        (
            {"licences": "permissive", "base": "{b}"},
            "models.licences=permissive: the base '{b}' states cc-by-nc-4.0 (non-commercial), and every merge is made of it; "
            "name another base, or models.base=null for a merge without one",
        ),
        ({"sources": [{"model": "{b}", "licence": 3}]}, "models: the licence of a model is a name such as apache-2.0, got 3"),
        ({"base": {"model": "{b}", "licence": " "}}, "models: the licence of a model is a name such as apache-2.0, got ' '"),
    ],
)
def test_licences_that_do_not_fit_are_one_sentence(licensed: dict[str, Any], changes: dict[str, Any], said: str) -> None:
    b = licensed["sources"][1]
    changes = {key: value.replace("{b}", b) if isinstance(value, str) else value for key, value in changes.items()}
    with pytest.raises(ConfigError) as caught:
        Pool(**licensed | changes)
    assert str(caught.value) == said.replace("{b}", b)


def test_the_models_in_a_recipe_are_found_through_recipes_inside_it(family: Path, make_recipe: MakeRecipe) -> None:
    pool = Pool(base=str(family / "base"), sources=[str(family / name) for name in "abc"])
    mixed = make_recipe("linear", None, {"a": family / "a", "b": family / "b"}, ParameterRule(("*",), {"weight": (0.5, 0.5)}))
    assert [model.name for model in pool.models_in(mixed)] == ["a", "b"]
    models = (Source("mix", ModelReference(recipe=mixed)), Source("c", ModelReference(str(family / "c"))))
    path = DataFlowRecipe(models, (Step("mix", 0), Step("c", 1)), "residual", "float32")
    assert [model.name for model in pool.models_in(path)] == ["a", "b", "c"]
    based = make_recipe("task_arithmetic", family / "base", {"a": family / "a"}, ParameterRule(("*",), {"weight": (0.5,)}))
    assert [model.name for model in pool.models_in(based)] == ["base", "a"]


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


def test_what_a_folder_said_before_is_not_what_it_says(
    tmp_path: Path, save_pico: SavePico, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, depth in (("one", 2), ("other", 3)):
        save_pico(tmp_path / name / "model", 1, num_hidden_layers=depth)
    found = []
    for name in ("one", "other"):
        monkeypatch.chdir(tmp_path / name)
        found.append(Pool(base=None, sources=["./model"]).leader.config.num_hidden_layers)
    shutil.rmtree("model")
    save_pico(Path("model"), 1, num_hidden_layers=4)
    assert [*found, Pool(base=None, sources=["./model"]).leader.config.num_hidden_layers] == [2, 3, 4]


def test_the_first_chat_template_is_taken(tmp_path: Path) -> None:
    family = Path(tiny.__file__).parent / "tiny_ja_math"
    chat = tmp_path / "chat"
    shutil.copytree(family / "ja", chat)
    settings = json.loads((chat / "tokenizer_config.json").read_text())
    (chat / "tokenizer_config.json").write_text(json.dumps(settings | {"chat_template": "{{ messages }}"}))

    assert Pool(base=str(family / "base"), sources=[str(chat)]).tokenizer.chat_template == "{{ messages }}"
    assert Pool(base=str(family / "base"), sources=[str(family / "ja")]).tokenizer.chat_template is None


def test_two_names_of_one_model_are_both_kept_beside_a_tokenizer(family: Path) -> None:
    sources = [{"name": name, "model": str(family / "a")} for name in "xy"]
    pool = Pool(base=str(family / "base"), sources=sources, tokenizer="y")
    assert [source.name for source in pool.sources] == ["x", "y"]
    assert pool.sources[0].shapes == pool.sources[1].shapes
