"""Any optimizer of ``nevergrad`` by its name (Rapin and Teytaud 2018, https://github.com/facebookresearch/nevergrad).

Real genes with both bounds are an array in [0, 1] that bounces off its sides, the others an array in spans around their starts;
a binary or choice gene is an unordered ``TransitionChoice``, which, unlike ``Choice``, adds no chance of its own to what is
evaluated. All begin at their starts.
"""

import difflib
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, ClassVar

import nevergrad as ng
import numpy as np
from nevergrad.common.errors import NevergradWarning
from numpy.typing import NDArray

from evo_merge.errors import ConfigError
from evo_merge.evaluation.base import Evaluation
from evo_merge.genome import Gene, Genomes
from evo_merge.optimizers.base import single_fitness
from evo_merge.optimizers.box import Box
from evo_merge.optimizers.gaussian import default_population
from evo_merge.seeds import child_seed

_STEP = 1 / 6  # of the span of a gene without a box; nevergrad's own step is 1/6 of a box
_WORST = 1e6  # the loss of a candidate that failed before any was scored
# Of nevergrad 1.0.12's whole registry, run twice: these over pycma's fmin, which seeds itself by the clock, the DS in which two
# threads draw from one generator.
_UNREPEATABLE = ("CmaFmin2", "MetaModelFmin2", "Carola8", "Carola9", "Carola10", "Carola13", "DS3p", "DS4", "DS8", "DS14")


class Nevergrad:
    """Takes every kind of genes: real ones with bounds or without, binary ones, choices.

    Args:
        genes: The box.
        seed: Decides every proposal.
        name: Of the optimizer in nevergrad's registry.
        budget: Candidates that the search may have; many of the optimizers, NGOpt first of all, choose by it what they do.
        population_size: Candidates a generation, and so nevergrad's number of workers; ``None`` is 4 + floor(3 ln dim).

    Raises:
        ConfigError: A name that is not in the registry, an optimizer that cannot be built here or be repeated, no budget.
        ValueError: A population size below 1.
    """

    kinds: ClassVar[tuple[str, ...]] = ("real", "binary", "choice")
    takes_several: ClassVar[bool] = False
    needs_box: ClassVar[bool] = False

    def __init__(self, genes: Sequence[Gene], seed: int, *, name: str, budget: int | None, population_size: int | None) -> None:
        self._size = default_population(len(genes)) if population_size is None else population_size
        if self._size < 1:
            raise ValueError(f"optimizer.population_size must be at least 1, got {self._size}")
        if budget is None:
            raise ConfigError(
                "optimizer=nevergrad plans with its budget, and budget.evaluations is null; set it, or optimizer.budget=…"
            )
        if name not in ng.optimizers.registry:
            near = difflib.get_close_matches(name, list(ng.optimizers.registry), n=3, cutoff=0.0)
            raise ConfigError(f"optimizer.name: nevergrad has no optimizer '{name}'; the nearest are {', '.join(near)}")
        if name in _UNREPEATABLE:
            raise ConfigError(
                f"optimizer.name={name} may not propose the same twice, so that a run could not be resumed; choose another"
            )
        if self._size > 1 and ng.optimizers.registry[name].no_parallelization:
            raise ConfigError(
                f"optimizer.name={name} proposes one candidate at a time; set optimizer.population_size=1, or choose another"
            )
        self._box = Box(genes, "nevergrad", self.kinds)
        self._whole = np.asarray([gene.kind != "real" for gene in genes], dtype=bool)
        self._low = np.asarray([gene.low for gene in genes], dtype=np.float64)
        self._name = name
        self._chance = np.random.RandomState(child_seed(seed, "global")).get_state()
        self._worst = -np.inf
        self._asked: list[Any] = []
        with self._contained():
            self._groups = _groups(genes, self._box)
            parametrization = ng.p.Tuple(*(parameter for _, parameter in self._groups))
            parametrization.random_state = np.random.RandomState(seed)
            self._search = ng.optimizers.registry[name](parametrization, budget=budget, num_workers=self._size)

    def ask(self) -> Genomes:
        """The next generation, ``(population_size, dim)``."""
        with self._contained():
            self._asked = [self._search.ask() for _ in range(self._size)]
        points = np.empty((self._size, self._box.dim))
        for row, candidate in zip(points, self._asked, strict=True):
            for (index, _), values in zip(self._groups, candidate.value, strict=True):
                row[index] = values
        return np.where(self._whole, self._low + points, self._box.genomes(points))

    def tell(self, genomes: Genomes, evaluations: Sequence[Evaluation]) -> None:
        """Learn from a generation. A candidate that failed counts as the worst so far: infinity would spoil its models."""
        fitness = np.asarray(single_fitness(evaluations))
        scored = np.isfinite(fitness)
        self._worst = max(self._worst, float(-fitness[scored].min())) if scored.any() else self._worst
        worst = self._worst if np.isfinite(self._worst) else _WORST
        with self._contained():
            for candidate, loss in zip(self._asked, np.where(scored, -fitness, worst).tolist(), strict=True):
                self._search.tell(candidate, loss)

    @contextmanager
    def _contained(self) -> Iterator[None]:
        """Nevergrad's chance is our seed's: besides the generator that it is given it draws from numpy's global one.

        Raises:
            ConfigError: The optimizer cannot go on: many need a package that is not installed, and say so late.
        """
        outside = np.random.get_state()
        np.random.set_state(self._chance)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", NevergradWarning)
                warnings.filterwarnings("ignore", "Failed to find bounds")  # some genes have none
                yield
        except Exception as error:  # what its hundreds of optimizers raise has no common class
            reason = " ".join(str(error).split()) or type(error).__name__
            raise ConfigError(f"optimizer.name={self._name} cannot be used here: {reason}; choose another") from error
        finally:
            self._chance = np.random.get_state()
            np.random.set_state(outside)


def _groups(genes: Sequence[Gene], box: Box) -> list[tuple[NDArray[np.intp], Any]]:
    """The places of genes that are alike, and what they are to nevergrad, which is slow where there are many parameters."""
    groups: dict[tuple[bool, int], list[int]] = {}
    for place, gene in enumerate(genes):
        n_values = 0 if gene.kind == "real" else round(gene.high - gene.low) + 1
        groups.setdefault((bool(np.isfinite(box.bounds[place]).all()), n_values), []).append(place)
    return [(np.asarray(places), _parameter(places, n, genes, box, bounded=b)) for (b, n), places in groups.items()]


def _parameter(places: Sequence[int], n_values: int, genes: Sequence[Gene], box: Box, *, bounded: bool) -> Any:
    if n_values:
        choices = ng.p.TransitionChoice(range(n_values), repetitions=len(places), ordered=False)
        choices.value = tuple(round(genes[place].start - genes[place].low) for place in places)
        return choices
    if bounded:
        return ng.p.Array(init=box.start[places], lower=0.0, upper=1.0)
    return ng.p.Array(init=box.start[places]).set_mutation(sigma=_STEP)
