"""Two objectives at equal budget: NSGA-II's front against CMA-ES on the equal-weight sum.

Both search the same pool for Japanese and English problems, by ``linear``: its weights are divided by their sum, so that what
one language gains the other pays for. (By methods with task vectors one merge is nearly the best at both.) Every candidate that
either evaluated is then scored on the test split, and the hypervolume of the test scores that no other candidate of the same
search dominates is compared; the reference point is 0 in both. Generations are never cut and one search may propose a recipe
twice, so of each seed the first n distinct candidates of both searches are compared, n being the smaller number of the two. A
search takes about two minutes on a core, and its test scores as long again. What is finished is not run again; a folder with
runs of other words is refused.

    python benchmarks/objectives.py --seeds 5 --jobs 2
"""

import argparse
import csv
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from omegaconf import DictConfig, OmegaConf

from evo_merge.compose import compose_parts
from evo_merge.config import run_settings
from evo_merge.evaluation.setup import few_threads, new_evaluator
from evo_merge.models.assemble import Assembler
from evo_merge.pareto import front, hypervolume
from evo_merge.recipe import Recipe, recipe_hash
from evo_merge.study import Study, opened
from evo_merge.tasks.base import Portion

TASK = ("merge=linear", "task=several", "+task@task.parts.ja=tiny_ja_math", "+task@task.parts.en=tiny_en_math")
SEARCHES = {
    "nsga2": ("optimizer=nsga2",),
    "weighted_sum": ("optimizer=cmaes", "scalarize=weighted_sum"),
}
REFERENCE = (0.0, 0.0)


def main() -> None:
    """Search, score, and print the table; ``scores.csv`` has every candidate's two test scores."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--budget", type=int, default=240, help="candidates")
    parser.add_argument("--problems", type=int, default=200, help="of each language in the search split")
    parser.add_argument("--tests", type=int, default=250, help="of each language in the test split")
    parser.add_argument("--jobs", type=int, default=1, help="processes at a time")
    parser.add_argument("--out", type=Path, default=Path("outputs/objectives"))
    parser.add_argument("--score", type=Path, help=argparse.SUPPRESS)  # a run folder: the second half of a job
    options, more = parser.parse_known_args()
    if options.score is not None:
        np.save(options.score / "test_scores.npy", test_scores(options.score), allow_pickle=False)
        return
    jobs = [(name, seed) for seed in range(1, options.seeds + 1) for name in SEARCHES]
    for job in jobs:
        refuse_other_words(folder_of(*job, options), words_of(*job, options, more))
    with ThreadPoolExecutor(options.jobs) as pool:
        list(pool.map(lambda job: run(*job, options, more), jobs))
    found = {job: np.load(folder_of(*job, options) / "test_scores.npy", allow_pickle=False) for job in jobs}
    own_fronts = {seed: front_size(folder_of("nsga2", seed, options)) for name, seed in jobs if name == "nsga2"}
    write(found, options.out / "scores.csv")
    print("\n".join(table(found, own_fronts)))


def folder_of(name: str, seed: int, options: argparse.Namespace) -> Path:
    """Where a search of the comparison is kept."""
    return Path(options.out) / f"{name}-{seed}"


def words_of(name: str, seed: int, options: argparse.Namespace, more: Sequence[str]) -> list[str]:
    """The command of a search."""
    limits = [
        f"task.parts.{part}.limit.{split}={n}"
        for part in ("ja", "en")
        for split, n in (("search", options.problems), ("test", options.tests))
    ]
    return [*TASK, *SEARCHES[name], *limits, f"seed={seed}", f"budget.evaluations={options.budget}", "tracker=none", *more]


def refuse_other_words(folder: Path, words: Sequence[str]) -> None:
    """Exit where the folder has a run of another command; Hydra keeps each run's words beside it."""
    kept = folder / ".hydra" / "overrides.yaml"
    if not (folder / "study.sqlite").exists():
        return
    if not kept.is_file() or list(OmegaConf.load(kept)) != list(words):
        raise SystemExit(f"'{folder}' holds a run of other words than '{' '.join(words)}'; choose another --out, or remove it")


def run(name: str, seed: int, options: argparse.Namespace, more: Sequence[str]) -> None:
    """One search and its test scores, each once, however often this is called."""
    folder = folder_of(name, seed, options)
    if not (folder / "summary.json").exists():
        begun = (folder / "study.sqlite").exists()
        asked = [f"resume={folder}"] if begun else [*words_of(name, seed, options, more), f"hydra.run.dir={folder}"]
        subprocess.run([sys.executable, "-m", "evo_merge", *asked], check=True, stdout=subprocess.DEVNULL)
    if not (folder / "test_scores.npy").exists():
        subprocess.run([sys.executable, __file__, "--score", str(folder)], check=True)


def recipes(study: Study) -> Iterator[Recipe]:
    """Every distinct recipe that the search evaluated, in the order of the search."""
    seen: set[str] = set()
    for candidate in study.candidates():
        digest = recipe_hash(candidate.recipe)
        if digest not in seen and study.is_evaluated(candidate.recipe, "search"):
            seen.add(digest)
            yield candidate.recipe


def test_scores(folder: Path) -> NDArray[np.float64]:
    """``(n_candidates, 2)``, the two objectives of every candidate of a run on the test split."""
    with opened(Study.read(folder)) as study:
        config = OmegaConf.create(study.get("config") or "")
        assert isinstance(config, DictConfig)
        OmegaConf.set_struct(config, False)  # noqa: FBT003
        parts = compose_parts(config, run_settings(config))
        asked = list(recipes(study))
    with few_threads(parts.pool):
        assembler = Assembler(parts.pool, parts.trainer.strategy.root_device, parts.allowed_code)
        evaluator = new_evaluator(assembler, parts.task, parts.generator, parts.trainer, ["test"], [])
        return np.stack([evaluator.evaluate(recipe, Portion("test")).objectives for recipe in asked])


def write(found: dict[tuple[str, int], NDArray[np.float64]], path: Path) -> None:
    """A row a candidate."""
    with path.open("w", newline="", encoding="utf-8") as file:
        rows = csv.writer(file)
        rows.writerow(["search", "seed", "candidate", "ja", "en"])
        for (name, seed), scores in found.items():
            rows.writerows([name, seed, number, *row] for number, row in enumerate(scores.tolist()))


def front_size(folder: Path) -> int:
    """Members of a run's own front, by search scores; of a single one no folder is written."""
    return max(1, len(list((folder / "front").glob("*.yaml"))))


def table(found: Mapping[tuple[str, int], NDArray[np.float64]], own_fronts: Mapping[int, int]) -> Iterator[str]:
    """Lines of Markdown: hypervolumes and sizes of the fronts of test scores.

    Args:
        found: ``(n_candidates, 2)`` test scores by search and seed, in the order of the search; may be of unequal lengths.
        own_fronts: By seed the size of NSGA-II's own front, by search scores and of all its candidates.
    """
    yield "| seed | n | NSGA-II: hypervolume | front (test) | front (search) | weighted sum: hypervolume | front (test) |"
    yield "|---|---|---|---|---|---|---|"
    volumes: dict[str, list[float]] = {name: [] for name in SEARCHES}
    for seed, own_front in own_fronts.items():
        n = min(len(found[name, seed]) for name in SEARCHES)
        cells = []
        for name in SEARCHES:
            scores = found[name, seed][:n]
            volumes[name].append(hypervolume(scores, REFERENCE))
            cells += [f"{volumes[name][-1]:.3f}", str(len(front(scores)))]
            if name == "nsga2":
                cells.append(str(own_front))
        yield f"| {seed} | {n} | {' | '.join(cells)} |"
    yield f"| mean ± sd | | {_mean(volumes['nsga2'])} | | | {_mean(volumes['weighted_sum'])} | |"


def _mean(values: Sequence[float]) -> str:
    """With the standard deviation, which one value has not."""
    return f"{np.mean(values):.3f}" + (f" ± {np.std(values, ddof=1):.3f}" if len(values) > 1 else "")


if __name__ == "__main__":
    main()
