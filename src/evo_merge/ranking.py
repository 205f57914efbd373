"""The candidates of a study that lead, and how many count."""

import math
from collections.abc import Collection

from evo_merge.pareto import Front
from evo_merge.recipe import recipe_hash
from evo_merge.study import Study
from evo_merge.study_records import Proposal
from evo_merge.trackers.base import Candidate


def count_evaluated(study: Study, stage: str = "") -> int:
    """Candidates of a stage evaluated so far, as the budget counts them."""
    free = free_recipes(study)
    evaluated = {(p.recipe, p.portion) for p in study.proposals() if p.stage == stage and p.is_evaluated}
    return sum(portion != "search" or digest not in free for digest, portion in evaluated)


def ranked_candidates(study: Study, limit: int, stages: Collection[str]) -> list[Candidate]:
    """The best evaluated candidates of some stages by search score, without failed and repeated ones.

    Among equals the earlier comes first, and who misses a constraint comes behind all who miss none. Of several objectives the
    first counts; ``front_candidates`` has those that none dominates.
    """
    first: dict[str, tuple[float, float, int]] = {}
    for proposal in study.proposals():
        if proposal.recipe in first or proposal.stage not in stages or (outcome := study.outcome(proposal)) is None:
            continue
        fitness, violation = outcome
        if math.isfinite(fitness[0]):
            first[proposal.recipe] = (violation, -float(fitness[0]), proposal.number)
    best_first = sorted(first.values(), key=lambda entry: entry[:2])
    return [_told(number, study) for *_, number in best_first[:limit]]


def front_candidates(study: Study, stages: Collection[str]) -> list[Candidate]:
    """The candidates of some stages that no other dominates, in the order of the search; one where there is one objective."""
    found: Front[int] = Front()
    for proposal in study.proposals():
        if proposal.stage in stages and (outcome := study.outcome(proposal)) is not None:
            found.add(proposal.number, *outcome)
    return [_told(number, study) for number in found.members]


def leaders(study: Study, stages: Collection[str]) -> list[Candidate]:
    """The best candidates of every generation of some stages, each recipe once, the last generation's first.

    Where each generation was asked other problems, scores of different generations say little about each other.
    """
    best: dict[tuple[str, int], Front[Proposal]] = {}
    for proposal in study.proposals():
        place = (proposal.stage, proposal.generation)
        if proposal.stage in stages and (outcome := study.outcome(proposal)) is not None:
            best.setdefault(place, Front()).add(proposal, *outcome)
    last_first = sorted((each for found in best.values() for each in found.members), key=lambda proposal: -proposal.number)
    found: dict[str, int] = {}
    for proposal in last_first:
        found.setdefault(proposal.recipe, proposal.number)
    return [_told(number, study) for number in found.values()]


def _told(number: int, study: Study) -> Candidate:
    stored = study.candidate(number)
    evaluation = study.evaluation(stored.recipe, stored.portion)
    assert evaluation is not None, "only evaluated candidates are told of"
    return Candidate(
        number=stored.number,
        stage=stored.stage,
        generation=stored.generation,
        round=stored.generation,
        genome=stored.genome,
        recipe=stored.recipe,
        evaluation=evaluation,
        repeated=False,
    )


def free_recipes(study: Study) -> set[str]:
    """Hashes of the recipes that cost no budget when a candidate has them: the sources' and the un-tuned merges'."""
    return {
        recipe_hash(entrant.recipe)
        for entrant in study.entrants()
        if entrant.role not in ("best", "front", "ablation", "stage")
    }
