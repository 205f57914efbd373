"""From recipes to tensors: the same as mergekit's, the rules that pick the numbers, and what is refused."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from safetensors.torch import load_file

from evo_merge.errors import ModelError, RecipeError, UnusableCandidateError
from evo_merge.models.merging import TensorMerger, check_mixture, dropped_sources, refuse_idle_rules
from evo_merge.models.pool import Pool
from evo_merge.recipe import ModelReference, ParameterRule, ParameterSpaceRecipe, Source

CPU = torch.device("cpu")
Values = Mapping[str, tuple[float, ...] | float]
MakeRecipe = Callable[..., ParameterSpaceRecipe]
SavePico = Callable[..., Path]


def everywhere(**values: tuple[float, ...] | float) -> ParameterRule:
    return ParameterRule(("*",), values)


def merge(recipe: ParameterSpaceRecipe, pool: Pool | None = None) -> dict[str, torch.Tensor]:
    pool = pool or Pool.of_recipe(recipe)
    merged = TensorMerger(pool, CPU).of(recipe)
    return {name: merged[name] for name in pool.leader.weights.shapes}


# --- mergekit --------------------------------------------------------------------------------------------------------

# What each of mergekit's cases means here: our method, its options, and which of the yaml's parameters go into the recipe.
# ``density`` 1 makes DARE free of chance; int8_mask changes memory only.
PARITY: dict[str, tuple[str, dict[str, Any], tuple[str, ...]]] = {
    "linear": ("linear", {"normalize": True}, ("weight",)),
    "linear_nonorm": ("linear", {"normalize": False}, ("weight",)),
    "slerp": ("slerp", {}, ("t",)),
    "task_arithmetic": ("task_arithmetic", {"normalize": False}, ("weight",)),
    "task_arithmetic_normalize": ("task_arithmetic", {"normalize": True}, ("weight",)),
    "ties": ("ties", {"normalize": True}, ("weight", "density")),
    "ties_fp32_to_bf16": ("ties", {"normalize": True}, ("weight", "density")),
    "ties_int8": ("ties", {"normalize": True}, ("weight", "density")),
    "ties_negw": ("ties", {"normalize": True}, ("weight", "density")),
    "dare_linear_d1": ("dare_linear", {"normalize": False}, ("weight", "density")),
    "dare_ties_d1": ("dare_ties", {"normalize": False}, ("weight", "density")),
}
# Left out, because no recipe of the six methods says them yet (issue 6): values by filter or gradient
# (linear_filters_gradient, linear_gradient_all, slerp_gradient), lambda (task_arithmetic_lambda_neg, ties_nonorm_lambda),
# rescaling to the norm (ties_rescale), tied mixed with untied (linear_untied_mix), and the other methods. della*_d1 is another
# method too, even where its result is that of TIES. ties_bf16: in bfloat16 many magnitudes equal the trim's threshold; mergekit
# keeps those that its sort happens to put first, we keep all.


def mapped(folder: Path, case: str) -> ParameterSpaceRecipe:
    """Our recipe of one of mergekit's configs."""
    config = yaml.safe_load((folder / "cases" / case / "config.yml").read_text())
    method, options, keys = PARITY[case]
    shared = config.get("parameters", {})
    assert config["merge_method"] == method
    values: dict[str, tuple[float, ...] | float] = {
        key: shared[key] if key in shared else tuple(model["parameters"][key] for model in config["models"]) for key in keys
    }
    return ParameterSpaceRecipe(
        base=ModelReference(str(folder / config["base_model"])) if "base_model" in config and method != "slerp" else None,
        sources=tuple(Source(Path(m["model"]).name, ModelReference(str(folder / m["model"]))) for m in config["models"]),
        method=method,
        options=options,
        parameters=(ParameterRule(("*",), values),),
        seed=0,
        dtype=config["dtype"],
        out_dtype=config.get("out_dtype", config["dtype"]),
    )


def assert_near(merged: Mapping[str, torch.Tensor], expected: Mapping[str, torch.Tensor], tolerance: float) -> None:
    """Each tensor within a share of its largest absolute value."""
    assert merged.keys() == expected.keys()
    for name, tensor in expected.items():
        assert merged[name].dtype == tensor.dtype
        difference = float((merged[name].double() - tensor.double()).abs().max())
        assert difference <= tolerance * float(tensor.double().abs().max()), f"{name}: {difference}"


@pytest.mark.parametrize("case", [case for case in PARITY if case != "ties_fp32_to_bf16"])
def test_a_merge_equals_that_of_mergekit(shared: Path, case: str) -> None:
    folder = shared / "parity" / "mergekit"
    assert_near(merge(mapped(folder, case)), load_file(folder / "cases" / case / "model" / "model.safetensors"), 1e-6)


def test_a_merge_written_in_bfloat16_equals_that_of_mergekit(shared: Path) -> None:
    folder = shared / "parity" / "mergekit"
    expected = load_file(folder / "cases" / "ties_fp32_to_bf16" / "model" / "model.safetensors")
    merged = merge(mapped(folder, "ties_fp32_to_bf16"))
    # Sums in another order may round to the neighbour: 2**-8 of an entry, in one entry of a thousand at most.
    assert_near(merged, expected, 2**-8)
    unequal = sum(int((merged[name] != tensor).sum()) for name, tensor in expected.items())
    assert unequal <= sum(tensor.numel() for tensor in expected.values()) / 1000


def test_rules_by_layer_and_module_equal_mergekits_slices_and_filters(shared: Path) -> None:
    """``ties_layer_granular``, written as our list of rules: two slices of two layers, with filters on the weight."""
    folder = shared / "parity" / "mergekit"
    halves = {"[01]": ((0.9, 0.2), (0.6, 0.4)), "[23]": ((0.1, 0.7), (0.3, 0.8))}
    rules = [
        ParameterRule((f"model.layers.{layers}.{part}*",), {"weight": tuple(w / share for w in weight), "density": density})
        for layers, (weight, density) in halves.items()
        for part, share in (("self_attn", 1), ("mlp", 2), ("", 4))
    ]
    # Embeddings go with the first slice, the last norm with the last.
    rules.append(ParameterRule(("model.embed_tokens.*",), {"weight": (0.9 / 4, 0.2 / 4), "density": (0.6, 0.4)}))
    rules.append(everywhere(weight=(0.1 / 4, 0.7 / 4), density=(0.3, 0.8)))
    recipe = ParameterSpaceRecipe(
        base=ModelReference(str(folder / "family" / "base")),
        sources=tuple(Source(name, ModelReference(str(folder / "family" / name))) for name in ("ft1", "ft2")),
        method="ties",
        options={"normalize": True},
        parameters=tuple(rules),
        seed=0,
        dtype="float32",
        out_dtype="float32",
    )
    expected = load_file(folder / "cases" / "ties_layer_granular" / "model" / "model.safetensors")
    assert_near(merge(recipe), expected, 1e-6)


# --- which numbers a tensor gets -------------------------------------------------------------------------------------


def test_the_first_rule_that_matches_a_name_gives_its_numbers(family: Path, make_recipe: MakeRecipe) -> None:
    recipe = make_recipe(
        "linear",
        None,
        {"a": family / "a", "b": family / "b"},
        ParameterRule(("model.layers.0.*", "*.norm.weight"), {"weight": (1.0, 0.0)}),
        ParameterRule(("*self_attn*",), {"weight": (0.0, 1.0)}),
        ParameterRule(("model.layers.*",), {"weight": (1.0, 1.0)}),
        ParameterRule(("*",), {"weight": (1.0, 3.0)}),
    )
    merged = merge(recipe)
    a, b = (load_file(family / name / "model.safetensors") for name in "ab")
    for name, share in {
        "model.layers.0.self_attn.q_proj.weight": 0.0,
        "model.norm.weight": 0.0,
        "model.layers.1.self_attn.q_proj.weight": 1.0,
        "model.layers.1.mlp.up_proj.weight": 0.5,
        "lm_head.weight": 0.75,
    }.items():
        torch.testing.assert_close(merged[name], (1 - share) * a[name] + share * b[name])


def test_globs_tell_upper_and_lower_case_apart(family: Path, make_recipe: MakeRecipe) -> None:
    recipe = make_recipe(
        "linear",
        None,
        {"a": family / "a", "b": family / "b"},
        ParameterRule(("MODEL.*",), {"weight": (0.0, 1.0)}),
        ParameterRule(("*",), {"weight": (1.0, 0.0)}),
    )
    name = "model.norm.weight"
    assert torch.equal(merge(recipe)[name], load_file(family / "a" / "model.safetensors")[name])


def test_a_tensor_that_no_rule_matches_is_named(family: Path, make_recipe: MakeRecipe) -> None:
    recipe = make_recipe("linear", None, {"a": family / "a"}, ParameterRule(("model.*",), {"weight": (1.0,)}))
    with pytest.raises(
        RecipeError, match=r"no entry under 'parameters' matches the tensor 'lm_head.weight'; end the list with"
    ):
        merge(recipe)


# --- chance, order, residency ----------------------------------------------------------------------------------------


def test_the_name_of_a_source_decides_its_chance_and_its_place_does_not(
    family: Path, make_recipe: MakeRecipe, dare: ParameterSpaceRecipe
) -> None:
    turned = make_recipe(
        "dare_ties",
        family / "base",
        {name: family / name for name in "cab"},
        everywhere(weight=(0.4, 0.5, 0.7), density=(0.9, 0.6, 0.5)),
    )
    first, second = merge(dare), merge(turned)
    for name in first:
        torch.testing.assert_close(first[name], second[name], rtol=0, atol=1e-6)  # sums in another order


def both(family: Path, dtype: str) -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]:
    """The tensors of the family's base, and of one of its sources."""
    arithmetic = getattr(torch, dtype)
    base, source = (
        {name: tensor.to(arithmetic) for name, tensor in load_file(family / folder / "model.safetensors").items()}
        for folder in ("base", "a")
    )
    return base, source


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_trim_over_the_model_keeps_the_largest_of_all_tensors_put_together(
    family: Path, make_recipe: MakeRecipe, dtype: str
) -> None:
    base, source = both(family, dtype)
    magnitudes = torch.cat([(source[name] - base[name]).float().abs().flatten() for name in base])
    densities = {"model.layers.0.*": 0.05, "*mlp*": 0.6, "*": 0.3}
    rules = [ParameterRule((glob,), {"weight": (1.0,), "density": (share,)}) for glob, share in densities.items()]
    recipe = make_recipe("ties", family / "base", {"a": family / "a"}, *rules, options={"trim": "model"}, dtype=dtype)
    merged, kept = merge(recipe), {}
    for name in base:
        share = next(share for glob, share in densities.items() if fnmatchcase(name, glob))
        threshold = magnitudes.kthvalue(len(magnitudes) - int(share * len(magnitudes)) + 1).values
        vector = source[name] - base[name]
        kept[name] = vector.float().abs() >= threshold
        torch.testing.assert_close(merged[name], (base[name] + torch.where(kept[name], vector, 0.0)).float(), rtol=0, atol=0)
    assert kept["model.layers.0.mlp.up_proj.weight"].float().mean() != 0.05  # a share of the model, not of the tensor


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_crumbs_of_the_model_lie_between_ranks_of_all_tensors_put_together(
    family: Path, make_recipe: MakeRecipe, dtype: str
) -> None:
    base, source = both(family, dtype)
    magnitudes = torch.cat([(source[name] - base[name]).float().abs().flatten() for name in base]).sort(descending=True).values
    shares = {
        "model.layers.0.*": (0.05, 0.0),
        "*mlp*": (0.6, 0.25),
        "*norm*": (1.0, 0.3),
        "*head*": (0.9, 0.2),
        "*": (0.3, 0.01),
    }
    rules = [
        ParameterRule((glob,), {"weight": (1.0,), "density": (density,), "gamma": (gamma,)})
        for glob, (density, gamma) in shares.items()
    ]
    recipe = make_recipe("breadcrumbs", family / "base", {"a": family / "a"}, *rules, options={"trim": "model"}, dtype=dtype)
    merged, n_kept = merge(recipe), 0
    for name in base:
        density, gamma = next(pair for glob, pair in shares.items() if fnmatchcase(name, glob))
        gamma = min(gamma, 1.0 - density)
        n_upper, n_dropped = int(min(1.0, density + gamma) * len(magnitudes)), int(gamma * len(magnitudes))
        vector = source[name] - base[name]
        magnitude = vector.float().abs()
        kept = (magnitude >= magnitudes[n_upper - 1]) & ((magnitude < magnitudes[n_dropped - 1]) if n_dropped else True)
        torch.testing.assert_close(merged[name], (base[name] + torch.where(kept, vector, 0.0)).float(), rtol=0, atol=0)
        if (density, gamma) == (0.3, 0.01):
            n_kept += int(kept.sum())
    assert n_kept
    assert any(not torch.equal(merged[name], tensor) for name, tensor in merge(replace(recipe, options={})).items())


def test_with_norms_what_a_trim_over_the_model_keeps_sums_to_what_each_tensor_had(
    family: Path, make_recipe: MakeRecipe
) -> None:
    base, source = both(family, "float32")
    rule = everywhere(weight=(1.0,), density=(0.3,))
    options = {"trim": "model", "rescale": "norm"}
    merged = merge(make_recipe("ties", family / "base", {"a": family / "a"}, rule, options=options))
    kept = {name: merged[name] - base[name] for name in base}
    for name, vector in kept.items():
        assert float(vector.abs().sum()) == pytest.approx(float((source[name] - base[name]).abs().sum()), rel=1e-4)
    shares = {round(float((vector != 0).float().mean()), 2) for vector in kept.values()}
    assert len(shares) > 1  # the trim gives tensors different shares, the norm makes all as large as they were


@pytest.mark.parametrize("method", ["ties", "dare_ties"])
@pytest.mark.parametrize("residency", ["device", "host", "disk"])
def test_where_weights_wait_changes_no_bit(family: Path, make_recipe: MakeRecipe, method: str, residency: str) -> None:
    folders = {name: family / name for name in "abc"}
    numbers = {"weight": (0.5, 0.7, 0.4), "density": (0.6, 0.5, 0.9)}
    recipe = make_recipe(method, family / "base", folders, ParameterRule(("*",), numbers))
    pool = Pool(base=str(family / "base"), sources=[str(folder) for folder in folders.values()], residency=residency)
    merger = TensorMerger(pool, CPU)
    expected = merge(recipe)
    for _ in range(2):  # the second time from where they wait
        merged = merger.of(recipe)
        assert all(torch.equal(merged[name], tensor) for name, tensor in expected.items())


def test_one_merger_serves_recipes_of_different_methods(family: Path, make_recipe: MakeRecipe) -> None:
    folders = {name: family / name for name in "abc"}
    recipes = [
        make_recipe("ties", family / "base", folders, everywhere(weight=(1.0,) * 3, density=(d, d, d))) for d in (0.2, 0.8)
    ]
    recipes.append(make_recipe("ties", family / "base", {"b": family / "b"}, everywhere(weight=(1.0,), density=(0.5,))))
    recipes.append(make_recipe("linear", None, folders, everywhere(weight=(1.0, 2.0, 3.0))))
    third = everywhere(weight=(1.0,) * 3, density=(0.3,) * 3)
    recipes.append(make_recipe("ties", family / "base", folders, third, dtype="bfloat16"))
    pool = Pool(base=str(family / "base"), sources=[str(folder) for folder in folders.values()])
    merger = TensorMerger(pool, CPU)
    for recipe in [*recipes, *reversed(recipes)]:
        merged, expected = merger.of(recipe), merge(recipe, pool)
        assert all(torch.equal(merged[name], tensor) for name, tensor in expected.items())


@pytest.mark.parametrize("stored", [torch.bfloat16, torch.float16])
def test_sources_of_other_dtypes_are_mixed_in_the_arithmetics(
    tmp_path: Path, save_pico: SavePico, make_recipe: MakeRecipe, stored: torch.dtype
) -> None:
    a, b = save_pico(tmp_path / "a", 1, dtype=stored), save_pico(tmp_path / "b", 2)
    merged = merge(make_recipe("linear", None, {"a": a, "b": b}, everywhere(weight=(1.0, 1.0)), out_dtype="bfloat16"))
    first, second = load_file(a / "model.safetensors"), load_file(b / "model.safetensors")
    for name, tensor in merged.items():
        assert first[name].dtype == stored
        assert torch.equal(tensor, ((first[name].float() + second[name]) / 2).to(torch.bfloat16))


# --- what is refused -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"weight": (1.0, 1.0)}, r"the entry for \* lacks 'density', which 'dare_ties' needs"),
        ({"weight": (1.0,), "density": (1.0, 1.0)}, r"'weight' must be a list with one number a source \(2\), got \(1.0,\)"),
        ({"weight": 1.0, "density": (1.0, 1.0)}, r"'weight' must be a list with one number a source \(2\), got 1.0"),
        ({"weight": (1.0, 1.0), "density": (1.0, 1.5)}, r"'density' is a share from 0 to 1, got \[1.0, 1.5\]"),
        ({"weight": (1.0, 1.0), "density": (-0.1, 1.0)}, "'density' is a share from 0 to 1"),
        ({"weight": (1.0, 1.0), "density": (1.0, 1.0), "t": 0.5}, "'dare_ties' has no parameter 't'; it has weight, density"),
    ],
)
def test_numbers_that_do_not_fit_the_method_are_one_sentence(
    family: Path, make_recipe: MakeRecipe, values: Values, said: str
) -> None:
    recipe = make_recipe("dare_ties", family / "base", {n: family / n for n in "ab"}, ParameterRule(("*",), values))
    with pytest.raises(RecipeError, match=said):
        check_mixture(recipe)
    with pytest.raises(RecipeError, match=said):
        TensorMerger(Pool.of_recipe(recipe), CPU).of(recipe)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"method": "dare_tise"}, "there is no merge method 'dare_tise'"),
        ({"method": "sparsify"}, "there is no merge method 'sparsify'"),
        ({"method": "base"}, "there is no merge method 'base'"),
        ({"options": {"rescale": "l1"}}, "method 'dare_ties': rescale must be one of density, norm, none, got 'l1'"),
        ({"options": {"normalise": True}}, "method 'dare_ties' has no option 'normalise'; it has rescale, normalize"),
        ({"options": {"normalize": "no"}}, "method 'dare_ties': normalize cannot be 'no'; its default is False"),
        ({"options": {"rescale": None}}, "method 'dare_ties': rescale cannot be None; its default is 'density'"),
        ({"method": "ties", "options": {"trim": "layer"}}, "method 'ties': trim must be one of tensor, model, got 'layer'"),
        (
            {"method": "ties", "options": {"trim": "model", "equals": "first"}},
            "method 'ties': trim: model keeps all of equal entries, got equals: first; leave that out",
        ),
        ({"base": None}, "'dare_ties' needs a base to take task vectors against; name it under 'base'"),
        ({"method": "os.path", "options": {}}, r"method 'os.path' is code from outside evo-merge; allow it by name"),
    ],
)
def test_a_method_that_cannot_be_is_one_sentence(
    dare: ParameterSpaceRecipe, make_recipe: MakeRecipe, family: Path, changes: dict[str, Any], said: str
) -> None:
    recipe = make_recipe("dare_ties", family / "base", {n: family / n for n in "abc"}, *dare.parameters)
    fields = {key: getattr(recipe, key) for key in ("base", "sources", "method", "options", "parameters", "seed")}
    with pytest.raises(RecipeError, match=said):
        check_mixture(ParameterSpaceRecipe(**fields | changes, dtype="float32", out_dtype="float32"))


def test_slerp_of_three_sources_is_refused(family: Path, make_recipe: MakeRecipe) -> None:
    with pytest.raises(RecipeError, match="'slerp' merges exactly 2 sources, got 3"):
        check_mixture(make_recipe("slerp", None, {n: family / n for n in "abc"}, everywhere(t=0.5)))
    with pytest.raises(RecipeError, match=r"'t' must be one number, got \[0.5, 0.5\]"):
        check_mixture(make_recipe("slerp", None, {n: family / n for n in "ab"}, everywhere(t=(0.5, 0.5))))


def test_rules_that_do_nothing_are_refused_where_a_user_wrote_them(family: Path, make_recipe: MakeRecipe) -> None:
    folders, names = {n: family / n for n in "ab"}, ["model.norm.weight", "model.layers.0.mlp.up_proj.weight"]
    glob = make_recipe(
        "linear", None, folders, ParameterRule(("*mpl*",), {"weight": (1.0, 1.0)}), everywhere(weight=(1.0, 1.0))
    )
    with pytest.raises(RecipeError, match=r"no tensor matches '\*mpl\*' under 'parameters'"):
        refuse_idle_rules(glob, names)


def test_a_density_of_0_is_pointed_out(family: Path, make_recipe: MakeRecipe) -> None:
    folders = {n: family / n for n in "ab"}
    rules = [
        ParameterRule(("*mlp*",), {"weight": (1.0, 1.0), "density": (0.0, 0.5)}),
        everywhere(weight=(1.0, 0.0), density=(0.5, 0.1)),
    ]
    assert dropped_sources(make_recipe("ties", family / "base", folders, *rules)) == [
        "density 0 keeps nothing of 'a' in *mlp*; weight 0 says so plainly"
    ]
    assert dropped_sources(make_recipe("linear", None, folders, everywhere(weight=(1.0, 1.0)))) == []


def test_a_model_outside_the_pool_is_named(family: Path, make_recipe: MakeRecipe) -> None:
    pool = Pool(base=None, sources=[str(family / "a")])
    recipe = make_recipe("linear", None, {"b": family / "b"}, everywhere(weight=(1.0,)))
    with pytest.raises(RecipeError, match="which is not among the models of this run"):
        TensorMerger(pool, CPU).of(recipe)


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), float("-inf")])
def test_a_source_that_is_not_finite_is_named_with_the_tensor(
    tmp_path: Path, family: Path, save_pico: SavePico, make_recipe: MakeRecipe, bad: float
) -> None:
    change = {"model.norm.weight": torch.tensor([bad] + [1.0] * 15)}
    broken = save_pico(tmp_path / "broken", 1, near=family / "base", change=change)
    recipe = make_recipe("linear", None, {"good": family / "a", "bad": broken}, everywhere(weight=(1.0, 0.0)))
    with pytest.raises(ModelError, match=r"'bad' .* has a NaN or an infinity in 'model.norm.weight'; it cannot be merged"):
        merge(recipe)


@pytest.mark.parametrize(("weight", "out_dtype"), [(1e39, "float32"), (1e6, "float16")])
def test_a_merge_that_overflows_is_an_unusable_candidate(
    family: Path, make_recipe: MakeRecipe, weight: float, out_dtype: str
) -> None:
    numbers = everywhere(weight=(weight, weight))
    folders = {name: family / name for name in "ab"}
    recipe = make_recipe("task_arithmetic", family / "base", folders, numbers, out_dtype=out_dtype)
    with pytest.raises(UnusableCandidateError, match=r"weights are not finite: '.+'"):
        merge(recipe)
