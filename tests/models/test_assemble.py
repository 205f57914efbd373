"""Candidates in memory: the model answers as its recipe says, in place, one after another."""

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

from evo_merge.baselines import single_model
from evo_merge.errors import IncompatibleModelsError, RecipeError, UnusableCandidateError
from evo_merge.models.assemble import Assembler
from evo_merge.models.pool import Pool
from evo_merge.recipe import DataFlowRecipe, ModelReference, ParameterRule, ParameterSpaceRecipe, Source, Step

CPU = torch.device("cpu")
TOKENS = torch.tensor([[3, 9, 27, 4, 11, 2]])
SavePico = Callable[..., Path]
MakeRecipe = Callable[..., ParameterSpaceRecipe]


def logits(model: Any) -> torch.Tensor:
    with torch.no_grad():
        answer: torch.Tensor = model(TOKENS).logits
    return answer


@pytest.fixture
def assembler(family: Path) -> Assembler:
    return Assembler(Pool(base=str(family / "base"), sources=[str(family / name) for name in "abc"]), CPU)


def source(family: Path, name: str, out_dtype: str = "float32") -> ParameterSpaceRecipe:
    return single_model(ModelReference(str(family / name)), out_dtype, name)


def test_the_recipe_of_a_source_answers_as_the_source(assembler: Assembler, family: Path) -> None:
    for name in "ab":
        model = assembler.assemble(source(family, name))
        assert torch.equal(logits(model), logits(AutoModelForCausalLM.from_pretrained(family / name)))


def test_a_merge_answers_as_weights_mixed_by_hand(assembler: Assembler, family: Path, make_recipe: MakeRecipe) -> None:
    rule = ParameterRule(("*",), {"weight": (0.5, 0.25)})
    model = assembler.assemble(make_recipe("task_arithmetic", family / "base", {"a": family / "a", "b": family / "b"}, rule))
    base, a, b = (load_file(family / name / "model.safetensors") for name in ("base", "a", "b"))
    by_hand = AutoModelForCausalLM.from_pretrained(family / "base")
    by_hand.load_state_dict({n: t + 0.5 * (a[n] - t) + 0.25 * (b[n] - t) for n, t in base.items()})
    torch.testing.assert_close(logits(model), logits(by_hand), rtol=0, atol=1e-4)
    assert not torch.allclose(logits(model), logits(AutoModelForCausalLM.from_pretrained(family / "base")))


def test_candidates_replace_each_other_in_place(assembler: Assembler, family: Path, dare: ParameterSpaceRecipe) -> None:
    model = assembler.assemble(dare)
    places = {name: parameter.data_ptr() for name, parameter in model.named_parameters()}
    first = logits(model)
    assert assembler.assemble(source(family, "a")) is model
    assert not torch.equal(logits(model), first)
    assert assembler.assemble(dare) is model
    assert torch.equal(logits(model), first)
    assert {name: parameter.data_ptr() for name, parameter in model.named_parameters()} == places


def test_merging_does_not_change_the_sources(assembler: Assembler, family: Path, dare: ParameterSpaceRecipe) -> None:
    files = [family / name / "model.safetensors" for name in ("base", *"abc")]
    before = [path.read_bytes() for path in files]
    for recipe in (source(family, "a"), dare, source(family, "b")):
        assembler.assemble(recipe)
    assert [path.read_bytes() for path in files] == before
    model = assembler.assemble(source(family, "a"))
    assert torch.equal(logits(model), logits(AutoModelForCausalLM.from_pretrained(family / "a")))


def test_the_model_is_ready_to_answer(assembler: Assembler, family: Path) -> None:
    model = assembler.assemble(source(family, "a"))
    assert not model.training
    assert not any(parameter.requires_grad for parameter in model.parameters())
    expected = AutoModelForCausalLM.from_pretrained(family / "a").generate(TOKENS, max_new_tokens=5, do_sample=False)
    assert torch.equal(model.generate(TOKENS, max_new_tokens=5, do_sample=False), expected)
    assert model.generation_config.eos_token_id == 1


def test_an_unusable_candidate_leaves_no_trace_in_the_next(assembler: Assembler, family: Path, make_recipe: MakeRecipe) -> None:
    rule = ParameterRule(("*",), {"weight": (1e39, 1e39)})
    with pytest.raises(UnusableCandidateError, match=r"weights are not finite: '.*'"):
        assembler.assemble(make_recipe("task_arithmetic", family / "base", {n: family / n for n in "ab"}, rule))
    model = assembler.assemble(source(family, "a"))
    assert torch.equal(logits(model), logits(AutoModelForCausalLM.from_pretrained(family / "a")))


def test_a_recipe_that_does_not_fit_is_refused_before_anything_changes(
    assembler: Assembler, family: Path, make_recipe: MakeRecipe
) -> None:
    model = assembler.assemble(source(family, "a"))
    before = logits(model)
    with pytest.raises(RecipeError, match="lacks 'weight'"):
        assembler.assemble(make_recipe("linear", None, {"b": family / "b"}, ParameterRule(("*",), {})))
    assert torch.equal(logits(model), before)


def test_tied_embeddings_stay_tied(tmp_path: Path, save_pico: SavePico, make_recipe: MakeRecipe) -> None:
    a, b = (save_pico(tmp_path / name, seed, tie_word_embeddings=True) for seed, name in enumerate("ab"))
    assembler = Assembler(Pool(base=None, sources=[str(a), str(b)]), CPU)
    model = assembler.assemble(make_recipe("linear", None, {"a": a, "b": b}, ParameterRule(("*",), {"weight": (1.0, 3.0)})))
    assert model.lm_head.weight.data_ptr() == model.model.embed_tokens.weight.data_ptr()
    name = "model.embed_tokens.weight"
    expected = 0.25 * load_file(a / "model.safetensors")[name] + 0.75 * load_file(b / "model.safetensors")[name]
    torch.testing.assert_close(model.lm_head.weight, expected)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_candidates_have_the_dtype_of_the_pool(family: Path, dtype: str) -> None:
    pool = Pool(base=str(family / "base"), sources=[str(family / "a")], out_dtype=dtype)
    model = Assembler(pool, CPU).assemble(source(family, "a", dtype))
    assert {parameter.dtype for parameter in model.parameters()} == {getattr(torch, dtype)}
    expected = AutoModelForCausalLM.from_pretrained(family / "a", dtype=getattr(torch, dtype))
    assert torch.equal(logits(model), logits(expected))


def test_a_model_that_lacks_a_tensor_of_its_architecture_is_named(tmp_path: Path, save_pico: SavePico) -> None:
    folder = save_pico(tmp_path / "torn", 1)
    weights = load_file(folder / "model.safetensors")
    del weights["model.norm.weight"]
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(
        IncompatibleModelsError, match=r"'torn' .*has no tensor 'model.norm.weight', which its architecture needs"
    ):
        Assembler(Pool(base=None, sources=[str(folder)]), CPU).assemble(single_model(ModelReference(str(folder)), "float32"))


def test_numbers_at_the_ends_of_the_box_build_a_model(assembler: Assembler, family: Path, make_recipe: MakeRecipe) -> None:
    for weight in ((0.0, 0.0), (1.0, 1.0)):
        for density in ((0.0, 0.0), (1.0, 1.0), (1e-12, 1.0)):
            for method in ("ties", "dare_ties", "dare_linear"):
                rule = ParameterRule(("*",), {"weight": weight, "density": density})
                model = assembler.assemble(make_recipe(method, family / "base", {n: family / n for n in "ab"}, rule))
                assert math.isfinite(float(logits(model).sum()))


def test_models_that_cannot_be_mixed_are_refused(tmp_path: Path, family: Path, save_pico: SavePico) -> None:
    deep = save_pico(tmp_path / "deep", 1, num_hidden_layers=3)
    pool = Pool(base=str(family / "base"), sources=[str(family / "a"), str(deep)])  # a run through their layers may want it
    with pytest.raises(IncompatibleModelsError, match=r"'deep' .* differ in num_hidden_layers: 3 and 2"):
        Assembler(pool, CPU).assemble(source(family, "a"))


def test_mixtures_and_paths_may_follow_each_other(assembler: Assembler, family: Path, dare: ParameterSpaceRecipe) -> None:
    first = logits(assembler.assemble(dare))
    path = tuple(Step(name, layer) for name, layer in (("a", 0), ("b", 0), ("b", 1), ("a", 1)))
    sources = tuple(Source(name, ModelReference(str(family / name))) for name in "ab")
    through = assembler.assemble(DataFlowRecipe(sources, path, "residual", "float32"))
    assert through.config.num_hidden_layers == 4
    assert through.generation_config.eos_token_id == 1
    with pytest.raises(UnusableCandidateError):
        assembler.assemble(replace(dare, parameters=(ParameterRule(("*",), {"weight": (1e39,) * 3, "density": (1.0,) * 3}),)))
    assert torch.equal(logits(assembler.assemble(dare)), first)
    with pytest.raises(RuntimeError, match="no layers are resident"):
        assembler.shared  # noqa: B018
