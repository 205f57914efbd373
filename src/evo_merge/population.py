"""Drafts from the population: what the candidates nearest to one answered to the same problems."""

import numpy as np

from evo_merge.genome import Genome
from evo_merge.recipe import Recipe, recipe_hash
from evo_merge.study import Study
from evo_merge.tasks.base import Portion

_NEAREST = 3  # candidates that are asked; more are seldom right where these are wrong
_LAST = 512  # candidates that are looked at: what came long before is seldom near, and genomes of paths have thousands of genes


class Neighbours:
    """Drafts of a recipe's answers, from those of earlier candidates of its stage.

    Only candidates with smaller numbers are asked, so that a resumed run tries the drafts of the unbroken one,
    and logits that are all but equal decide the same way.

    Args:
        study: Holds the candidate's genome, and what the others answered.
    """

    def __init__(self, study: Study) -> None:
        self._study = study

    def of(self, recipe: Recipe, portion: Portion, n_examples: int) -> list[tuple[str, ...]]:
        """What each example of a portion may be answered, the nearest candidate's answer first; perhaps nothing.

        A recipe that no candidate has, such as a source's, gets none.
        """
        earlier = self._study.earlier(recipe_hash(recipe), _LAST)
        wanted = range(n_examples) if portion.positions is None else portion.positions
        found: dict[int, list[str]] = {position: [] for position in wanted}
        if earlier:
            split = Portion(portion.split, stage=portion.stage).key
            genome, others = earlier
            missing = set(wanted)
            for digest in _nearest_first(genome, others):
                texts = self._study.completions(digest, split)
                for position in missing & texts.keys():
                    if texts[position] not in found[position]:
                        found[position].append(texts[position])
                missing = {position for position in missing if len(found[position]) < _NEAREST}
                if not missing:
                    break
        return [tuple(found[position]) for position in wanted]


def _nearest_first(genome: Genome, others: list[tuple[str, Genome]]) -> list[str]:
    """Recipes by Euclidean distance, every gene in units of its spread; of equals the later, which the search is closer to."""
    genomes = np.stack([other for _, other in others])
    spread = np.ptp(np.vstack([genomes, genome]), axis=0)
    distances = np.linalg.norm((genomes - genome) / np.where(spread > 0, spread, 1.0), axis=1)
    order = sorted(range(len(others)), key=lambda i: (distances[i], -i))
    return [others[i][0] for i in order[: 4 * _NEAREST]]
