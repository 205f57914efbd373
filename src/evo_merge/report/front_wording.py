"""The Pareto front of a run in words and numbers, as the page shows them."""

import shlex
from dataclasses import dataclass
from pathlib import Path

from evo_merge.objectives import has_chance
from evo_merge.report.figures.front import MOST_PAIRS, MOST_TESTED
from evo_merge.report.hypervolumes import Hypervolumes
from evo_merge.report.results import Model, RunResults, scores
from evo_merge.report.views import views
from evo_merge.report.wording import listing, score_format
from evo_merge.statistics.intervals import interval

_MOST_MEMBERS = 50  # rows of the table; study.sqlite has all


@dataclass(frozen=True, slots=True)
class MemberScore:
    """One member's score in one objective on both splits; empty where it was not asked."""

    search: str
    test: str
    interval: str


@dataclass(frozen=True, slots=True)
class MemberRow:
    """A member of the front: its number, its scores in the order of the objectives, and its recipe file."""

    number: int
    is_chosen: bool
    scores: tuple[MemberScore, ...]
    file: str


@dataclass(frozen=True, slots=True)
class FrontWords:
    """What the page says of a front.

    Attributes:
        explanation: How to read the figure.
        rows: Members, the best in the first objective first; none of a front of one.
        n_left_out: Members that the table has no room for.
        command: Builds another member; empty where no recipe of one was written yet.
        hypervolume: How to read the figure of the hypervolume.
    """

    explanation: str
    rows: tuple[MemberRow, ...]
    n_left_out: int
    command: str
    hypervolume: str


def front_words(results: RunResults, run_folder: Path) -> FrontWords | None:
    """What there is to say; ``None`` where one number decides, or no candidate has a score."""
    members = results.front
    if not results.has_front or not members:
        return None
    models: dict[int | None, Model] = {model.number: model for model in results.of_role("front")}
    if results.best is not None:
        models[results.best_number] = results.best
    ordered = sorted(members, key=lambda c: (tuple(-value for value in c.fitness), c.number))
    rows = []
    for member in ordered[:_MOST_MEMBERS] if len(members) > 1 else ():  # the only one is in all other tables
        told = tuple(_scores(results, member.fitness, models.get(member.number)))
        file = f"front/{member.number}.yaml" if results.best is not None else ""
        rows.append(MemberRow(member.number, member.number == results.best_number, told, file))
    other = next((row for row in rows if not row.is_chosen and row.file), None)
    folder = shlex.quote(str(run_folder))
    command = "" if other is None else f"python -m evo_merge.build recipe={folder}/{other.file} out=merged"
    return FrontWords(
        explanation=_explanation(results),
        rows=tuple(rows),
        n_left_out=max(0, len(members) - _MOST_MEMBERS),
        command=command,
        hypervolume="" if results.hypervolumes is None else _hypervolume(results, results.hypervolumes),
    )


def _scores(results: RunResults, fitness: tuple[float, ...], model: Model | None) -> list[MemberScore]:
    told = []
    for view, value in zip(views(results), fitness, strict=True):
        written = score_format(view)
        column = None if model is None else scores(model.test, view.objective)
        bounds = None if column is None or not has_chance(view.objective) else interval(column)
        told.append(
            MemberScore(
                search=written.score(value),
                test="" if column is None else written.score(float(column.mean())),
                interval="" if bounds is None else written.interval(bounds.low, bounds.high),
            )
        )
    return told


def _explanation(results: RunResults) -> str:
    chosen = "chosen" if results.best is not None else "leading"
    knee = ", the knee: with each objective scaled from 0 to 1 over the front, its sum is the greatest"
    knee = knee if len(results.front) > 2 and not results.none_keeps else ""
    members = "The large dots" if results.has_batches or results.selection == "validation" else "Those on the line"
    kept = " that keep to the constraints" if results.constraints else ""
    is_alone = len(results.front) == 1
    them = "it" if is_alone else "one of them"
    are = f"are the front: none of the candidates{kept} is better than {them} in an objective without being worse in another"
    if results.none_keeps:
        are = "are those that miss the constraints by least; none keeps to them, so there is no front yet"
    elif is_alone:
        members, are = "The one in the ring", are.replace("are the front", "is the whole front", 1)
    said = (
        f"Each dot is one candidate merge and its search scores; better is further up and further right. {members} "
        f"{are}. The ring is the {chosen} one{knee}. Rest the pointer on a point to see its recipe and scores; "
        "dots at the very edge lie further out."
    )
    if len(results.objectives) > 2:
        said += " With more than two objectives, a member of the front may look beaten in a drawing that shows two of them."
    n_pairs = len(results.objectives) * (len(results.objectives) - 1) // 2
    if n_pairs > MOST_PAIRS:
        said += f" Of {n_pairs} pairs of objectives the first {MOST_PAIRS} are drawn."
    if results.has_batches:
        said += (
            " Every generation was asked other problems, so dots of different generations cannot be compared, and no line is "
            "drawn; the front was chosen by the validation split."
        )
    elif results.selection == "validation":
        said += " The front was chosen by the validation split, so it need not be the outermost by these scores."
    if results.is_tested and len(results.front) <= MOST_TESTED:
        said += (
            " Open dots are the same merges on the test split: whoever is on the front of many was also lucky, and is expected "
            "to fall back."
        )
    return said


def _hypervolume(results: RunResults, found: Hypervolumes) -> str:
    points = zip(results.fitness_names, found.reference, found.is_worst, strict=True)
    reference = listing(
        [f"{value:.4g} in {name}{' (the worst of these candidates)' if worst else ''}" for name, value, worst in points]
    )
    kept = " that keep to the constraints" if results.constraints else ""
    before = f" Sources and un-tuned merges{kept} together have {found.before:.4g}." if found.before > 0 else ""
    return (
        f"The hypervolume is the volume between a reference point and the front of all candidates so far{kept}, here from "
        f"{reference}: it grows when a candidate is found that is not beaten, and by how much it adds. It ends at "
        f"{found.by_generation[-1]:.4g}.{before} These are search scores, of which the best of many are too good."
    )
