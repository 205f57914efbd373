"""Names of its registry, its budget, and its chance."""

import warnings
from importlib.util import find_spec

import numpy as np
import pytest

from evo_merge.errors import ConfigError
from evo_merge.evaluation.base import failed
from evo_merge.genome import Gene
from evo_merge.optimizers.nevergrad import Nevergrad
from optimizer_cases import BOUNDED, BOXES, assert_inside, comes_closer, run, scored


def named(name: str, genes: tuple[Gene, ...] = BOUNDED, seed: int = 1, **changes: object) -> Nevergrad:
    settings = {"budget": 100, "population_size": None} | changes
    return Nevergrad(genes, seed, name=name, **settings)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["NgIohTuned", "CMA", "DE", "TwoPointsDE", "PSO", "OnePlusOne", "TBPSA", "ScrHaltonSearch"])
@pytest.mark.parametrize("box", ["bounded", "every kind"])
def test_optimizers_of_the_registry_run_and_are_the_seeds(name: str, box: str) -> None:
    genes = BOXES[box]
    first, again, other = (run(named(name, genes, seed), 4, genes) for seed in (1, 1, 2))
    assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))
    assert not np.array_equal(first[-1], other[-1])
    assert_inside(np.concatenate(first), genes)


def test_one_candidate_at_a_time_lets_sequential_ones_run() -> None:
    with pytest.raises(ConfigError, match=r"^optimizer\.name=Cobyla proposes one candidate at a time; set"):
        named("Cobyla")
    assert comes_closer(named("Cobyla", population_size=1), BOUNDED)


def test_a_name_that_is_not_in_the_registry_is_one_sentence() -> None:
    with pytest.raises(ConfigError, match=r"^optimizer\.name: nevergrad has no optimizer 'NGOp'; the nearest are NGOpt"):
        named("NGOp")


def test_without_a_budget_it_is_one_sentence() -> None:
    with pytest.raises(ConfigError, match=r"^optimizer=nevergrad plans with its budget, and budget\.evaluations is null; set"):
        named("NGOpt", budget=None)


def test_it_goes_on_after_its_budget() -> None:
    for genes in (BOUNDED, BOXES["every kind"]):
        assert_inside(np.concatenate(run(named("NGOpt", genes, budget=20), 8, genes)), genes)


def test_the_first_candidate_is_near_the_starts() -> None:
    genes = (Gene("a", 0.0, 1.0, 0.9), Gene("on", 0.0, 1.0, 1.0, kind="binary"), Gene("layer", 3.0, 9.0, 8.0, kind="choice"))
    assert named("DiscreteOnePlusOne", genes).ask()[0].tolist() == [0.9, 1.0, 8.0]


def test_failures_and_known_warnings_are_silent() -> None:
    optimizer = named("CMA", budget=40)
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        for number in range(5):
            genomes = optimizer.ask()
            bad = failed(("score",), 1, "weights are not finite")
            told = [bad if number == 0 or i % 2 else scored(float(row[0])) for i, row in enumerate(genomes)]
            optimizer.tell(genomes, told)
    assert [str(warning.message) for warning in said] == []


@pytest.mark.skipif(find_spec("fcmaes") is not None, reason="what it needs is installed")
def test_one_that_needs_a_package_that_is_not_there_is_one_sentence() -> None:
    with pytest.raises(ConfigError, match=r"^optimizer\.name=FCMA cannot be used here: .*fcmaes"):
        run(named("FCMA", population_size=1), 2)


def test_one_that_may_not_propose_the_same_again_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"^optimizer\.name=CmaFmin2 may not propose the same twice"):
        named("CmaFmin2", population_size=1)
