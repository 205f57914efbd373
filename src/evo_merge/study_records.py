"""Who is scored in a run, as its study keeps them."""

from dataclasses import dataclass

from evo_merge.genome import Genome
from evo_merge.recipe import Recipe


@dataclass(frozen=True, slots=True)
class Entrant:
    """A model outside the search that is scored beside it.

    Attributes:
        role: ``source``, ``unoptimised`` (every gene at its start), ``baseline`` (an un-tuned merge by another method),
            ``stage`` (the best of an earlier stage), ``best`` (what the search chose), ``front`` (another member of the Pareto
            front) or ``ablation`` (the best without something that was evolved).
    """

    role: str
    name: str
    recipe: Recipe


@dataclass(frozen=True, slots=True)
class StoredCandidate:
    """A proposed candidate; its evaluation is found by its recipe and portion.

    Attributes:
        number: Counts the candidates of the run from 0.
        stage: Which search of the run it belongs to; empty where there is only one.
        generation: Counts the stage's rounds of ask and tell from 0.
        genome: ``(dim,)``.
        recipe: Decoded from it.
        portion: Key of what it is to be asked.
        asked: Key of what it was asked: less than that, where a race stopped it.
    """

    number: int
    stage: str
    generation: int
    genome: Genome
    recipe: Recipe
    portion: str
    asked: str

    @property
    def is_stopped(self) -> bool:
        """Whether a race stopped it."""
        return self.asked != self.portion


@dataclass(frozen=True, slots=True)
class Proposal:
    """A candidate without its genome and recipe, which are slow to read where there are thousands.

    Attributes:
        number: Of the candidate, like the stage, generation and portion.
        recipe: Its hash.
        is_evaluated: Whether the recipe was evaluated on the portion, or as much of it as a race let it be.
    """

    number: int
    stage: str
    generation: int
    portion: str
    recipe: str
    is_evaluated: bool
