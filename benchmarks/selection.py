"""Simulated selection with known truth: how far off the reported score of the best of 1000 is, and how often "beats" is wrong.

A problem is solved where ability + easiness + luck > 0, with standard normal easiness (one a problem) and luck (one a problem
and candidate, alike for candidates that are alike), so that the share of all problems of the kind that a candidate solves is
known exactly. The first table has the mean error of each estimate, and its standard deviation over the simulated searches, in
standard errors of the chosen candidate's score. The second counts how often a run says of the chosen candidate, or of a member
of a front, that it beats a source which is in truth as good or better.

    python benchmarks/selection.py                       # a few minutes on a core
    python benchmarks/selection.py --runs 50 --claims 500
"""

import argparse
from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from evo_merge.statistics.correction import holm
from evo_merge.statistics.paired import paired_test
from evo_merge.statistics.selection import bootstrap_selection, corrected_score, split_sample

Array = NDArray[np.float64]
Search = Callable[[np.random.Generator, int, int], tuple[Array, Array]]  # candidates' truths, scores
CANDIDATES = 1000
PROBLEMS = (100, 500)
_SPREAD = np.sqrt(2.0)  # of easiness and luck together
_FEATURES = 100
_GENES = 4
_GENERATIONS = 20


def equal(rng: np.random.Generator, n_candidates: int, n_problems: int) -> tuple[Array, Array]:
    """All candidates are equally good: the whole lead is luck."""
    return _independent(rng, np.full(n_candidates, 0.5), n_problems)


def spread(rng: np.random.Generator, n_candidates: int, n_problems: int) -> tuple[Array, Array]:
    """Truths are normal around 50 %, with a deviation of 5 points, that of luck with 100 problems."""
    return _independent(rng, np.clip(rng.normal(0.5, 0.05, n_candidates), 0.01, 0.99), n_problems)


def broken(rng: np.random.Generator, n_candidates: int, n_problems: int) -> tuple[Array, Array]:
    """Most candidates solve next to nothing, the others are spread evenly: an early population."""
    truth = np.where(rng.random(n_candidates) < 0.7, 0.02, rng.uniform(0.02, 0.7, n_candidates))
    return _independent(rng, truth, n_problems)


def few_good(rng: np.random.Generator, n_candidates: int, n_problems: int) -> tuple[Array, Array]:
    """Five candidates are far better than all others, and alike."""
    return _independent(rng, np.where(rng.permutation(n_candidates) < 5, 0.5, 0.3), n_problems)


def alike(rng: np.random.Generator, n_candidates: int, n_problems: int) -> tuple[Array, Array]:
    """Candidates close in with time on an optimum; neighbours answer alike. Where they go does not depend on their scores."""
    time = np.arange(n_candidates) // (n_candidates // _GENERATIONS) / (_GENERATIONS - 1)
    genomes = 0.5 * (1 - 0.85 * time)[:, None] * rng.normal(size=(n_candidates, _GENES))
    genomes[:, 0] += 1 - time
    return _truths(genomes), _Landscape(rng, n_problems).scores(genomes)


def adaptive(rng: np.random.Generator, n_candidates: int, n_problems: int) -> tuple[Array, Array]:
    """An evolution strategy on the same landscape, which goes where scores were high: luck is inherited."""
    landscape = _Landscape(rng, n_problems)
    size = n_candidates // _GENERATIONS
    mean, deviation = np.eye(_GENES)[0], np.full(_GENES, 0.5)
    genomes, scores = [], []
    for _ in range(_GENERATIONS):
        asked = mean + deviation * rng.normal(size=(size, _GENES))
        answered = landscape.scores(asked)
        elite = asked[np.argsort(-answered.mean(axis=1))[: size // 4]]
        mean, deviation = elite.mean(axis=0), elite.std(axis=0) + 0.05
        genomes.append(asked)
        scores.append(answered)
    return _truths(np.concatenate(genomes)), np.concatenate(scores)


SEARCHES: Mapping[str, Search] = {
    "equal": equal,
    "spread": spread,
    "broken": broken,
    "few good": few_good,
    "alike": alike,
    "adaptive": adaptive,
}
ESTIMATES: Mapping[str, Callable[[Array], float]] = {
    "observed": lambda scores: float(scores.mean(axis=1).max()),
    "bootstrap": bootstrap_selection,
    "halves": split_sample,
    "corrected": lambda scores: corrected_score(scores).corrected,
}


def main() -> None:
    """Print both tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=400, help="simulated searches a row of the first table")
    parser.add_argument("--claims", type=int, default=2000, help="simulated runs a row of the second")
    parser.add_argument("--searches", nargs="*", choices=list(SEARCHES), default=list(SEARCHES))
    parser.add_argument("--problems", nargs="*", type=int, default=PROBLEMS)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    print(f"| best of {CANDIDATES} | problems | {' | '.join(ESTIMATES)} |")
    print(f"|---|---:|{'---:|' * len(ESTIMATES)}")
    for name in options.searches:
        for n_problems in options.problems:
            errors = errors_of(SEARCHES[name], n_problems, options.runs, options.seed)
            cells = (f"{each.mean():+.2f} ± {each.std():.2f}" for each in errors.T)
            print(f"| {name} | {n_problems} | {' | '.join(cells)} |", flush=True)
    if not options.claims:
        return
    print("\n| test problems | who is compared with how many sources | wrong by p | wrong by p (Holm) |\n|---:|---|---:|---:|")
    for n_problems in options.problems:
        for members, sources in ((1, 1), (1, 3), (5, 3)):
            raw, corrected = wrong_claims(n_problems, members, sources, options.claims, options.seed)
            print(f"| {n_problems} | {members} with {sources} | {raw:.1%} | {corrected:.1%} |", flush=True)


def errors_of(search: Search, n_problems: int, runs: int, seed: int, n_candidates: int = CANDIDATES) -> Array:
    """``(runs, n_estimates)``: each estimate less the chosen candidate's truth, in standard errors of its score."""
    rng = np.random.default_rng(seed)
    errors = []
    for _ in range(runs):
        truth, scores = search(rng, n_candidates, n_problems)
        chosen = truth[scores.mean(axis=1).argmax()]
        error = np.sqrt(chosen * (1 - chosen) / n_problems)
        common = scores.mean() - truth.mean()  # luck of all candidates alike, 0 on average: less of it to average away
        errors.append([(estimate(scores) - chosen - common) / error for estimate in ESTIMATES.values()])
    return np.asarray(errors)


def wrong_claims(n_problems: int, members: int, sources: int, runs: int, seed: int) -> tuple[float, float]:
    """Share of runs that say of anyone that it beats a source, by p alone and by Holm's.

    The members are the best of 200 by their search scores; the sources are in truth as good as the best member. All are asked
    the test problems once.
    """
    rng = np.random.default_rng(seed)
    wrong = np.zeros(2)
    for _ in range(runs):
        truth, searched = spread(rng, 200, n_problems)
        found = truth[np.argsort(-searched.mean(axis=1))[:members]]
        _, test = _independent(rng, np.append(found, np.full(sources, found.max())), n_problems)
        pairs = [paired_test(test[i], test[members + j]) for i in range(members) for j in range(sources)]
        ahead = np.asarray([pair.difference > 0 for pair in pairs])
        raw = np.asarray([pair.p for pair in pairs])
        wrong += [(ahead & (p < 0.05)).any() for p in (raw, np.asarray(holm(raw.tolist())))]
    return float(wrong[0] / runs), float(wrong[1] / runs)


class _Landscape:
    """Problems whose luck is a smooth random function of the genome (random Fourier features), and a tenth of it not."""

    def __init__(self, rng: np.random.Generator, n_problems: int) -> None:
        self._rng = rng
        self._easiness = rng.normal(size=n_problems)
        self._waves = rng.normal(size=(_GENES, _FEATURES))
        self._weights = rng.normal(size=(2 * _FEATURES, n_problems)) / np.sqrt(_FEATURES)

    def scores(self, genomes: Array) -> Array:
        phases = genomes @ self._waves
        smooth = np.concatenate([np.cos(phases), np.sin(phases)], axis=1) @ self._weights  # of variance 1
        luck = np.sqrt(0.9) * smooth + np.sqrt(0.1) * self._rng.normal(size=smooth.shape)
        return _solved(_truths(genomes), self._easiness, luck)


def _truths(genomes: Array) -> Array:
    return np.clip(0.6 - 0.3 * (genomes**2).sum(axis=1), 0.02, None)


def _independent(rng: np.random.Generator, truth: Array, n_problems: int) -> tuple[Array, Array]:
    return truth, _solved(truth, rng.normal(size=n_problems), rng.normal(size=(len(truth), n_problems)))


def _solved(truth: Array, easiness: Array, luck: Array) -> Array:
    return (_SPREAD * stats.norm.ppf(truth)[:, None] + easiness + luck > 0).astype(np.float64)


if __name__ == "__main__":
    main()
