"""What the optimizers over ``pymoo`` agree on: genes of every kind as its variables, how they are told, what stays constant.

Binary and choice genes are crossed and mutated as what they are, each kind by operators of its own, instead of as rounded real
numbers (pymoo's mixed-variable mating). Constraints follow Deb (2000): what meets them is ahead of what does not, and among the
latter the smaller miss. A candidate that failed counts as missing them by more than any other, so that no infinite objective
value comes near a crowding distance.
"""

import warnings
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pymoo.core.mixed import MixedVariableDuplicateElimination, MixedVariableMating
from pymoo.core.population import Population
from pymoo.core.problem import Problem
from pymoo.core.termination import NoTermination
from pymoo.core.variable import Binary, Choice, Real
from pymoo.operators.crossover.sbx import SBX
from pymoo.operators.crossover.ux import UX
from pymoo.operators.mutation.bitflip import BFM
from pymoo.operators.mutation.pm import PM
from pymoo.operators.mutation.rm import ChoiceRandomMutation
from pymoo.operators.selection.tournament import TournamentSelection

from evo_merge.evaluation.base import Evaluation
from evo_merge.genome import Gene, Genomes
from evo_merge.optimizers.base import fitness_matrix
from evo_merge.optimizers.box import Box
from evo_merge.seeds import child_seed

_FAILED = 1e9  # how far a candidate that failed misses the constraints; no other misses them by as much
_MATINGS = 20  # tries to fill a generation with new candidates, before it may repeat known ones


class MixedVariables:
    """Genes of every kind as ``pymoo``'s variables, and genomes as its populations.

    Args:
        genes: The box; where a real gene lacks a bound, its span around its start stands for it.
        optimizer: Named in errors.
        start_probability: That a binary or choice gene of generation 0 has its start's value; its others share the rest.

    Raises:
        ValueError: A probability that cannot be.
    """

    def __init__(self, genes: Sequence[Gene], optimizer: str, start_probability: float) -> None:
        if not 0 < start_probability < 1:
            raise ValueError(f"optimizer.start_probability must lie between 0 and 1, got {start_probability}")
        self._genes, self._start_probability = tuple(genes), start_probability
        self._box = Box(genes, optimizer, ("real", "binary", "choice"))

    def problem(self, n_objectives: int) -> Problem:
        """The box as a problem with one constraint."""
        pairs = zip(self._genes, self._box.sides.tolist(), strict=True)
        variables = {index: _variable(gene, low, high) for index, (gene, (low, high)) in enumerate(pairs)}
        return Problem(vars=variables, n_obj=n_objectives, n_ieq_constr=1)

    def first(self, rng: np.random.Generator, size: int) -> Population:
        """Generation 0: real genes uniform, the others mostly at their starts, since most paths of layers are no model."""
        genomes = self._box.uniform(rng, size)
        keep = rng.uniform(size=genomes.shape)
        for column, kept, gene in zip(genomes.T, keep.T, self._genes, strict=True):
            if gene.kind != "real":
                others = np.setdiff1d(np.arange(gene.low, gene.high + 1), [gene.start])
                column[:] = np.where(kept < self._start_probability, gene.start, rng.choice(others, size))
        return Population.new(X=[self._values(genome) for genome in genomes.tolist()])

    def genomes(self, population: Population) -> Genomes:
        """``(n, dim)``."""
        rows = [[float(candidate.X[index]) for index in range(len(self._genes))] for candidate in population]
        return np.asarray(rows, dtype=np.float64)

    def mating(self, selection: Callable[..., Any], crossover: SBX) -> MixedVariableMating:
        """Operators a kind: simulated binary crossover and polynomial mutation, uniform crossover and flips or new draws."""
        rate = min(0.5, 1 / len(self._genes))  # of every gene, whatever its kind; pymoo's own counts each kind by itself
        return _Mating(
            selection=TournamentSelection(func_comp=selection),
            crossover={Real: crossover, Binary: UX(), Choice: UX()},
            mutation={Real: PM(prob_var=rate), Binary: BFM(prob_var=rate), Choice: ChoiceRandomMutation(prob_var=rate)},
            eliminate_duplicates=MixedVariableDuplicateElimination(),
            n_max_iterations=_MATINGS,
        )

    def _values(self, genome: Sequence[float]) -> dict[int, float | bool | int]:
        as_kind = {"real": float, "binary": bool, "choice": int}
        return {index: as_kind[gene.kind](value) for index, (gene, value) in enumerate(zip(self._genes, genome, strict=True))}


class RealVariables:
    """Real genes as ``pymoo``'s rows of numbers; see ``MixedVariables``."""

    def __init__(self, genes: Sequence[Gene], optimizer: str) -> None:
        self._box = Box(genes, optimizer)

    def problem(self, n_objectives: int) -> Problem:
        """The box as a problem with one constraint."""
        low, high = self._box.sides.T
        return Problem(n_var=self._box.dim, n_obj=n_objectives, n_ieq_constr=1, xl=low, xu=high)

    def first(self, rng: np.random.Generator, size: int) -> Population:
        """Generation 0, uniform."""
        return Population.new(X=self._box.uniform(rng, size))

    def genomes(self, population: Population) -> Genomes:
        """``(n, dim)``."""
        return np.array(population.get("X"), dtype=np.float64)


class Genetic:
    """A ``pymoo`` algorithm, asked and told a generation at a time, always of the same size.

    Args:
        variables: The genes.
        seed: Decides every proposal.
        population_size: Candidates a generation.
        algorithm: Makes it of generation 0 and the number of objectives, which nobody knows before the first tell.
    """

    def __init__(
        self,
        variables: MixedVariables | RealVariables,
        seed: int,
        population_size: int,
        algorithm: Callable[[Population, int], Any],
    ) -> None:
        self._variables, self._seed, self._new_algorithm = variables, seed, algorithm
        self._algorithm: Any = None
        self._asked = variables.first(np.random.default_rng(child_seed(seed, "first")), population_size)

    def ask(self) -> Genomes:
        """The next generation, ``(population_size, dim)``."""
        if self._algorithm is not None:
            self._asked = self._algorithm.ask()
        return self._variables.genomes(self._asked)

    def tell(self, evaluations: Sequence[Evaluation]) -> None:
        """Learn from the last generation."""
        fitness, violation = fitness_matrix(evaluations)
        if self._algorithm is None:
            self._algorithm = self._new_algorithm(self._asked, fitness.shape[1])
            self._algorithm.setup(self._variables.problem(fitness.shape[1]), seed=self._seed, termination=NoTermination())
            self._algorithm.ask()  # generation 0, as it was given
        has_failed: NDArray[np.bool_] = np.asarray(~np.isfinite(fitness).all(axis=1), dtype=bool)
        losses = -np.where(has_failed[:, None], 0.0, fitness)
        missed: NDArray[np.float64] = np.where(has_failed, _FAILED, violation)[:, None]
        self._asked.set("F", losses, "G", missed)
        with warnings.catch_warnings():  # NSGA-III sets filters of its own and leaves them
            self._algorithm.tell(infills=self._asked)


def checked_size(population_size: int) -> int:
    """Candidates a generation; raises ``ValueError`` for fewer than four."""
    if population_size < 4:  # differential evolution combines four, and a tournament wants some to choose from
        raise ValueError(f"optimizer.population_size must be at least 4, got {population_size}")
    return population_size


class _Mating(MixedVariableMating):  # type: ignore[misc]
    """Mating without repeats as long as new candidates are found; in a space with few points it repeats known ones."""

    def do(self, problem: Any, pop: Any, n_offsprings: int, **kwargs: Any) -> Any:
        found = super().do(problem, pop, n_offsprings, **kwargs)
        missing = n_offsprings - len(found)
        return Population.merge(found, self._do(problem, pop, missing, **kwargs)) if missing else found


def _variable(gene: Gene, low: float, high: float) -> Real | Binary | Choice:
    if gene.kind == "real":
        return Real(bounds=(low, high))
    return Binary() if gene.kind == "binary" else Choice(options=np.arange(int(low), int(high) + 1))
