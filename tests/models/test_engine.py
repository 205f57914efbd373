"""One pass that is compiled, chunks, memory and disk: the same bytes; and only what changed is made again."""

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from evo_merge.errors import RecipeError, UnusableCandidateError
from evo_merge.methods import parts
from evo_merge.methods.base import method_from_recipe
from evo_merge.methods.entrywise import Form, Thinned, numbers_of
from evo_merge.models import engine
from evo_merge.models.assemble import MixedModel
from evo_merge.models.checkpoint import write_checkpoint
from evo_merge.models.merging import MergedTensors
from evo_merge.models.pool import Pool
from evo_merge.recipe import ParameterRule, ParameterSpaceRecipe

CPU = torch.device("cpu")
MakeRecipe = Callable[..., ParameterSpaceRecipe]
# The rest of those with a form differ from these in one word.
QUICK = ["linear", "ties", "dare_ties", "breadcrumbs_ties"]
FORMS = [*QUICK, *(pytest.param(name, marks=pytest.mark.slow) for name in ("task_arithmetic", "dare_linear", "breadcrumbs"))]
VALUES: dict[str, tuple[float, ...] | float] = {
    "weight": (0.5, 0.7, -0.4),
    "density": (0.6, 0.05, 1.0),
    "gamma": (0.1, 0.01, 0.0),
    "lambda": 0.9,
}


def rule(method: str, globs: tuple[str, ...] = ("*",), **changes: Any) -> ParameterRule:
    names = [parameter.name for parameter in method_from_recipe(method, {}).parameters]
    return ParameterRule(globs, {name: changes.get(name, VALUES[name]) for name in names})


@pytest.fixture
def make(family: Path, make_recipe: MakeRecipe) -> Callable[..., ParameterSpaceRecipe]:
    def recipe(method: str, *rules: ParameterRule, **changes: Any) -> ParameterSpaceRecipe:
        folders = {name: family / name for name in "abc"}
        made = make_recipe(method, family / "base", folders, *(rules or (rule(method),)))
        return replace(made, base=made.base if method_from_recipe(method, {}).needs_base else None, **changes)

    return recipe


def assembled(recipe: ParameterSpaceRecipe, compile: str, residency: str = "host") -> dict[str, Tensor]:
    pool = Pool.of_recipe(recipe)
    pool.compile, pool.residency = compile, residency
    model = MixedModel(pool, CPU, ())
    model.assemble(recipe)
    return dict(model.tensors())


def same_bytes(left: dict[str, Tensor], right: dict[str, Tensor]) -> bool:
    return left.keys() == right.keys() and all(
        torch.equal(tensor.contiguous().view(torch.uint8), right[name].contiguous().view(torch.uint8))
        for name, tensor in left.items()
    )


@pytest.mark.parametrize("method", FORMS)
def test_compiled_in_chunks_and_written_to_disk_it_is_the_same_bytes(
    make: Callable[..., ParameterSpaceRecipe], method: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = make(method, out_dtype="bfloat16")
    write_checkpoint(recipe, Pool.of_recipe(recipe), tmp_path / "model")
    expected = load_file(tmp_path / "model" / "model.safetensors")
    for residency in ("host", "disk"):
        assert same_bytes(assembled(recipe, "always", residency), expected)
        for chunk in (7, 1 << 16):
            monkeypatch.setattr(parts, "_PART", chunk)
            assert same_bytes(assembled(recipe, "never", residency), expected)


@pytest.mark.parametrize("method", ["ties", "breadcrumbs_ties"])
def test_trimmed_over_the_whole_model_it_is_the_same_bytes(
    make: Callable[..., ParameterSpaceRecipe], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    deep = rule(method, ("model.layers.1.*",), density=(0.1, 0.9, 0.0))
    recipe = make(method, deep, rule(method), options={"trim": "model"}, out_dtype="bfloat16")
    write_checkpoint(recipe, Pool.of_recipe(recipe), tmp_path / "model")
    expected = load_file(tmp_path / "model" / "model.safetensors")
    monkeypatch.setattr(parts, "_PART", 7)
    for residency in ("host", "disk"):
        assert same_bytes(assembled(recipe, "always", residency), expected)
        assert same_bytes(assembled(recipe, "never", residency), expected)
    assert not same_bytes(assembled(replace(recipe, options={}), "never"), expected)


@pytest.mark.parametrize("compile", ["never", "always"])
def test_the_number_of_threads_changes_no_byte(make: Callable[..., ParameterSpaceRecipe], compile: str) -> None:
    recipe = make("dare_ties")
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        one = assembled(recipe, compile)
        torch.set_num_threads(2)
        assert same_bytes(assembled(recipe, compile), one)
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize("options", [{"rescale": "norm"}, {"rescale": "none", "normalize": True}])
def test_options_are_compiled_as_they_are_merged_in_chunks(
    make: Callable[..., ParameterSpaceRecipe], options: dict[str, Any]
) -> None:
    recipe = make("dare_ties", options=options)
    assert same_bytes(assembled(recipe, "always"), assembled(recipe, "never"))


def test_arithmetic_in_bfloat16_is_left_to_the_chunks(make: Callable[..., ParameterSpaceRecipe]) -> None:
    recipe = make("dare_ties", dtype="bfloat16")  # a compiler would keep more bits between the steps
    assert same_bytes(assembled(recipe, "always"), assembled(recipe, "never"))


def test_auto_compiles_once_enough_was_merged_and_changes_no_byte(
    make: Callable[..., ParameterSpaceRecipe], monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = make("linear")
    passes: list[Form] = []
    compiled = engine.EntryEngine._pass

    def noted(self: engine.EntryEngine, form: Form) -> Callable[..., Tensor]:
        passes.append(form)
        return compiled(self, form)

    monkeypatch.setattr(engine.EntryEngine, "_pass", noted)
    expected = assembled(recipe, "auto")
    assert not passes
    monkeypatch.setattr(engine, "_PAYS", 1000)
    assert same_bytes(assembled(recipe, "auto"), expected)
    assert passes


def test_vectors_and_matrices_are_compiled_once(make: Callable[..., ParameterSpaceRecipe]) -> None:
    from torch._dynamo.utils import counters

    torch._dynamo.reset()
    counters.clear()
    recipe = make("task_arithmetic")
    assert {tensor.dim() for tensor in assembled(recipe, "always").values()} >= {1, 2}
    assert counters["stats"]["unique_graphs"] == 1


def test_a_form_that_is_compiled_is_told_once(
    make: Callable[..., ParameterSpaceRecipe], caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level("INFO", logger=engine.log.name):
        assembled(make("task_arithmetic"), "always")
    (line,) = [record.getMessage() for record in caplog.records if record.name == engine.log.name]
    assert re.fullmatch(r"compiled the merge of an entry in \d+\.\d s \(thinning: none, vote: False\)", line)
    caplog.clear()
    with caplog.at_level("INFO", logger=engine.log.name):
        assembled(make("task_arithmetic"), "never")
    assert not caplog.records


def test_a_compiler_that_fails_is_done_without(
    make: Callable[..., ParameterSpaceRecipe], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    from torch._inductor import config

    recipe = make("task_arithmetic", options={"normalize": True})
    expected = assembled(recipe, "never")
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path))  # nothing that was compiled before
    torch._dynamo.reset()
    with config.patch({"cpp.cxx": (str(tmp_path / "no-such-compiler"),), "fx_graph_cache": False}):
        assert same_bytes(assembled(recipe, "always"), expected)
    assert "goes on without a compiler" in caplog.text


@pytest.mark.parametrize("form", [Form(vote=True, mean=True), Form(thinning="chance", vote=True)], ids=["mean", "chance"])
def test_compiled_and_in_parts_zeros_have_the_same_sign(form: Form, caplog: pytest.LogCaptureFixture) -> None:
    signs = torch.tensor([-0.0, 0.0]).repeat(32)
    numbers = numbers_of(torch.tensor([-1.0, -0.5]), [Thinned(share=0.5)] * 2)  # which makes -0 of what did not move
    keys = torch.tensor([[1, 2], [3, 4]], dtype=torch.int32)
    compiled, in_parts = torch.empty(64), torch.empty(64)
    engine.EntryEngine(CPU, "always").merge(form, signs, [signs, signs], numbers, keys, torch.float32, compiled)
    assert "without a compiler" not in caplog.text
    engine.EntryEngine(CPU, "never").merge(form, signs, [signs, signs], numbers, keys, torch.float32, in_parts)
    assert torch.equal(compiled.view(torch.int32), in_parts.view(torch.int32))


def test_what_a_compiler_takes_no_more_of_is_merged_in_parts(
    make: Callable[..., ParameterSpaceRecipe], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    from torch._dynamo import config

    monkeypatch.setattr(engine, "_PASSES", 1)
    torch._dynamo.reset()
    with config.patch(recompile_limit=1):
        one, other = make("task_arithmetic"), make("task_arithmetic", options={"normalize": True}, out_dtype="bfloat16")
        for recipe in (one, other):
            assert same_bytes(assembled(recipe, "always"), assembled(recipe, "never"))
    assert "goes on without a compiler" in caplog.text


def test_where_compiling_is_turned_off_tensors_are_merged_in_parts(
    make: Callable[..., ParameterSpaceRecipe], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    recipe = make("ties")
    expected = assembled(recipe, "never")
    monkeypatch.setenv("TORCHDYNAMO_DISABLE", "1")
    assert same_bytes(assembled(recipe, "always"), expected)
    assert "goes on without a compiler" in caplog.text


# --- only what changed -----------------------------------------------------------------------------------------------


@pytest.fixture
def written(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the tensors that are made."""
    names: list[str] = []
    write = MergedTensors.write

    def noted(self: MergedTensors, name: str, target: Tensor) -> Tensor | None:
        names.append(name)
        return write(self, name, target)

    monkeypatch.setattr(MergedTensors, "write", noted)
    return names


def test_only_tensors_whose_numbers_changed_are_made_again(
    make: Callable[..., ParameterSpaceRecipe], written: list[str]
) -> None:
    first = make("dare_ties")
    other = rule("dare_ties", ("model.layers.1.*",), weight=(0.1, 0.2, 0.3))
    second = make("dare_ties", other, rule("dare_ties"))
    model = MixedModel(Pool.of_recipe(first), CPU, ())
    model.assemble(first)
    everything = sorted(written)
    assert everything == sorted(name for name, _ in model.tensors())
    written.clear()
    model.assemble(second)
    assert sorted(written) == [name for name in everything if name.startswith("model.layers.1.")]
    assert same_bytes(dict(model.tensors()), assembled(second, "never"))
    written.clear()
    model.assemble(second)
    assert written == []
    model.assemble(replace(second, seed=second.seed + 1))  # other chance in every tensor
    assert sorted(written) == everything


def test_what_an_error_left_half_way_is_made_again(make: Callable[..., ParameterSpaceRecipe]) -> None:
    overflowing = rule("linear", ("model.*",), weight=(1e38, 1e38, 1e38))
    broken = make("linear", overflowing, options={"normalize": False})  # nothing is said of the head, which comes last
    whole = make("linear", overflowing, rule("linear"), options={"normalize": False})
    model = MixedModel(Pool.of_recipe(whole), CPU, ())
    with pytest.raises(RecipeError, match=r"lm_head\.weight"):
        model.assemble(broken)
    with pytest.raises(UnusableCandidateError, match="not finite"):
        model.assemble(whole)


def test_another_density_of_a_layer_leaves_the_other_tensors_of_a_model_trimmed_as_a_whole(
    make: Callable[..., ParameterSpaceRecipe], written: list[str]
) -> None:
    first = make("ties", options={"trim": "model"})
    other = rule("ties", ("model.layers.1.*",), density=(0.3, 0.9, 0.2))
    second = make("ties", other, rule("ties"), options={"trim": "model"})
    model = MixedModel(Pool.of_recipe(first), CPU, ())
    model.assemble(first)
    everything = sorted(written)
    written.clear()
    model.assemble(second)
    assert sorted(written) == [name for name in everything if name.startswith("model.layers.1.")]
    assert same_bytes(dict(model.tensors()), assembled(second, "never"))


def test_what_was_not_finite_is_made_again(make: Callable[..., ParameterSpaceRecipe]) -> None:
    good = make("linear", options={"normalize": False})
    bad = make("linear", rule("linear", weight=(1e38, 1e38, 1e38)), options={"normalize": False})
    model = MixedModel(Pool.of_recipe(good), CPU, ())
    model.assemble(good)
    for _ in range(2):  # it is refused each time, not taken for done
        with pytest.raises(UnusableCandidateError, match="not finite"):
            model.assemble(replace(bad, out_dtype="float32"))
    model.assemble(good)
    assert same_bytes(dict(model.tensors()), assembled(good, "never"))
