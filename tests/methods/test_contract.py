"""What every merge method keeps, run on the method of every ``conf/merge/*.yaml``."""

import inspect
import random
from collections.abc import Callable
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from hydra.utils import instantiate
from omegaconf import OmegaConf
from safetensors.torch import save_file
from torch import Tensor
from transformers import LlamaConfig

from evo_merge.calibration.record import FISHER, SourceRecord, StatisticsRecord, kind_of
from evo_merge.calibration.stored import identity
from evo_merge.fingerprints import digest_of_file
from evo_merge.methods import parts
from evo_merge.methods.base import (
    AlignedTensors,
    LinearMethod,
    MergeMethod,
    arguments,
    method_from_recipe,
    name_of,
    no_noise,
    options_of,
)
from evo_merge.methods.entrywise import Entrywise
from evo_merge.methods.noise import EntryNoise
from evo_merge.models.checks import facts
from evo_merge.models.merging import TensorMerger
from evo_merge.models.pool import Pool
from evo_merge.recipe import ParameterRule, ParameterSpaceRecipe

CONF = Path(__file__).parents[2] / "conf" / "merge"
YAMLS = sorted(path for path in CONF.glob("*.yaml") if "method" in OmegaConf.load(path))
CPU = torch.device("cpu")
SHAPES = [(6, 5), (3, 2, 4), (7,), (1,), (), (0,), (0, 3)]
TENSORS = {"square": (24, 24), "row": (37,), "one": (1,), "scalar": (), "none": (0, 3), "deep": (4, 3, 5)}


@pytest.fixture(params=YAMLS, ids=lambda path: path.stem)
def yaml(request: pytest.FixtureRequest) -> Path:
    return Path(request.param)


@pytest.fixture
def method(yaml: Path) -> MergeMethod:
    merge_method: MergeMethod = instantiate(OmegaConf.load(yaml).method)
    return merge_method


def n_sources_of(method: MergeMethod) -> int:
    return method.n_sources or 3


def values_of(method: MergeMethod) -> dict[str, tuple[float, ...] | float]:
    """A value inside every parameter's box; exact in bfloat16, so that both dtypes mean the same."""
    shares = (0.5, 0.25, 0.75)[: n_sources_of(method)]
    return {p.name: tuple(p.low + s * (p.high - p.low) for s in shares) if p.per_source else p.start for p in method.parameters}


def merge_tensor(method: MergeMethod, tensors: AlignedTensors, seed: int = 7) -> Tensor:
    shape = tensors.sources.shape[1:]

    def noise(source: int) -> Tensor:
        return EntryNoise(seed, f"source{source}", "tensor")(0, shape.numel(), CPU).reshape(shape)

    state = None if method.elementwise else method.prepare(tensors)
    return method.merge(tensors, state, noise, **arguments(method, values_of(method), len(tensors.sources)))


def random_tensors(method: MergeMethod, shape: tuple[int, ...], dtype: torch.dtype, base: float = 1.0) -> AlignedTensors:
    generator = torch.Generator().manual_seed(0)
    sources = torch.randn((n_sources_of(method), *shape), generator=generator)
    drawn = (base * torch.randn(shape, generator=generator)).to(dtype)
    return AlignedTensors(sources.to(dtype), drawn, random_statistics(method, shape))


def random_statistics(method: MergeMethod, shape: tuple[int, ...]) -> tuple[Tensor, ...] | None:
    """What the method asks to know of each source about a tensor: positive numbers, or products of inputs with themselves."""
    generator = torch.Generator().manual_seed(1)
    if kind_of(method) is None or (kind_of(method) != FISHER and len(shape) != 2):
        return None
    if kind_of(method) == FISHER:
        return tuple(torch.rand(shape, generator=generator) for _ in range(n_sources_of(method)))
    inputs = [torch.randn((4 * shape[1], shape[1]), generator=generator) for _ in range(n_sources_of(method))]
    return tuple(each.T @ each for each in inputs)


# --- one tensor ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_a_merged_tensor_has_the_shape_and_dtype_of_the_sources(
    method: MergeMethod, shape: tuple[int, ...], dtype: torch.dtype
) -> None:
    merged = merge_tensor(method, random_tensors(method, shape, dtype))
    assert merged.shape == shape
    assert merged.dtype == dtype
    assert torch.isfinite(merged).all()


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_no_change_in_the_sources_leaves_the_base(method: MergeMethod, shape: tuple[int, ...]) -> None:
    base = torch.randn(shape, generator=torch.Generator().manual_seed(1))
    sources = torch.stack([base] * n_sources_of(method))
    merged = merge_tensor(method, AlignedTensors(sources, base, random_statistics(method, shape)))
    if method.needs_base:
        assert torch.equal(merged, base)
    else:  # equal sources, averaged: exact but for rounding
        torch.testing.assert_close(merged, base, rtol=1e-6, atol=1e-7)


def test_bfloat16_arithmetic_comes_near_that_of_float32(method: MergeMethod) -> None:
    rounded = random_tensors(method, (6, 5), torch.bfloat16, base=0.0)  # base 0: the task vectors are the same in both
    exact = AlignedTensors(rounded.sources.float(), rounded.base.float(), rounded.statistics)
    torch.testing.assert_close(
        merge_tensor(method, rounded).float(), merge_tensor(method, exact), rtol=2**-6, atol=2**-6
    )  # two bits of bfloat16's eight are lost at most


def test_merging_does_not_change_the_callers_tensors(method: MergeMethod) -> None:
    tensors = random_tensors(method, (6, 5), torch.float32)
    sources, base = tensors.sources.clone(), tensors.base.clone()
    merged = merge_tensor(method, tensors)
    merged += 1.0  # the result may be written to as well
    assert torch.equal(tensors.sources, sources)
    assert torch.equal(tensors.base, base)


def test_a_linear_form_says_what_merge_makes(method: MergeMethod) -> None:
    """Only methods that are linear have one; it must hold for any weights, those that sum to 0 among them."""
    if not isinstance(method, LinearMethod):
        pytest.skip("the method is not linear in the task vectors")
    generator = torch.Generator().manual_seed(3)
    base, *sources = torch.randn(4, 6, 5, generator=generator)
    tensors = AlignedTensors(torch.stack(sources), base)
    for option in (False, True):
        for weight in ((0.5, 0.25, 0.75), (0.5, -0.75, 0.25), (2.0, 0.0, 0.0)):
            changed = replace(method, normalize=option)  # type: ignore[type-var]
            parameters = arguments(changed, {"weight": weight, "lambda": 1.25}, 3)
            form = changed.linear_form(**parameters)
            expected = form.base * base + sum(c * (s - base) for c, s in zip(form.task_vectors, sources, strict=True))
            found = changed.merge(tensors, changed.prepare(tensors), no_noise, **parameters)
            torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


def test_the_keywords_are_the_parameters(method: MergeMethod) -> None:
    called = type(method).numbers if isinstance(method, Entrywise) else type(method).merge
    signature = inspect.signature(called)
    keywords = [name for name, p in signature.parameters.items() if p.kind is p.KEYWORD_ONLY]
    assert keywords == [parameter.keyword for parameter in method.parameters]
    assert list(signature.parameters)[:4] in (["self", "tensors", "state", "noise"], ["self", "vectors", "order", "bits"])


def test_the_parameters_start_inside_their_box(method: MergeMethod) -> None:
    assert method.parameters
    assert all(p.low < p.high and p.low <= p.start <= p.high for p in method.parameters)


# --- the yaml --------------------------------------------------------------------------------------------------------


def test_the_yaml_writes_out_every_option_with_the_class_default(yaml: Path, method: MergeMethod) -> None:
    written = {key for key in OmegaConf.load(yaml).method if not str(key).startswith("_")}
    assert written == {field.name for field in fields(method)}  # type: ignore[arg-type]
    assert method == type(method)()


def test_a_recipe_names_the_method_as_its_yaml_does(yaml: Path, method: MergeMethod) -> None:
    assert name_of(method) == yaml.stem
    assert method_from_recipe(yaml.stem, options_of(method)) == method


# --- whole models ----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four models of odd tensors; merging needs no more of a model than a config and weights."""
    folder = tmp_path_factory.mktemp("odd_tensors")
    generator = torch.Generator().manual_seed(3)
    for name in ("base", "source0", "source1", "source2"):
        LlamaConfig(hidden_size=8, num_attention_heads=2, num_hidden_layers=1).save_pretrained(folder / name)
        tensors = {name: torch.randn(shape, generator=generator) for name, shape in TENSORS.items()}
        save_file(tensors, folder / name / "model.safetensors", metadata={"format": "pt"})
    return folder


def with_statistics(method: MergeMethod, pool: Pool, folder: Path) -> MergeMethod:
    """The method with statistics of the pool's models in files, where it asks for some."""
    kind = kind_of(method)
    if kind is None:
        return method
    folder.mkdir(exist_ok=True)
    records = {}
    for place, model in enumerate(pool.sources):
        found = {name: random_statistics(method, shape) for name, shape in TENSORS.items()}
        file = folder / f"{model.name}.safetensors"
        save_file({name: each[place] for name, each in found.items() if each is not None}, file)
        records[model.name] = SourceRecord(str(model.reference), identity(model), {file.name: digest_of_file(file)}, 1, 1, 1)
    StatisticsRecord(kind, {}, records).write(folder)
    return replace(method, statistics=str(folder))  # type: ignore[type-var]


@pytest.fixture
def merge_all(
    folder: Path, method: MergeMethod, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Callable[..., dict[str, Tensor]]:
    monkeypatch.setattr(facts, "expected_shapes", lambda config: None)  # the tensors are those of no architecture

    def merge(order: list[str], **changes: Any) -> dict[str, Tensor]:
        names = [f"source{i}" for i in range(n_sources_of(method))]
        pool = Pool(base=str(folder / "base"), sources=[str(folder / name) for name in names])
        used = with_statistics(method, pool, tmp_path / "statistics")
        recipe = ParameterSpaceRecipe(
            **{
                "base": pool.base.reference if method.needs_base else None,
                "sources": pool.recipe_sources,
                "method": name_of(method),
                "options": options_of(used),
                "parameters": (ParameterRule(("*",), values_of(method)),),
                "seed": 11,
                "dtype": "float32",
                "out_dtype": "float32",
            }
            | changes
        )
        merged = TensorMerger(pool, CPU).of(recipe)
        return {name: merged[name] for name in order}

    return merge


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_chunks_and_order_change_no_bit(
    merge_all: Callable[..., dict[str, Tensor]], dtype: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = list(TENSORS)
    whole = merge_all(names, dtype=dtype)
    assert {name: tuple(tensor.shape) for name, tensor in whole.items()} == TENSORS
    for size in (1, 7, 64):
        monkeypatch.setattr(parts, "_PART", size)
        shuffled = random.Random(size).sample(names, len(names))
        pieces = merge_all(shuffled, dtype=dtype)
        assert all(torch.equal(whole[name], pieces[name]) for name in names)


def test_the_seed_matters_only_where_there_is_chance(merge_all: Callable[..., dict[str, Tensor]], method: MergeMethod) -> None:
    first, again, other = (merge_all(["square"], seed=seed)["square"] for seed in (1, 1, 2))
    assert torch.equal(first, again)
    assert torch.equal(first, other) != name_of(method).startswith(("dare", "della"))
