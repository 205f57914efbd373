"""What a run leaves in its folder: the recipe, the checkpoint with its card, the other members of a front, the report."""

import json
import logging
import shutil
from collections.abc import Iterator
from pathlib import Path

from evo_merge.archive import FOLDER, read_archive, write_archive
from evo_merge.baselines import single_model
from evo_merge.choose import Choice
from evo_merge.compose import Parts
from evo_merge.evaluation.setup import new_evaluator
from evo_merge.licences import StatedLicence
from evo_merge.models.assemble import Assembler
from evo_merge.models.checkpoint import write_checkpoint
from evo_merge.models.pool import Pool
from evo_merge.models.reference import absolute_recipe
from evo_merge.recipe import DataFlowRecipe, Recipe, to_yaml
from evo_merge.report.model_card import model_card, recipe_card
from evo_merge.report.write import replace_text, write_report
from evo_merge.study import Study
from evo_merge.tasks.base import Portion

log = logging.getLogger(__name__)
_MOST_TESTED = 50  # members of an archive
_COMPARED = 50  # answers of the written model and of the candidate


def tested(study: Study) -> Iterator[Recipe]:
    """Who is asked the test split: everyone that is compared, and the members of an archive, where they are not too many."""
    yield from (entrant.recipe for entrant in study.entrants())
    for stage in sorted(study.stages()):
        archive = read_archive(study, stage)
        members = () if archive is None else archive.candidates
        if len(members) > _MOST_TESTED:
            log.warning(
                "the archive has %d members, more than %d, so they are not asked the test split", len(members), _MOST_TESTED
            )
            continue
        yield from (study.candidate(number).recipe for number in members)


def deliver(parts: Parts, study: Study, folder: Path, found: Choice) -> list[Path]:
    """Write what was found: recipe, checkpoint with its card, front, archive and report; returns where they are."""
    best = found.best.recipe
    recipe = replace_text(folder / "recipe.yaml", to_yaml(absolute_recipe(best)))
    shutil.rmtree(folder / "front", ignore_errors=True)  # of a resumed run that chose again, like the model
    for member in found.front if len(found.front) > 1 else ():
        replace_text(folder / "front" / f"{member.number}.yaml", to_yaml(absolute_recipe(member.recipe)))
        if parts.settings.export == "front":
            exported = folder / "front" / str(member.number)
            write_checkpoint(member.recipe, parts.pool, exported, allowed_code=parts.allowed_code)
            name = f"{parts.task.name}, candidate {member.number} of a front"
            card = recipe_card(member.recipe, name=name, licences=_licences(parts, member.recipe))
            replace_text(exported / "README.md", card)
    write_archive(folder, study, sorted(study.stages()))
    model = folder / "model"
    shutil.rmtree(model, ignore_errors=True)
    write_checkpoint(best, parts.pool, model, allowed_code=parts.allowed_code)
    if isinstance(best, DataFlowRecipe):
        _compare_written(parts, study, best, model)
    reports = write_report(folder, study)
    summary = json.loads((folder / "summary.json").read_text(encoding="utf-8"))
    card = model_card(
        summary,
        best,
        name=f"{parts.task.name}, evolved by evo-merge",
        licences=_licences(parts, best),
        languages=() if parts.task.language is None else (parts.task.language,),
        prompt=parts.task.prompt(parts.task.examples("test")[0]),
    )
    replace_text(model / "README.md", card)
    return [recipe, *reports, *(each for each in (folder / "front", folder / FOLDER) if each.is_dir()), model]


def _licences(parts: Parts, recipe: Recipe) -> dict[str, tuple[StatedLicence, ...]]:
    """What each model in a merge states, by name."""
    return {model.name: model.licences for model in parts.pool.models_in(recipe)}


def _compare_written(parts: Parts, study: Study, best: DataFlowRecipe, model: Path) -> None:
    """Ask the written checkpoint some test problems: its scales are in its weights, and rounding them could show."""
    asked = Portion("test", tuple(range(min(_COMPARED, len(parts.task.examples("test"))))))
    written = Pool(base=None, sources=[{"name": "written", "model": str(model)}])
    assembler = Assembler(written, parts.trainer.strategy.root_device)
    evaluator = new_evaluator(assembler, parts.task, parts.generator, parts.trainer, ["test"], ())
    evaluation = evaluator.evaluate(single_model(written.leader.reference, written.out_dtype), asked)
    scored = study.evaluation(best, "test")
    if scored is None or scored.failure is not None or evaluation.failure is not None:
        return
    same = sum(map(str.__eq__, evaluation.completions, scored.completions))
    study.set("written_compared", json.dumps({"same": same, "of": len(evaluation.completions)}))
    if same < len(evaluation.completions):
        log.warning(
            "the written model answers %d of %d test problems otherwise than the candidate that was scored",
            len(evaluation.completions) - same,
            len(evaluation.completions),
        )
