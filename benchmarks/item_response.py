"""How well a score on all problems is known from some: ``python benchmarks/item_response.py RUN…``, of runs scored in full.

A quarter of a run's models are taken to have been asked some of the search problems only, many times over. For each number of
problems: how far their mean over these is from their mean over all, how far the item-response estimate is, the standard error
that it states, and how often the truth lies within two of them.
"""

import argparse
from pathlib import Path

import numpy as np

from evo_merge.statistics.item_response import estimated_scores
from evo_merge.study import Study, opened

ASKED = (25, 50, 100)
ROUNDS = 20


def main() -> None:
    """Print a table a run; root mean squares in points."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", type=Path, nargs="+")
    parser.add_argument("--metric", default="accuracy")
    options = parser.parse_args()
    for run in options.runs:
        with opened(Study.read(run)) as study:
            answers = np.stack(list(study.columns("search", options.metric).values()))
        print(f"{run}: {answers.shape[0]} models, {answers.shape[1]} problems")
        print("asked   mean of these   estimate   stated   within two")
        chance = np.random.default_rng(0)
        for n_asked in [n for n in ASKED if n < answers.shape[1]]:
            rows = np.concatenate([_round(answers, n_asked, chance) for _ in range(ROUNDS)])
            by_mean, by_estimate, stated = 100 * rows.T
            rms = [np.sqrt(np.mean(values**2)) for values in (by_mean, by_estimate, stated)]
            within = np.mean(np.abs(by_estimate) <= 2 * stated)
            print(f"{n_asked:5d}   {rms[0]:13.1f}   {rms[1]:8.1f}   {rms[2]:6.1f}   {100 * within:8.0f} %")


def _round(answers: np.ndarray, n_asked: int, chance: np.random.Generator) -> np.ndarray:
    """``(n, 3)``: error of the mean, error of the estimate, and the stated one, of a quarter of the models."""
    n_models, n_problems = answers.shape
    partly = chance.choice(n_models, n_models // 4, replace=False)
    asked = chance.choice(n_problems, n_asked, replace=False)
    left = np.setdiff1d(np.arange(n_problems), asked)
    known = answers.copy()
    known[np.ix_(partly, left)] = np.nan
    found, truth = estimated_scores(known), answers.mean(axis=1)
    by_mean = answers[np.ix_(partly, asked)].mean(axis=1) - truth[partly]
    return np.stack([by_mean, (found.scores - truth)[partly], found.errors[partly]], axis=1)


if __name__ == "__main__":
    main()
