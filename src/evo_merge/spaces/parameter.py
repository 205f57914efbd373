"""Parameter space: recipes that mix weights, with a method's parameters as genes (Akiba et al. 2024, section 3.1)."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

import numpy as np

from evo_merge.calibration.record import pinned
from evo_merge.errors import ConfigError
from evo_merge.genome import Gene, Genome
from evo_merge.methods.base import SHARES, MergeMethod, Parameter, name_of, options_of, wrong_number_of_sources
from evo_merge.recipe import ParameterRule, ParameterSpaceRecipe
from evo_merge.spaces.base import Ingredients
from evo_merge.spaces.granularity import Granularity
from evo_merge.spaces.sharing import sharing

_Values = dict[str, tuple[float, ...] | float]


class ParameterSpace:
    """One gene for every parameter of the method, every group of tensors, and every source (or one for all).

    Args:
        ingredients: What is mixed.
        seed: Of the method's chance; the same for all candidates, so that near genomes are near models.
        method: Merges one tensor.
        granularity: Which tensors share genes: ``model``, ``layer``, ``module``, a number of layer groups, or a mapping with
            ``layers`` or ``groups``, ``smooth`` and ``filters``; see ``evo_merge.spaces.sharing``.
        bounds: By parameter name, the box that replaces the method's own, as ``[low, high]``, its centre the start, or as
            ``[low, high, start]``; ``None`` leaves it. A parameter that the method does not search, such as ``lambda``, is
            searched where it has bounds.
        select_sources: Add a binary gene ``on/<source>`` for every source; one that is off is left out of the recipe. All are
            on at the start.
        shared: Names of parameters of which all sources have the same number, in place of one each.

    Raises:
        ConfigError: The sources do not fit the method, or the bounds do not fit its parameters.
        RecipeError: The statistics that the method names are not there.
    """

    def __init__(
        self,
        ingredients: Ingredients,
        seed: int,
        *,
        method: MergeMethod,
        granularity: Granularity,
        bounds: Mapping[str, Sequence[float] | None],
        select_sources: bool = False,
        shared: Sequence[str] = (),
    ) -> None:
        name = name_of(method)
        n_sources = len(ingredients.sources)
        if wrong := wrong_number_of_sources(method, n_sources):
            names = ", ".join(source.name for source in ingredients.sources)
            raise ConfigError(f"merge={name} {wrong} ({names}); choose with 'models.use=[…]'")
        if method.needs_base and ingredients.base is None:
            raise ConfigError(f"merge={name} needs the base that the sources were tuned from; name it with models.base=…")
        if select_sources and (method.n_sources is not None or n_sources < 2 or wrong_number_of_sources(method, 1)):
            raise ConfigError(
                f"merge.select_sources leaves sources out, and merge={name} of {n_sources} has none to spare; set it to false"
            )
        self._ingredients, self._seed, self._method, self._name = ingredients, seed, pinned(method), name
        self._selects = select_sources
        self._sharing = sharing(granularity, ingredients.tensors)
        parameters = _boxed(method.parameters, bounds, name)
        self._parameters = parameters
        if unknown := [each for each in shared if each not in [p.name for p in parameters if p.per_source]]:
            own = ", ".join(parameter.name for parameter in parameters if parameter.per_source) or "nothing"
            raise ConfigError(f"merge.shared: '{unknown[0]}' is not searched for each source; merge={name} has {own}")
        self._shared = frozenset(shared)
        self.genes = tuple(
            Gene(_gene_name(parameter, group, source), parameter.low, parameter.high, parameter.start)
            for group in self._sharing.names
            for parameter in parameters
            for source in ([s.name for s in ingredients.sources] if self._is_of_source(parameter) else [""])
        )
        if select_sources:
            self.genes += tuple(Gene(f"on/{s.name}", 0.0, 1.0, 1.0, kind="binary") for s in ingredients.sources)

    def decode(self, genome: Genome) -> ParameterSpaceRecipe:
        """The recipe of a genome ``(dim,)``; raises ``ValueError`` for another shape."""
        if genome.shape != (len(self.genes),):
            raise ValueError(f"genome must have shape ({len(self.genes)},), got {genome.shape}")
        sources = self._ingredients.sources
        kept = self._kept(genome)
        numbers = iter(genome.tolist())
        drawn = [self._set_of_values(numbers, kept) for _ in self._sharing.names]
        rules = [
            ParameterRule(rule.globs, _mixed([(drawn[place], share) for place, share in rule.shares]))
            for rule in self._sharing.rules
        ]
        base = self._ingredients.base if self._method.needs_base else None
        mixed, tokenizer = tuple(sources[i] for i in kept), self._ingredients.tokenizer
        return ParameterSpaceRecipe(
            base=base,
            sources=mixed,
            method=self._name,
            options=options_of(self._method),
            parameters=tuple(rules),
            seed=self._seed,
            dtype="float32",
            out_dtype=self._ingredients.out_dtype,
            tokenizer=None if tokenizer is None else tokenizer.among(base, mixed),
        )

    def _is_of_source(self, parameter: Parameter) -> bool:
        """Whether every source has a gene of its own."""
        return parameter.per_source and parameter.name not in self._shared

    def _set_of_values(self, numbers: Iterator[float], kept: Sequence[int]) -> _Values:
        """The next set of genes as values of a recipe."""
        values: _Values = {}
        for parameter in self._parameters:
            own = self._is_of_source(parameter)
            drawn = [next(numbers) for _ in range(len(self._ingredients.sources) if own else 1)]
            values[parameter.name] = tuple(drawn[i if own else 0] for i in kept) if parameter.per_source else drawn[0]
        return values

    def _kept(self, genome: Genome) -> list[int]:
        """Places of the sources that are on; of none, the one with the greatest weights, since a merge of nothing is none."""
        n_sources = len(self._ingredients.sources)
        if not self._selects:
            return list(range(n_sources))
        if on := [place for place, gene in enumerate(genome[-n_sources:].tolist()) if gene > 0.5]:
            return on
        weights = [
            sum(genome[i] for i, gene in enumerate(self.genes) if f"/{gene.name}".endswith(f"/weight/{source.name}"))
            for source in self._ingredients.sources
        ]
        return [int(np.argmax(weights))]


def _gene_name(parameter: Parameter, group: str, source: str) -> str:
    return "/".join(part for part in (group, parameter.name, source) if part)


def _mixed(parts: Sequence[tuple[_Values, float]]) -> _Values:
    """Sets of values, each times its share, added up."""
    mixed: _Values = {}
    for name in parts[0][0]:
        total = np.sum([share * np.asarray(values[name]) for values, share in parts], axis=0)
        mixed[name] = tuple(total.tolist()) if total.ndim else float(total)
    return mixed


def _is_interval(ends: object) -> bool:
    if not isinstance(ends, Sequence) or len(ends) not in (2, 3) or not all(isinstance(end, int | float) for end in ends):
        return False
    low, high, *start = ends
    return all(map(math.isfinite, ends)) and low < high and all(low <= each <= high for each in start)


def _boxed(parameters: Sequence[Parameter], bounds: Mapping[str, Sequence[float] | None], method: str) -> tuple[Parameter, ...]:
    known = [parameter.name for parameter in parameters]
    if unknown := [name for name in bounds if name not in known]:
        raise ConfigError(f"merge.bounds: '{method}' has no parameter '{unknown[0]}'; it has {', '.join(known)}")
    boxed = []
    for parameter in parameters:
        ends = bounds.get(parameter.name)
        if ends is None:
            boxed += [parameter] * parameter.searched
            continue
        if not _is_interval(ends):
            raise ConfigError(
                f"merge.bounds.{parameter.name} must be [low, high] with low < high, or [low, high, start], got {ends}"
            )
        low, high, *start = map(float, ends)
        if parameter.name in SHARES and not 0.0 <= low < high <= 1.0:
            raise ConfigError(f"merge.bounds.{parameter.name} must lie within [0, 1], got [{low}, {high}]")
        boxed.append(replace(parameter, low=low, high=high, start=start[0] if start else (low + high) / 2))
    return tuple(boxed)
