"""What a covariance costs, and the refusal where it does not fit."""

import re
import tracemalloc
from pathlib import Path

import numpy as np
import psutil
import pytest
from cmaes import CMA, CatCMAwM

from evo_merge.errors import ConfigError
from evo_merge.genome import Gene
from evo_merge.optimizers.catcma import CatCMA
from evo_merge.optimizers.cmaes import CMAES
from evo_merge.optimizers.cmaes_margin import CMAESMargin
from evo_merge.optimizers.gaussian import covariance_bytes
from evo_merge.optimizers.sep_cmaes import SepCMAES

INF = float("inf")
PATH = tuple(Gene(f"slot/{i}", -INF, INF, 0.1, span=0.6) for i in range(190)) + tuple(
    Gene(f"scale/{i}", -INF, INF, 0.0, span=0.6) for i in range(4096)
)  # as published for two sources of 32 layers, three repetitions


def too_large() -> int:
    """A population whose covariance would take twice the free memory, and at least the published one."""
    return max(128, int(2 * psutil.virtual_memory().available / (16 * len(PATH) ** 2)) + 1)


@pytest.mark.parametrize("library", ["cmaes", "catcma"])
@pytest.mark.parametrize("population_size", [8, 40])
def test_learning_takes_the_memory_that_is_said(library: str, population_size: int) -> None:
    dim = 300
    mean, free = np.zeros(dim), np.tile([-INF, INF], (dim, 1))
    if library == "cmaes":
        cma = CMA(mean=mean, sigma=0.1, population_size=population_size, seed=1)
    else:
        cma = CatCMAwM(x_space=free, mean=mean, sigma=0.1, cov=np.eye(dim), population_size=population_size, seed=1)
    told = [(cma.ask(), float(i)) for i in range(population_size)]
    tracemalloc.start()
    cma.tell(told)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    said = covariance_bytes(dim, population_size)
    assert 0.8 * said < peak < said


def test_the_published_path_would_take_38_gigabytes() -> None:
    assert covariance_bytes(len(PATH), 128) == pytest.approx(38.5e9, rel=0.001)


def test_a_covariance_that_does_not_fit_is_one_sentence() -> None:
    said = (
        rf"optimizer=cmaes needs \d+\.\d GB to learn the covariance of 4286 genes from a population of {too_large()}, "
        r"and \d+\.\d GB are free; optimizer=sep_cmaes takes any number of genes"
    )
    with pytest.raises(ConfigError, match=f"^{said}$"):
        CMAES(PATH, 1, sigma0=1 / 6, population_size=too_large(), startup_trial=False, mean=0.0)


@pytest.mark.parametrize("optimizer", [CMAESMargin, CatCMA])
def test_the_mixed_ones_refuse_too_and_name_a_way_out(optimizer: type[CMAESMargin] | type[CatCMA]) -> None:
    genes = (*PATH, Gene("on", 0.0, 1.0, 0.0, kind="binary"))
    with pytest.raises(ConfigError, match=re.escape("choose fewer real genes, or real ones only and optimizer=sep_cmaes")):
        optimizer(genes, 1, sigma0=1 / 6, population_size=too_large(), start_probability=0.84)


def test_the_optimizer_that_a_refusal_names_exists() -> None:
    assert (Path(__file__).parents[2] / "conf" / "optimizer" / "sep_cmaes.yaml").exists()
    assert SepCMAES(PATH, 1, sigma0=1 / 6, population_size=too_large() % 64 + 64, mean=0.0).ask().shape[1] == 4286
