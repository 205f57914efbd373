"""What every optimizer keeps, run on every ``conf/optimizer/*.yaml`` and on boxes of every kind of genes that it takes."""

import json
import os
import subprocess
import sys
from typing import Any

import numpy as np
import pytest

from evo_merge.errors import ConfigError
from evo_merge.evaluation.base import failed
from evo_merge.genome import Gene
from evo_merge.optimizers.box import EVERY_KIND, EVERY_KIND_BLIND
from optimizer_cases import (
    BLIND,
    BOUNDED,
    BOXES,
    LEARNING,
    NAMES,
    UNBOUNDED,
    assert_inside,
    build,
    class_of,
    comes_closer,
    each_case,
    each_name,
    kinds_of,
    length_of,
    rounds,
    run,
    scored,
    sphere,
)


@each_case
def test_proposals_are_rows_of_genes_inside_the_box(name: str, box: str) -> None:
    # The optimum lies outside the box, so that the search presses against its sides.
    genes = BOXES[box]
    lengths = np.array([length_of(gene) for gene in genes])
    optimizer = build(name, genes)
    for _ in range(rounds(name, 40)):
        genomes = optimizer.ask()
        assert_inside(genomes, genes)
        optimizer.tell(genomes, [scored(float((row / lengths).sum())) for row in genomes])


@each_case
def test_the_seed_decides_every_proposal(name: str, box: str) -> None:
    genes = BOXES[box]
    first, again, other = (run(build(name, genes, seed=seed), 5, genes) for seed in (1, 1, 2))
    assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))
    assert not np.array_equal(first[0], other[0])


@each_case
def test_proposals_do_not_depend_on_the_global_generator(name: str, box: str) -> None:
    genes = BOXES[box]
    np.random.seed(0)
    first = run(build(name, genes), 3, genes)
    np.random.seed(1)
    before: Any = np.random.get_state(legacy=False)
    assert all(np.array_equal(a, b) for a, b in zip(first, run(build(name, genes), 3, genes), strict=True))
    after: Any = np.random.get_state(legacy=False)
    assert str(after) == str(before)
    assert np.array_equal(after["state"]["key"], before["state"]["key"])


@each_case
def test_a_resumed_search_goes_on_as_the_unbroken_one(name: str, box: str) -> None:
    # Killed before the first ask, after an ask and before its tell, or after a tell: what is left is what was told.
    genes = BOXES[box]
    unbroken = run(build(name, genes), 9, genes)
    for n_told in (0, 1, 6):
        resumed = build(name, genes)
        for recorded in unbroken[:n_told]:
            assert np.array_equal(resumed.ask(), recorded)
            resumed.tell(recorded.copy(), sphere(recorded, genes))
        rest = run(resumed, 9 - n_told, genes)
        assert all(np.array_equal(a, b) for a, b in zip(rest, unbroken[n_told:], strict=True))


@each_case
@pytest.mark.parametrize("share", [0.5, 1.0])
def test_failed_candidates_do_not_stop_the_search(name: str, box: str, share: float) -> None:
    genes = BOXES[box]
    optimizer = build(name, genes)
    rng = np.random.default_rng(0)
    for _ in range(rounds(name, 30)):
        genomes = optimizer.ask()
        assert_inside(genomes, genes)
        evaluations = sphere(genomes, genes)
        told = [failed(("score",), 1, "weights are not finite") if rng.random() < share else e for e in evaluations]
        optimizer.tell(genomes, told)


@each_case
def test_a_search_goes_on_where_failures_end(name: str, box: str) -> None:
    genes = BOXES[box]
    optimizer = build(name, genes)
    for _ in range(3):
        genomes = optimizer.ask()
        optimizer.tell(genomes, [failed(("score",), 1, "out of memory") for _ in genomes])
    assert name in BLIND or comes_closer(optimizer, genes)


@each_name
def test_a_score_that_is_no_number_ranks_as_a_failure(name: str) -> None:
    told_nan, told_failed = build(name), build(name)
    for number in range(5):
        genomes, same = told_nan.ask(), told_failed.ask()
        assert np.array_equal(genomes, same)
        odd = number % len(genomes)
        rest = sphere(genomes, BOUNDED)
        told_nan.tell(genomes, [*rest[:odd], scored(float("nan")), *rest[odd + 1 :]])
        told_failed.tell(same, [*rest[:odd], failed(("score",), 1, "no answer"), *rest[odd + 1 :]])


@each_case
def test_a_flat_landscape_does_not_stop_the_search(name: str, box: str) -> None:
    optimizer = build(name, BOXES[box])
    for _ in range(rounds(name, 100)):
        genomes = optimizer.ask()
        assert_inside(genomes, BOXES[box])
        optimizer.tell(genomes, [scored(0.0) for _ in genomes])


@each_case
def test_telling_changes_nobodys_arrays(name: str, box: str) -> None:
    genes = BOXES[box]
    optimizer = build(name, genes)
    genomes = optimizer.ask()
    kept, evaluations = genomes.copy(), sphere(genomes, genes)
    optimizer.tell(genomes, evaluations)
    optimizer.ask()
    assert np.array_equal(genomes, kept)


@each_name
@pytest.mark.parametrize("kind", ["real", "binary", "choice"])
def test_one_gene_can_be_searched(name: str, kind: Any) -> None:
    if kind not in kinds_of(name):
        return
    optimizer = build(name, (Gene("t", 0.0, 1.0, 0.0, kind=kind),))
    for _ in range(10):
        genomes = optimizer.ask()
        assert genomes.shape[1] == 1
        optimizer.tell(genomes, [scored(-abs(float(row[0]) - 0.2)) for row in genomes])


@each_name
def test_a_population_of_the_wanted_size_is_asked(name: str) -> None:
    assert build(name, population_size=5).ask().shape == (5, len(BOUNDED))
    with pytest.raises(Exception, match=r"optimizer.population_size must be at least"):
        build(name, population_size=0)


@each_name
@pytest.mark.parametrize("kind", ["binary", "choice"])
def test_genes_that_it_cannot_move_are_one_sentence(name: str, kind: Any) -> None:
    odd = Gene("slot/3", 0.0, 1.0, 0.0, kind=kind)
    kinds = kinds_of(name)
    if kind in kinds:
        assert_inside(build(name, (*BOUNDED, odd)).ask(), (*BOUNDED, odd))
        return
    margin = "cmaes_margin, which takes binary ones too, or " if kind == "binary" else ""
    said = (
        f"moves {' and '.join(kinds)} genes only, and 'slot/3' is {kind}; "
        f"choose optimizer={margin}catcma, ga, map_elites, natural_niches, nevergrad, nsga2 or nsga3, which take every kind, "
        "or random or sobol, which do too and learn nothing"
    )
    with pytest.raises(Exception, match=said) as caught:
        build(name, (*BOUNDED, odd))
    # Hydra wraps what a constructor raises.
    assert isinstance(caught.value, ConfigError) or isinstance(caught.value.__cause__, ConfigError)


def test_a_refusal_names_all_optimizers_that_take_every_kind_and_no_others() -> None:
    taking = [name for name in NAMES if {*kinds_of(name)} == {"real", "binary", "choice"}]
    assert list(EVERY_KIND) == [name for name in taking if name in LEARNING]
    assert list(EVERY_KIND_BLIND) == [name for name in taking if name in BLIND]


@each_name
def test_a_span_holds_those_that_need_a_box_and_no_others(name: str) -> None:
    genes = UNBOUNDED[:4]
    optimizer = build(name, genes)
    starts, spans = np.array([gene.start for gene in genes]), np.array([gene.span for gene in genes])
    furthest = 0.0  # from the start, in spans
    for _ in range(30):
        genomes = optimizer.ask()
        furthest = max(furthest, float((np.abs(genomes - starts) / spans).max()))
        optimizer.tell(genomes, [scored(float(row.sum())) for row in genomes])
    if class_of(name).needs_box:
        assert 0.45 < furthest <= 0.5 + 1e-12
    else:
        assert furthest > 0.6


def test_another_process_proposes_the_same() -> None:
    # Sets of texts have another order in each process, and so would have what depends on it.
    names = ["ga", "nevergrad", "nsga3"]
    program = (
        "import sys, json; from optimizer_cases import *\n"
        "print(json.dumps([run(build(n, BOXES['every kind']), 6, BOXES['every kind'])[-1].tolist() for n in sys.argv[1:]]))"
    )
    paths = os.pathsep.join(path for path in sys.path if path)
    other = subprocess.run(
        [sys.executable, "-c", program, *names],
        env={**os.environ, "PYTHONHASHSEED": "7", "PYTHONPATH": paths},
        capture_output=True,
        text=True,
        check=True,
    )
    genes = BOXES["every kind"]
    assert json.loads(other.stdout) == [run(build(name, genes), 6, genes)[-1].tolist() for name in names]
