"""What racing and smaller subsets save, and what they cost: searches of the embedded family, and a replay of full scores.

Every seed is searched in full, raced, on half of the problems, and raced on these, drawn or chosen by disagreement. The first
table has the answers that the candidates gave and the test score of what was chosen, as a share of and a difference to the full
search's of the same seed. Sources, un-tuned merges and the test split are asked alike by all and not counted.

The second table replays races over the generations of the full searches, whose every candidate has all its scores, in many
orders: the share of the candidates that belong to the best of their generation and were stopped, beside the bound, and the
share of the answers that were asked for. A search takes about a minute on a core. The others take over what the full one of
their seed was answered, which spares time and changes neither what they find nor how many answers they are said to ask for.
What is finished is not run again; a folder with runs of other words is refused.

    python benchmarks/racing.py --seeds 10 --jobs 2
    python benchmarks/racing.py --seeds 10 --jobs 2 --only full "half, raced"
"""

import argparse
import itertools
import json
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from omegaconf import OmegaConf

from evo_merge.evaluation.base import Evaluation
from evo_merge.racing.race import Race
from evo_merge.racing.rules import Rules
from evo_merge.recipe import Recipe, recipe_hash
from evo_merge.study import Study, opened
from evo_merge.study_records import StoredCandidate
from evo_merge.tasks.base import Portion

WORDS = ("generator.batch_size=128", "tracker=none")
FIXED = ("evaluation.batch=100", "evaluation.subset=fixed")
SEARCHES: Mapping[str, tuple[str, ...]] = {
    "full": (),
    "raced": ("evaluation.racing=true",),
    "half": FIXED,
    "half, raced": (*FIXED, "evaluation.racing=true"),
    "disagreement, raced": ("evaluation.batch=100", "evaluation.subset=disagreement", "evaluation.racing=true"),
}
REPLAYED = (Rules(), Rules(risk=0.2), Rules(keep=0.25), Rules(slices=6))
ORDERS = 20


def main() -> None:
    """Search what is missing, and print both tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--jobs", type=int, default=1, help="processes at a time")
    parser.add_argument("--only", nargs="+", choices=SEARCHES, default=list(SEARCHES), help="kinds of searches; full is always")
    parser.add_argument("--out", type=Path, default=Path("outputs/racing"))
    parser.add_argument("--replay", type=Path, nargs="+", help="only replay the races of these full runs")
    options, more = parser.parse_known_args()
    if options.replay is not None:
        print("\n".join(replay_table(options.replay)))
        return
    names = dict.fromkeys(["full", *options.only])  # the full ones first: the others take over from them
    jobs = [(name, seed) for name in names for seed in range(1, options.seeds + 1)]
    words = {job: words_of(*job, options.out, more) for job in jobs}
    for job in jobs:
        refuse_other_words(folder_of(*job, options.out), words[job])
    for are_full in (True, False):
        with ThreadPoolExecutor(options.jobs) as pool:
            these = [job for job in jobs if (job[0] == "full") == are_full]
            list(pool.map(lambda job: run(folder_of(*job, options.out), words[job]), these))
    summaries = {job: json.loads((folder_of(*job, options.out) / "summary.json").read_text("utf-8")) for job in jobs}
    full = [folder_of("full", seed, options.out) for seed in range(1, options.seeds + 1)]
    print("\n".join([*search_table(summaries), "", *replay_table(full)]))


def folder_of(name: str, seed: int, out: Path) -> Path:
    """Where a search of the comparison is kept."""
    return out / f"{name.replace(', ', '-')}-{seed}"


def words_of(name: str, seed: int, out: Path, more: Sequence[str]) -> list[str]:
    """The command of a search."""
    reuse = [] if name == "full" else [f"evaluation.reuse={folder_of('full', seed, out)}"]
    return [*WORDS, *SEARCHES[name], f"seed={seed}", *reuse, *more]


def refuse_other_words(folder: Path, words: Sequence[str]) -> None:
    """Exit where the folder has a run of another command; Hydra keeps each run's words beside it."""
    kept = folder / ".hydra" / "overrides.yaml"
    if not (folder / "study.sqlite").exists():
        return
    if not kept.is_file() or list(OmegaConf.load(kept)) != list(words):
        raise SystemExit(f"'{folder}' holds a run of other words than '{' '.join(words)}'; choose another --out, or remove it")


def run(folder: Path, words: Sequence[str]) -> None:
    """One search, once, however often this is called."""
    if not (folder / "summary.json").exists():
        asked = [f"resume={folder}"] if (folder / "study.sqlite").exists() else [*words, f"hydra.run.dir={folder}"]
        subprocess.run([sys.executable, "-m", "evo_merge", *asked], check=True, stdout=subprocess.DEVNULL)


def search_table(summaries: Mapping[tuple[str, int], Mapping[str, Any]]) -> Iterator[str]:
    """Lines of Markdown: of each kind of search the answers and the test score over the seeds."""
    seeds = sorted({seed for _, seed in summaries})
    answers = {job: summary["search"]["answers"] for job, summary in summaries.items()}
    tests = {job: summary["test"]["best"]["score"] for job, summary in summaries.items()}
    yield "| search | candidates stopped | answers | of full | test score | difference to full | its standard error |"
    yield "|---|---|---|---|---|---|---|"
    for name in dict.fromkeys(name for name, _ in summaries):
        stopped = np.mean([summaries[name, seed]["search"].get("stopped", {}).get("count", 0) for seed in seeds])
        asked = np.mean([answers[name, seed] for seed in seeds])
        share = np.mean([answers[name, seed] / answers["full", seed] for seed in seeds])
        score = np.mean([tests[name, seed] for seed in seeds])
        gained = [tests[name, seed] - tests["full", seed] for seed in seeds]
        error = f"{np.std(gained, ddof=1) / np.sqrt(len(gained)):.4f}" if len(gained) > 1 else ""
        yield f"| {name} | {stopped:.1f} | {asked:,.0f} | {share:.2f} | {score:.4f} | {np.mean(gained):+.4f} | {error} |"


@dataclass(frozen=True)
class Scored:
    """An evaluator that knows every score already."""

    known: Mapping[str, Evaluation]

    @classmethod
    def of(cls, study: Study) -> "Scored":
        """By the recipes of all candidates."""
        found = {recipe_hash(c.recipe): study.evaluation(c.recipe, "search") for c in study.candidates()}
        return cls({digest: evaluation for digest, evaluation in found.items() if evaluation is not None})

    def evaluate(self, recipe: Recipe, portion: Portion) -> Evaluation:
        """Some of what the recipe scored on the whole search split."""
        whole = self.known[recipe_hash(recipe)]
        if portion.positions is None or whole.failure is not None:
            return whole
        return replace(whole, scores=whole.scores[list(portion.positions)], positions=portion.positions)


@dataclass(frozen=True)
class Replay:
    """What races over known scores came to."""

    best: int  # candidates that belong to the best of their generation
    lost: int  # of these, stopped
    stopped: int
    candidates: int
    asked: int
    whole: int  # answers without a race


def replay(study: Study, rules: Rules, n_examples: int) -> Replay:
    """Race every generation of a run in full, in many orders."""
    totals = np.zeros(6, dtype=np.int64)
    generations = [list(members) for _, members in itertools.groupby(study.candidates(), key=_generation)]
    evaluator = Scored.of(study)
    for members, order in itertools.product(generations, range(ORDERS)):
        recipes = [member.recipe for member in members]
        race = Race(rules, {"": [n_examples]}, seed=order)
        outcomes = list(race.outcomes(evaluator, recipes, Portion("search"), members[0].number))
        full = np.asarray([evaluator.evaluate(recipe, Portion("search")).fitness[0] for recipe in recipes])
        kept = max(1, int(len(recipes) * rules.keep))
        is_best = np.asarray([(full > score).sum() < kept for score in full])
        is_stopped = np.asarray([outcome.asked is not None for outcome in outcomes])
        asked = sum(len(outcome.evaluation.scores) for outcome in outcomes)
        lost = (is_best & is_stopped).sum()
        totals += [is_best.sum(), lost, is_stopped.sum(), len(recipes), asked, len(recipes) * n_examples]
    return Replay(*totals.tolist())


def replay_table(folders: Sequence[Path]) -> Iterator[str]:
    """Lines of Markdown: of each set of rules what races over the full runs came to."""
    yield "| slices | keep | risk | of the best, stopped | bound | of the stopped, were best | candidates stopped | answers |"
    yield "|---|---|---|---|---|---|---|---|"
    for rules in REPLAYED:
        sums = np.zeros(6, dtype=np.int64)
        for folder in folders:
            with opened(Study.read(folder)) as study:
                found = replay(study, rules, len(study.examples("search")))
            sums += [found.best, found.lost, found.stopped, found.candidates, found.asked, found.whole]
        best, lost, stopped, candidates, asked, whole = sums.tolist()
        share = lost / stopped if stopped else 0.0
        yield (
            f"| {rules.slices} | {rules.keep:g} | {rules.risk:g} | {lost} of {best:,} ({lost / best:.4f}) | {rules.risk:g} | "
            f"{share:.4f} | {stopped / candidates:.2f} | {asked / whole:.2f} |"
        )


def _generation(candidate: StoredCandidate) -> tuple[str, int]:
    return candidate.stage, candidate.generation


if __name__ == "__main__":
    main()
