"""What is taken from an earlier study, and what is refused."""

from pathlib import Path

import numpy as np
import pytest
from cmaes import get_warm_start_mgd

from earlier_study import write_study
from evo_merge.errors import ConfigError
from evo_merge.genome import Gene, Genomes
from evo_merge.optimizers.cmaes_warm import CMAESWarm

GENES = (Gene("weight/ja", 0.0, 2.0, 1.0), Gene("weight/math", 0.0, 1.0, 0.5))


def drawn(n: int = 40) -> Genomes:
    return np.random.default_rng(3).uniform(size=(n, 2)) * [2.0, 1.0]


def fitness_of(genomes: Genomes) -> list[float]:
    return (-np.square(genomes - [1.6, 0.2]).sum(axis=1)).tolist()


def warm(folder: Path, genes: tuple[Gene, ...] = GENES, seed: int = 1, **changes: object) -> CMAESWarm:
    settings = {"gamma": 0.1, "alpha": 0.1, "population_size": None} | changes
    return CMAESWarm(genes, seed, study=str(folder), **settings)  # type: ignore[arg-type]


def test_the_first_generation_lies_where_the_best_of_the_earlier_run_did(tmp_path: Path) -> None:
    genomes = drawn()
    write_study(tmp_path / "run", {"": GENES}, genomes, fitness_of(genomes))
    first = warm(tmp_path / "run", population_size=4000).ask()
    # As the paper has it, section 4.1: the moments of the best tenth, in shares of the box, and alpha around each.
    best = genomes[np.argsort(fitness_of(genomes))[::-1][:4]] / [2.0, 1.0]
    mean, sigma, cov = get_warm_start_mgd([(point, 0.0) for point in best], gamma=1.0, alpha=0.1)
    np.testing.assert_allclose(mean, best.mean(axis=0))
    np.testing.assert_allclose(sigma**2 * cov, np.cov(best.T, bias=True) + 0.01 * np.eye(2))
    np.testing.assert_allclose((first / [2.0, 1.0]).mean(axis=0), mean, atol=0.02)  # the box cuts a little of it off
    np.testing.assert_allclose((first / [2.0, 1.0]).std(axis=0), np.sqrt(np.diag(sigma**2 * cov)), rtol=0.15)


def test_the_stage_with_the_same_genes_is_found_and_failed_candidates_are_left_out(tmp_path: Path) -> None:
    genomes = drawn()
    plain, mixed = fitness_of(genomes), fitness_of(genomes)
    write_study(tmp_path / "plain", {"": GENES}, genomes, plain)
    others = (Gene("slot/0", 0.0, 1.0, 0.5),)
    broken = np.concatenate([genomes, [[1.9, 0.9]] * 3])
    write_study(tmp_path / "stages", {"ps": GENES, "a>b": others}, broken, [*mixed, *[-np.inf] * 3])
    assert np.array_equal(warm(tmp_path / "plain").ask(), warm(tmp_path / "stages").ask())


@pytest.mark.parametrize(
    ("genes", "said"),
    [
        ((*GENES, Gene("c", 0.0, 1.0, 0.5)), "searched 2 genes, and this run has 3; name a run with the same sources"),
        (
            (GENES[0], Gene("weight/code", 0.0, 1.0, 0.5)),
            "searched a gene 'weight/math' where this run has 'weight/code'",
        ),
    ],
)
def test_other_genes_are_one_sentence(tmp_path: Path, genes: tuple[Gene, ...], said: str) -> None:
    write_study(tmp_path / "run", {"": GENES}, drawn(), fitness_of(drawn()))
    with pytest.raises(ConfigError, match=rf"^optimizer\.study: '.*run' {said}"):
        warm(tmp_path / "run", genes)


def test_a_folder_without_a_run_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"^optimizer\.study: '.*nowhere' holds no run"):
        warm(tmp_path / "nowhere")


def test_too_few_scored_candidates_are_one_sentence(tmp_path: Path) -> None:
    write_study(tmp_path / "run", {"": GENES}, drawn(11), [*fitness_of(drawn(9)), -np.inf, -np.inf])
    said = (
        r"has 9 scored candidates, and the best 0\.1 of them is not one; name a run with at least 10, or raise optimizer\.gamma"
    )
    with pytest.raises(ConfigError, match=said):
        warm(tmp_path / "run")
    assert warm(tmp_path / "run", gamma=0.5).ask().shape == (6, 2)


def test_a_run_with_several_objectives_is_refused(tmp_path: Path) -> None:
    genomes = drawn()
    both = list(zip(fitness_of(genomes), fitness_of(genomes[::-1]), strict=True))
    write_study(tmp_path / "run", {"": GENES}, genomes, both)
    with pytest.raises(ConfigError, match=r"^optimizer\.study: '.*run' has several objectives; name a run that had one$"):
        warm(tmp_path / "run")


def test_a_run_that_asked_each_generation_other_problems_is_refused(tmp_path: Path) -> None:
    write_study(tmp_path / "run", {"": GENES}, drawn(), fitness_of(drawn()), asked=(0, 3))
    said = r"^optimizer\.study: '.*run' asked other problems each generation, .* name a run with evaluation\.batch=null$"
    with pytest.raises(ConfigError, match=said):
        warm(tmp_path / "run")


@pytest.mark.parametrize("offset", [0.0, -1e9])
def test_candidates_that_miss_a_constraint_are_none_of_the_best(tmp_path: Path, offset: float) -> None:
    # Those with a large second gene miss it, and would be the best; fitness may be of any size.
    genomes = drawn()
    allowed = genomes[:, 1] < 0.5
    fitness = np.where(allowed, fitness_of(genomes), 1000.0) + offset
    write_study(tmp_path / "run", {"": GENES}, genomes, fitness.tolist(), violations=np.where(allowed, 0.0, 0.1).tolist())
    write_study(tmp_path / "allowed", {"": GENES}, genomes[allowed], fitness[allowed].tolist())
    n_best = 4
    of_all, of_allowed = n_best / len(genomes), (n_best + 0.5) / int(allowed.sum())
    assert np.array_equal(warm(tmp_path / "run", gamma=of_all).ask(), warm(tmp_path / "allowed", gamma=of_allowed).ask())


def test_more_genes_than_a_determinant_holds_are_one_sentence(tmp_path: Path) -> None:
    many = tuple(Gene(f"g{i}", 0.0, 1.0, 0.5) for i in range(200))
    write_study(tmp_path / "run", {"": many}, np.full((10, 200), 0.5), [0.0] * 10)
    with pytest.raises(ConfigError, match="the determinant of the first covariance of 200 genes is too small for a double"):
        warm(tmp_path / "run", many)


@pytest.mark.parametrize("changes", [{"gamma": 0.0}, {"gamma": 1.5}, {"alpha": 0.0}])
def test_shares_that_cannot_be_are_refused(tmp_path: Path, changes: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=rf"^optimizer\.{next(iter(changes))} must be above 0"):
        warm(tmp_path, **changes)
