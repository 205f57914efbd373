"""What a run ends with: the best of its candidates, or the front of them where there are several objectives."""

import logging
import shlex
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from evo_merge.compose import Parts
from evo_merge.errors import ConfigError
from evo_merge.evaluation.base import Evaluation
from evo_merge.pareto import Front, knee
from evo_merge.ranking import front_candidates, leaders, ranked_candidates
from evo_merge.recipe import DataFlowRecipe, without_scales
from evo_merge.recorded import Recorded
from evo_merge.study import Study
from evo_merge.study_records import Entrant
from evo_merge.tasks.base import Portion
from evo_merge.trackers.base import Candidate

log = logging.getLogger(__name__)
N_FINALISTS = 10  # re-scored on the validation split where that chooses


@dataclass(frozen=True)
class Choice:
    """What was found.

    Attributes:
        best: The one, or the knee of the front.
        evaluation: By which it was chosen: on the search split, or on the validation split.
        front: All that none dominates, with the best, in the order of the search.
    """

    best: Candidate
    evaluation: Evaluation
    front: tuple[Candidate, ...]


def choose(parts: Parts, study: Study, evaluator: Recorded, stages: Collection[str]) -> Choice | None:
    """The best of some stages by what the run chooses by; ``None`` where nothing could be scored."""
    if parts.settings.selection == "validation":
        # Where every generation was asked other problems, only the best of each can be compared at all.
        settings = parts.settings.evaluation
        is_fresh = settings.batch is not None and settings.subset == "fresh"
        asked = leaders(study, stages) if is_fresh else _finalists(parts, study, stages)
        scored = [(candidate, evaluator.evaluate(candidate.recipe, Portion("validation"))) for candidate in asked]
    else:
        found = front_candidates(study, stages) if parts.aim.n_told > 1 else ranked_candidates(study, 1, stages)
        scored = [(candidate, candidate.evaluation) for candidate in found]
    front: Front[tuple[Candidate, Evaluation]] = Front()
    for pair in scored:
        front.add(pair, pair[1].fitness, pair[1].violation)
    if not front.members:
        return None
    among = [evaluation.fitness for _, evaluation in scored if evaluation.failure is None]
    if parts.settings.selection == "search" and parts.aim.n_told > 1:
        outcomes = (study.outcome(proposal) for proposal in study.proposals() if proposal.stage in stages)
        among += [outcome[0] for outcome in outcomes if outcome is not None]
    members = np.stack([evaluation.fitness for _, evaluation in front.members])
    best, evaluation = front.members[knee(members, np.stack(among))]
    return Choice(best, evaluation, tuple(candidate for candidate, _ in front.members))


def record_choice(
    parts: Parts, study: Study, evaluator: Recorded, stage_results: Sequence[Entrant], run_folder: Path
) -> Choice:
    """Choose, and keep the choice as entrants beside what it is to be compared with; the folder is named in what is said.

    Raises:
        ConfigError: No candidate could be scored, or none keeps to the constraints.
    """
    found = choose(parts, study, evaluator, parts.program.final_stages)
    if found is None:
        raise ConfigError(
            "no candidate could be built and scored, so there is nothing to choose; the reasons are in evo_merge.log"
        )
    if found.evaluation.violation > 0:
        raise ConfigError(_nearest(parts, found, evaluator, run_folder))
    study.record_choice(found.best.number)
    if parts.aim.fitness_names == parts.task.objectives[:1] and found.evaluation.fitness[0] <= 0:
        log.warning("the chosen candidate scored 0 or less; look at the answers in the report before you trust the merge")
    for role in ("best", "front", "ablation", "stage"):
        study.drop_entrant(role)
    for entrant in stage_results:
        study.record_entrant(entrant)
    recipe = found.best.recipe
    study.record_entrant(Entrant("best", "evolved", recipe))
    for member in found.front:
        if member is not found.best:
            study.record_entrant(Entrant("front", f"candidate {member.number}", member.recipe))
    if isinstance(recipe, DataFlowRecipe) and (ablated := without_scales(recipe)) != recipe:
        study.record_entrant(Entrant("ablation", "evolved, all scales 1", ablated))
    return found


def _finalists(parts: Parts, study: Study, stages: Collection[str]) -> list[Candidate]:
    """The best candidates, and the best of an early stage that has none among them: many later ones had more luck to draw."""
    if parts.aim.n_told > 1:
        return front_candidates(study, stages)
    ranked = ranked_candidates(study, N_FINALISTS, stages)
    missing = set(stages) & set(parts.program.early_stages) - {candidate.stage for candidate in ranked}
    return ranked + [candidate for stage in sorted(missing) for candidate in ranked_candidates(study, 1, [stage])]


def _nearest(parts: Parts, found: Choice, evaluator: Recorded, run_folder: Path) -> str:
    """What is said where nobody keeps to the constraints."""
    is_validated = parts.settings.selection == "validation"
    portion = Portion("validation") if is_validated else Portion("search", found.evaluation.positions)
    sources = {entrant.name: entrant.recipe for entrant in parts.entrants}
    missed = []
    for name, bound in parts.aim.constraints.items():
        least = bound
        if isinstance(bound, str):
            least = evaluator.evaluate(sources[bound], portion).means[name]
        if (mean := found.evaluation.means[name]) < float(least):
            of_source = f", that of {bound}" if isinstance(bound, str) else ""
            missed.append(f"{name} {mean:.4g}, at least {float(least):.4g}{of_source} wanted")
    who = "none of the finalists keeps to the constraints on the validation split" if is_validated else ""
    return (
        f"{who or 'no candidate keeps to the constraints'}; the nearest is candidate {found.best.number} "
        f"({'; '.join(missed)}); everything is saved, and report.html shows every candidate: go on searching with "
        f"resume={shlex.quote(str(run_folder))} budget.evaluations=…, or start again with lower bounds"
    )
