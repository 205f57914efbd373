"""Every ``conf/optimizer/*.yaml`` on boxes of every kind of genes that it takes, for the tests that all of them pass."""

import tempfile
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import pytest
from hydra.utils import get_class, instantiate
from numpy.typing import NDArray
from omegaconf import OmegaConf

from earlier_study import write_study
from evo_merge.evaluation.base import Evaluation, failed
from evo_merge.genome import Gene, Genomes
from evo_merge.optimizers.base import Optimizer

CONF = Path(__file__).parents[2] / "conf"
INF = float("inf")
Judge: TypeAlias = Callable[[Genomes, Sequence[Gene]], list[Evaluation]]
NAMES = sorted(path.stem for path in (CONF / "optimizer").glob("*.yaml"))
BLIND = ("random", "sobol")  # they learn nothing
LEARNING = [name for name in NAMES if name not in BLIND]
SLOW = ("nevergrad", "cmaes_evojax")  # one fits models of what it was told, the other has generations of 128
METRICS = ("score", "second", "third")
BOUNDED = (
    Gene("a", 0.0, 1.0, 0.5),
    Gene("b", -0.5, 1.5, 0.5),
    Gene("c", 10.0, 20.0, 15.0),
    Gene("d", -3e-3, -1e-3, -2e-3),
)
UNBOUNDED = (*(Gene(f"slot/{i}", -INF, INF, 0.1, span=0.6) for i in range(4)), Gene("half", 0.0, INF, 0.0, span=3.0))
BINARY = tuple(Gene(f"on/{i}", 0.0, 1.0, float(i < 7), kind="binary") for i in range(20))
CHOICE = tuple(Gene(f"layer/{i}", 2.0 * (i % 2), 5.0, 3.0, kind="choice") for i in range(12))
BOXES = {
    "bounded": BOUNDED,
    "unbounded": UNBOUNDED,
    "bounded and unbounded": (*BOUNDED, *UNBOUNDED),
    "binary": BINARY,
    "binary and real": (*BINARY[:10], *UNBOUNDED, *BOUNDED[:2], *BINARY[10:]),
    "choice": CHOICE,
    "every kind": (*CHOICE[:6], BOUNDED[2], *BINARY[:6], *UNBOUNDED[2:]),
}
_FOLDERS = tempfile.TemporaryDirectory()  # of earlier studies, until the tests end


def yaml_of(name: str) -> Any:
    """The whole config around it: a yaml may name the run's own numbers, such as the budget."""
    return OmegaConf.merge(
        OmegaConf.load(CONF / "config.yaml"), {"optimizer": OmegaConf.load(CONF / "optimizer" / f"{name}.yaml")}
    )


def class_of(name: str) -> Any:
    return get_class(yaml_of(name).optimizer._target_)


def kinds_of(name: str) -> tuple[str, ...]:
    return tuple(class_of(name).kinds)


def build(yaml: str, genes: Sequence[Gene] = BOUNDED, seed: int = 1, **changes: object) -> Optimizer:
    config = yaml_of(yaml)
    if config.optimizer.get("mean") is not None and any(gene.low > 0 or gene.high < 0 for gene in genes):
        changes = {"mean": None, **changes}  # a preset's mean is for boxes that hold it
    if OmegaConf.is_missing(config.optimizer, "study"):
        changes = {"study": earlier_study(tuple(genes)), **changes}
    optimizer: Optimizer = instantiate(config.optimizer, tuple(genes), seed, **changes)
    return optimizer


@cache
def earlier_study(genes: tuple[Gene, ...]) -> str:
    """Folder of a random search for another optimum, not far off."""
    folder = Path(_FOLDERS.name) / str(len(list(Path(_FOLDERS.name).iterdir())))
    near = optimum_of(genes) - 0.1 * np.array([length_of(gene) for gene in genes])
    genomes = build("random", genes, seed=99, population_size=50).ask()
    lengths = np.array([length_of(gene) for gene in genes])
    write_study(folder, {"": genes}, genomes, (-np.square((genomes - near) / lengths).sum(axis=1)).tolist())
    return str(folder)


CASES = [(name, box) for name in NAMES for box, genes in BOXES.items() if {gene.kind for gene in genes} <= {*kinds_of(name)}]
FEW_CASES = [(name, box) for name, box in CASES if name not in SLOW or box in ("bounded", "every kind")]
each_case = pytest.mark.parametrize(("name", "box"), FEW_CASES, ids=[f"{name}, {box}" for name, box in FEW_CASES])
each_name = pytest.mark.parametrize("name", NAMES)


def rounds(name: str, generations: int) -> int:
    """Fewer where a generation is slow, for what needs no certain number of them."""
    return generations // 5 if name in (*SLOW, "ga", "nsga2", "nsga3") else generations


def scored(*fitness: float, violation: float = 0.0) -> Evaluation:
    names = METRICS[: len(fitness)]
    return Evaluation(names, len(fitness), np.array([fitness]), ("",), violation=violation)


def length_of(gene: Gene) -> float:
    """Of its box; its span where it has none."""
    return gene.high - gene.low if np.isfinite(gene.high - gene.low) else gene.span


def optimum_of(genes: Sequence[Gene]) -> NDArray[np.float64]:
    """A place away from the starts: 0.3 of a real gene's box or span, another value for half of the others."""
    places = []
    for number, gene in enumerate(genes):
        if gene.kind == "real":
            places.append(gene.start + 0.3 * length_of(gene))
        else:
            places.append(gene.start if number % 2 else gene.low + (gene.start - gene.low + 1) % (gene.high - gene.low + 1))
    return np.array(places)


def distances(genomes: Genomes, genes: Sequence[Gene]) -> NDArray[np.float64]:
    """A sphere of the real genes plus the share of the others that differ from the optimum, ``(n,)``."""
    real = np.array([gene.kind == "real" for gene in genes])
    lengths = np.array([length_of(gene) for gene in genes])
    away = genomes - optimum_of(genes)
    squares = (away[:, real] / lengths[real]) ** 2
    return np.asarray(squares.sum(axis=1) + (away[:, ~real] != 0).sum(axis=1) / max(1, (~real).sum()), dtype=np.float64)


def sphere(genomes: Genomes, genes: Sequence[Gene]) -> list[Evaluation]:
    return [scored(-float(distance)) for distance in distances(genomes, genes)]


def several(n_objectives: int) -> Judge:
    """Scores within (0, 1] by the distance from so many places; each fourth fails, others miss a constraint."""

    def judge(genomes: Genomes, genes: Sequence[Gene]) -> list[Evaluation]:
        lengths = np.array([length_of(gene) for gene in genes])
        shifts = 0.2 * lengths * np.arange(n_objectives)[:, None]  # (n_objectives, dim)
        scores = np.exp(-np.stack([distances(genomes + shift, genes) for shift in shifts], axis=1))
        missed = np.maximum(0, 0.5 - scores[:, 0])
        told = [scored(*row, violation=v) for row, v in zip(scores.tolist(), missed.tolist(), strict=True)]
        told[::4] = [failed(METRICS[:n_objectives], n_objectives, "weights are not finite") for _ in told[::4]]
        return told

    return judge


def generations_of(
    optimizer: Optimizer, generations: int, genes: Sequence[Gene] = BOUNDED, judge: Judge = sphere
) -> Iterator[Genomes]:
    for _ in range(generations):
        genomes = optimizer.ask()
        yield genomes.copy()
        optimizer.tell(genomes, judge(genomes, genes))


def run(optimizer: Optimizer, generations: int, genes: Sequence[Gene] = BOUNDED, judge: Judge = sphere) -> list[Genomes]:
    return list(generations_of(optimizer, generations, genes, judge))


def comes_closer(optimizer: Optimizer, genes: Sequence[Gene], generations: int = 40) -> bool:
    """Whether the mean distance of a generation falls to 0.6 of the first's; no longer run than needed to see that."""
    means = (float(distances(asked, genes).mean()) for asked in generations_of(optimizer, generations, genes))
    first = next(means)
    return any(mean < 0.6 * first for mean in means)


def assert_inside(genomes: Genomes, genes: Sequence[Gene]) -> None:
    assert genomes.ndim == 2
    assert genomes.shape[1] == len(genes)
    assert genomes.dtype == np.float64
    assert np.isfinite(genomes).all()
    assert (genomes >= [gene.low for gene in genes]).all()
    assert (genomes <= [gene.high for gene in genes]).all()
    whole = [gene.kind != "real" for gene in genes]
    assert np.array_equal(genomes[:, whole], np.rint(genomes[:, whole]))
