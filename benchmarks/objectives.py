"""Two objectives at equal budget: NSGA-II's front against CMA-ES on the equal-weight sum.

Both search the same pool for Japanese and English problems, by ``linear``: its weights are divided by their sum, so that what
one language gains the other pays for. (By methods with task vectors one merge is nearly the best at both.) Every candidate that
either evaluated is then scored on the test split, and the hypervolume of the test scores that no other candidate of the same
search dominates is compared; the reference point is 0 in both. A search takes about two minutes on a core, and its test scores
as long again.

    python benchmarks/objectives.py --seeds 5 --budget 180 --jobs 2
"""

import argparse
import csv
import subprocess
import sys
from collections.abc import Iterator
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
    parser.add_argument("--budget", type=int, default=180, help="candidates")
    parser.add_argument("--problems", type=int, default=100, help="of each language in the search split")
    parser.add_argument("--tests", type=int, default=250, help="of each language in the test split")
    parser.add_argument("--jobs", type=int, default=1, help="processes at a time")
    parser.add_argument("--out", type=Path, default=Path("outputs/objectives"))
    parser.add_argument("--score", type=Path, help=argparse.SUPPRESS)  # a run folder: the second half of a job
    options, more = parser.parse_known_args()
    if options.score is not None:
        np.save(options.score / "test_scores.npy", test_scores(options.score), allow_pickle=False)
        return
    jobs = [(name, seed) for seed in range(1, options.seeds + 1) for name in SEARCHES]
    with ThreadPoolExecutor(options.jobs) as pool:
        list(pool.map(lambda job: run(*job, options, more), jobs))
    found = {job: np.load(folder_of(*job, options) / "test_scores.npy", allow_pickle=False) for job in jobs}
    write(found, options.out / "scores.csv")
    print("\n".join(table(found, options)))


def folder_of(name: str, seed: int, options: argparse.Namespace) -> Path:
    """Where a search of the comparison is kept."""
    return Path(options.out) / f"{name}-{seed}"


def run(name: str, seed: int, options: argparse.Namespace, more: list[str]) -> None:
    """One search and its test scores, each once, however often this is called."""
    folder = folder_of(name, seed, options)
    limits = [
        f"task.parts.{part}.limit.{split}={n}"
        for part in ("ja", "en")
        for split, n in (("search", options.problems), ("test", options.tests))
    ]
    words = [*TASK, *SEARCHES[name], *limits, f"seed={seed}", f"budget.evaluations={options.budget}", "tracker=none", *more]
    if not (folder / "summary.json").exists():
        new = [f"resume={folder}"] if (folder / "study.sqlite").exists() else [*words, f"hydra.run.dir={folder}"]
        subprocess.run([sys.executable, "-m", "evo_merge", *new], check=True, stdout=subprocess.DEVNULL)
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


def table(found: dict[tuple[str, int], NDArray[np.float64]], options: argparse.Namespace) -> Iterator[str]:
    """Hypervolumes and sizes of the fronts of test scores, and of NSGA-II's own front (by search scores)."""
    yield "| seed | NSGA-II: hypervolume | front (test) | front (search) | weighted sum: hypervolume | front (test) |"
    yield "|---|---|---|---|---|---|"
    volumes: dict[str, list[float]] = {name: [] for name in SEARCHES}
    for seed in range(1, options.seeds + 1):
        cells = []
        for name in SEARCHES:
            scores = found[name, seed]
            volumes[name].append(hypervolume(scores, REFERENCE))
            cells += [f"{volumes[name][-1]:.3f}", str(len(front(scores)))]
            if name == "nsga2":
                cells.append(str(max(1, len(list((folder_of(name, seed, options) / "front").glob("*.yaml"))))))
        yield f"| {seed} | {' | '.join(cells)} |"
    means = {name: f"{np.mean(values):.3f} ± {np.std(values, ddof=1):.3f}" for name, values in volumes.items()}
    yield f"| mean ± sd | {means['nsga2']} | | | {means['weighted_sum']} | |"


if __name__ == "__main__":
    main()
