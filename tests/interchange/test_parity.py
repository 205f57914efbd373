"""Every merge of mergekit's in ../shared/parity, from its own YAML: in memory, and written to disk tensor by tensor."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from evo_merge.interchange.read import load_any
from evo_merge.models.assemble import Assembler
from evo_merge.models.checkpoint import write_checkpoint
from evo_merge.models.pool import Pool
from evo_merge.recipe import Recipe

FOLDER = Path(__file__).parents[3] / "shared" / "parity" / "mergekit"
CASES = sorted(json.loads((FOLDER / "index.json").read_text())["cases"]) if FOLDER.is_dir() else []
TOLERANCE = 1e-6  # of a tensor's largest absolute value

pytestmark = pytest.mark.skipif(not CASES, reason="the outputs of mergekit (../shared/parity/mergekit) are not here")


@pytest.fixture(params=CASES or ["none"])
def case(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.chdir(FOLDER)  # where the YAMLs' paths begin
    return str(request.param)


def recipe_of(case: str) -> Recipe:
    return load_any(Path("cases") / case / "config.yml")


def assert_equals_mergekits(tensors: dict[str, Tensor], case: str) -> None:
    expected = load_file(FOLDER / "cases" / case / "model" / "model.safetensors")
    assert tensors.keys() == expected.keys()
    for name, tensor in expected.items():
        ours = tensors[name]
        assert (ours.dtype, ours.shape) == (tensor.dtype, tensor.shape)
        if tensor.dtype == torch.bfloat16:  # neighbours' bits differ by 1
            assert int((ours.view(torch.int16).int() - tensor.view(torch.int16).int()).abs().max()) <= 1, name
        else:
            largest = float(tensor.double().abs().max())
            assert float((ours.double() - tensor.double()).abs().max()) <= TOLERANCE * largest, name


def test_all_cases_are_here() -> None:
    assert len(CASES) == 41


@pytest.mark.parametrize("compile", ["never", pytest.param("always", marks=pytest.mark.slow)])
def test_a_merge_in_memory_equals_mergekits(case: str, compile: str) -> None:
    recipe = recipe_of(case)
    pool = Pool.of_recipe(recipe)
    pool.compile = compile
    model = Assembler(pool, torch.device("cpu")).assemble(recipe)
    assert_equals_mergekits({name: parameter.data for name, parameter in model.named_parameters()}, case)


def test_a_merge_on_disk_equals_mergekits(case: str, tmp_path: Path) -> None:
    recipe = recipe_of(case)
    write_checkpoint(recipe, Pool.of_recipe(recipe), tmp_path / "model")
    assert_equals_mergekits(load_file(tmp_path / "model" / "model.safetensors"), case)
