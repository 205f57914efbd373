"""Small merges worked out by hand, of methods without a file of their own here, and what papers and mergekit differ in."""

import math
import re
from typing import Any

import pytest
import torch
from torch import Tensor

from evo_merge.errors import RecipeError, UnusableCandidateError
from evo_merge.methods.arcee_fusion import ArceeFusion
from evo_merge.methods.base import AlignedTensors, MergeMethod, arguments, method_from_recipe, no_noise
from evo_merge.methods.breadcrumbs import Breadcrumbs
from evo_merge.methods.breadcrumbs_ties import BreadcrumbsTies
from evo_merge.methods.dare_linear import DareLinear
from evo_merge.methods.della import Della
from evo_merge.methods.della_linear import DellaLinear
from evo_merge.methods.iso_c import IsoC
from evo_merge.methods.karcher import Karcher
from evo_merge.methods.model_stock import ModelStock
from evo_merge.methods.multislerp import Multislerp
from evo_merge.methods.nearswap import Nearswap
from evo_merge.methods.nuslerp import Nuslerp
from evo_merge.methods.passthrough import Passthrough
from evo_merge.methods.ram import Ram
from evo_merge.methods.ramplus_tl import RamplusTl
from evo_merge.methods.sce import Sce
from evo_merge.methods.task_arithmetic import TaskArithmetic
from evo_merge.methods.ties import Ties
from evo_merge.methods.tsv import Tsv

HALF = math.sqrt(0.5)


def merge(method: MergeMethod, sources: Any, base: Any = None, noise: Any = no_noise, **values: Any) -> list[Any]:
    """Merged numbers; ``base`` 0 is a base of zeros, so that the sources are the task vectors."""
    stacked = torch.tensor(sources, dtype=torch.float32)
    start = torch.zeros_like(stacked[0]) if base == 0 else None if base is None else torch.tensor(base, dtype=torch.float32)
    tensors = AlignedTensors(stacked, start)
    state = None if method.elementwise else method.prepare(tensors)
    merged: Tensor = method.merge(tensors, state, noise, **arguments(method, values, len(stacked)))
    return [] if merged.numel() == 0 else merged.tolist()


def near(expected: Any) -> Any:
    return pytest.approx(expected, abs=1e-6)


# --- on the sphere ---------------------------------------------------------------------------------------------------


def test_nuslerp_goes_along_the_arc_by_the_second_ones_share() -> None:
    # A third of the right angle between (1, 0) and (0, 1).
    third = [math.cos(math.pi / 6), math.sin(math.pi / 6)]
    assert merge(Nuslerp(), [[1.0, 0.0], [0.0, 1.0]], weight=(2.0, 1.0)) == near(third)
    assert merge(Nuslerp(), [[1.0, 0.0], [0.0, 1.0]], weight=(1.0, -1.0)) == near([HALF, HALF])  # halfway where the sum is 0


def test_nuslerp_by_row_and_by_column() -> None:
    sources = [[[1.0, 0.0], [2.0, 0.0]], [[0.0, 1.0], [2.0, 0.0]]]
    rows = merge(Nuslerp(flatten=False), sources, weight=(1.0, 1.0))
    assert rows[0] == near([HALF, HALF])
    assert rows[1] == near([2.0, 0.0])  # the same in both
    columns = merge(Nuslerp(flatten=False, row_wise=True), [[[1.0], [0.0]], [[0.0], [1.0]]], weight=(1.0, 1.0))
    assert columns[0] + columns[1] == near([HALF, HALF])


def test_vectors_against_each_other_are_mixed_along_the_line() -> None:
    assert merge(Nuslerp(), [[1.0, 0.0], [-1.0, 0.0]], weight=(3.0, 1.0)) == near([0.5, 0.0])
    assert merge(Multislerp(), [[1.0, 0.0], [-1.0, 0.0]], weight=(1.0, 1.0)) == near([0.0, 0.0])
    assert merge(Karcher(), [[1.0, 0.0], [-1.0, 0.0]]) == near([1.0, 0.0])  # no mean direction: the first one's


def test_task_vectors_are_interpolated_where_asked_for() -> None:
    sources, base = [[2.0, 1.0], [1.0, 2.0]], [1.0, 1.0]
    for method in (Nuslerp(task_vectors=True), Multislerp(task_vectors=True)):
        assert method.needs_base
        assert merge(method, sources, base, weight=(1.0, 1.0)) == near([1.0 + HALF, 1.0 + HALF])


def test_multislerp_and_karcher_average_directions_and_lengths() -> None:
    sources = [[2.0, 0.0, 0.0], [0.0, 4.0, 0.0], [0.0, 0.0, 6.0]]
    even = [4.0 / math.sqrt(3.0)] * 3
    assert merge(Multislerp(), sources, weight=(1.0, 1.0, 1.0)) == near(even)
    assert merge(Karcher(), sources) == near(even)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"max_iter": 0}, "max_iter must be at least 1, got 0"),
        ({"max_iter": -3}, "max_iter must be at least 1, got -3"),
        ({"tol": 0.0}, "tol must be above 0 and finite, got 0.0"),
        ({"tol": -1e-5}, "tol must be above 0 and finite, got -1e-05"),
        ({"tol": math.nan}, "tol must be above 0 and finite, got nan"),
    ],
)
def test_karcher_refuses_steps_and_angles_of_nothing(options: dict[str, Any], message: str) -> None:
    with pytest.raises(RecipeError, match=re.escape(f"method 'karcher': {message}")):
        method_from_recipe("karcher", options)


def test_a_heavier_source_draws_the_karcher_mean_to_itself() -> None:
    # Of two, the mean divides the angle by weight: a quarter of the way from the heavier one.
    expected = [math.cos(math.pi / 8), math.sin(math.pi / 8)]
    assert merge(Karcher(max_iter=50), [[1.0, 0.0], [0.0, 1.0]], weight=(3.0, 1.0)) == near(expected)


def test_directions_that_cancel_and_weights_that_sum_to_0_are_unusable() -> None:
    star = [[1.0, 0.0], [-0.5, math.sqrt(0.75)], [-0.5, -math.sqrt(0.75)]]
    with pytest.raises(UnusableCandidateError, match="no mean direction"):
        merge(Multislerp(eps=1e-6), star, weight=(1.0, 1.0, 1.0))
    for method in (Multislerp(), Karcher()):
        with pytest.raises(UnusableCandidateError, match="divides the weights by their sum, which is 0"):
            merge(method, star, weight=(1.0, 1.0, -2.0))


# --- task vectors ----------------------------------------------------------------------------------------------------


def test_lambda_multiplies_what_is_added() -> None:
    sources = [[3.0, 5.0], [1.0, 1.0]]
    assert merge(TaskArithmetic(), sources, [1.0, 1.0], weight=(1.0, 1.0), **{"lambda": 0.5}) == [2.0, 3.0]
    assert merge(Ties(), sources, [1.0, 1.0], weight=(1.0, 1.0), density=(1.0, 1.0), **{"lambda": 2.0}) == [5.0, 9.0]


def test_breadcrumbs_drop_the_largest_and_the_smallest() -> None:
    vector = [[-10.0, 1.0, 4.0, -3.0, 2.0]]
    kept = {"weight": (1.0,), "density": (0.4,), "gamma": (0.2,)}
    assert merge(Breadcrumbs(), vector, 0, **kept) == [0.0, 0.0, 4.0, -3.0, 0.0]
    assert merge(Breadcrumbs(), vector, 0, **kept | {"gamma": (0.0,)}) == [-10.0, 0.0, 4.0, 0.0, 0.0]
    # More than all: fewer of the largest go.
    assert merge(Breadcrumbs(), vector, 0, **kept | {"density": (0.8,), "gamma": (0.8,)}) == [0.0, 1.0, 4.0, -3.0, 2.0]


def test_breadcrumbs_of_equal_entries_keep_as_many_as_the_density_says() -> None:
    merged = merge(Breadcrumbs(), [[1.0] * 10], 0, weight=(1.0,), density=(0.5,), gamma=(0.3,))
    assert sum(merged) == 5.0


def test_breadcrumbs_may_vote() -> None:
    values = {"weight": (1.0, 1.0), "density": (1.0, 1.0), "gamma": (0.0, 0.0)}
    assert merge(BreadcrumbsTies(), [[2.0, 2.0], [-3.0, 1.0]], 0, **values) == [-3.0, 3.0]


@pytest.mark.parametrize("method", [Ties(rescale="norm"), Breadcrumbs(rescale="norm")])
def test_what_is_kept_may_be_made_as_large_as_what_was_there(method: MergeMethod) -> None:
    merged = merge(method, [[3.0, -1.0, 0.5, 0.5]], 0, weight=(1.0,), density=(0.5,), gamma=(0.0,))
    assert merged == near([3.75, -1.25, 0.0, 0.0])  # 5 over 4 of what is kept


def test_dare_may_match_the_norm() -> None:
    noise = torch.tensor([0.1, 0.9, 0.2, 0.7])
    merged = merge(DareLinear(rescale="norm"), [[1.0, 2.0, 3.0, 2.0]], 0, lambda _: noise, weight=(1.0,), density=(0.5,))
    assert merged == near([2.0, 0.0, 6.0, 0.0])  # 8 over 4


def test_della_keeps_larger_entries_more_often() -> None:
    # Ranks 2, 0, 1, 3: kept with probability 0.3 + rank / 3 * 0.4.
    vector, noise = [[3.0, 1.0, -2.0, 4.0]], torch.full((4,), 0.5)
    values = {"weight": (1.0,), "density": (0.5,), "epsilon": (0.2,)}
    expected = [3.0 / (0.3 + 0.8 / 3), 0.0, 0.0, 4.0 / 0.7]
    assert merge(DellaLinear(), vector, 0, lambda _: noise, **values) == near(expected)
    assert merge(DellaLinear(rescale="none"), vector, 0, lambda _: noise, **values) == [3.0, 0.0, 0.0, 4.0]
    assert merge(Della(rescale="norm"), vector, 0, lambda _: noise, **values) == near([30.0 / 7, 0.0, 0.0, 40.0 / 7])


def test_della_ranks_each_row_by_itself_and_keeps_to_the_density_at_the_ends() -> None:
    rows, noise = [[[1.0, 2.0], [40.0, 30.0]]], torch.full((2, 2), 0.5)
    values = {"weight": (1.0,), "density": (0.5,), "epsilon": (0.3,)}
    assert merge(DellaLinear(rescale="none"), rows, 0, lambda _: noise, **values) == [[0.0, 2.0], [40.0, 0.0]]
    # An epsilon of 0.1 is all that fits below a density of 0.1: probabilities 0 and 0.2.
    low = {"weight": (1.0,), "density": (0.1,), "epsilon": (0.3,)}
    assert merge(DellaLinear(), rows, 0, lambda _: torch.full((2, 2), 0.19), **low) == [[0.0, near(10.0)], [near(200.0), 0.0]]


def test_ties_keeps_all_or_the_first_of_equal_entries() -> None:
    vector, values = [[1.0, -1.0, 1.0, 2.0]], {"weight": (1.0,), "density": (0.5,)}
    assert merge(Ties(), vector, 0, **values) == [1.0, -1.0, 1.0, 2.0]
    assert merge(Ties(equals="first"), vector, 0, **values) == [1.0, 0.0, 0.0, 2.0]
    assert sum(value != 0.0 for value in merge(Ties(equals="sorted"), vector, 0, **values)) == 2


def test_model_stock_follows_the_angle() -> None:
    # At 60 degrees 2 cos / (1 + cos) = 2/3 of the way to the mean.
    sources = [[1.0, 0.0], [0.5, math.sqrt(0.75)]]
    mean = [0.75, math.sqrt(0.75) / 2]
    assert merge(ModelStock(), sources, 0) == near([2 / 3 * value for value in mean])
    assert merge(ModelStock(), sources, 0, **{"lambda": 1.5}) == near(mean)
    assert merge(ModelStock(), [[1.0, 0.0], [0.0, 1.0]], 0) == near([0.0, 0.0])  # at a right angle nothing


def test_model_stock_by_row_and_with_mergekits_floor() -> None:
    rows = [[[1.0, 0.0], [1.0, 0.0]], [[1.0, 0.0], [0.0, 1.0]]]
    assert merge(ModelStock(filter_wise=True), rows, 0) == [near([1.0, 0.0]), near([0.0, 0.0])]
    small = [[1e-4, 0.0], [1e-4, 0.0]]
    assert merge(ModelStock(), small, 0) == pytest.approx([1e-4, 0.0])
    # The cosine is 1e-8 / 1e-6, so that hardly anything moves.
    assert merge(ModelStock(norm_floor=1e-6), small, 0)[0] == pytest.approx(1e-4 * 0.02 / 1.01)


def test_sce_weighs_by_energy_and_erases_minorities() -> None:
    # Energies 4 and 1 make shares 0.8 and 0.2; the second entry is the first source's alone, as its vote is heavier.
    assert merge(Sce(), [[2.0, -2.0], [1.0, 1.0]], 0) == near([1.8, -2.0])
    assert merge(Sce(energy_floor=10.0), [[2.0, -2.0], [1.0, 1.0]], 0) == near([1.5, -2.0])


def test_sce_keeps_what_the_sources_differ_in_most() -> None:
    assert merge(Sce(), [[1.0, 5.0, 1.0], [1.0, 1.0, 2.0]], 0, select_topk=0.5)[::2] == [0.0, 0.0]


def test_ram_keeps_what_one_moved_and_averages_what_several_did() -> None:
    sources = [[1.0, 4.0, 0.0], [0.0, 2.0, 0.001]]
    assert merge(Ram(), sources, 0, epsilon=0.01) == [1.0, 3.0, 0.0]
    # Each moved as many entries with the other as alone, or none alone: 1 + r min(rho, alpha).
    assert merge(RamplusTl(), sources, 0, epsilon=0.01, r=0.5, alpha=0.2) == near([1.1, 3.0, 0.0])


def test_nearswap_takes_over_what_is_near() -> None:
    assert merge(Nearswap(), [[1.1, 3.0]], [1.0, 1.0], t=0.2) == near([1.1, 1.2])


def test_arcee_fusion_takes_over_what_matters() -> None:
    base = torch.zeros(4, 4)
    source = base.clone()
    source[2, 1] = 3.0
    merged = merge(ArceeFusion(), [source.tolist()], base.tolist())
    assert merged == source.tolist()
    source[2, 2] = 0.001  # of no importance beside the other
    assert merge(ArceeFusion(), [source.tolist()], base.tolist(), spread=100.0)[2][1] == 3.0


def test_iso_c_flattens_the_spectrum_of_the_sum() -> None:
    sources = [[[3.0, 0.0], [0.0, 0.0]], [[0.0, 0.0], [0.0, -1.0]]]
    assert merge(IsoC(), sources, 0) == [near([2.0, 0.0]), near([0.0, -2.0])]
    assert merge(IsoC(), sources, 0, weight=(1.0, 5.0), **{"lambda": 0.5}) == [near([2.0, 0.0]), near([0.0, -2.0])]
    assert merge(IsoC(), [[1.0, 2.0], [3.0, 0.0]], 0) == near([2.0, 1.0])  # no matrix: the mean


def test_tsv_keeps_the_largest_singular_values_and_parts_what_overlaps() -> None:
    # Of two sources each keeps one of two; those are orthogonal already, so that they are added as they are.
    apart = [[[3.0, 0.0], [0.0, 0.5]], [[0.5, 0.0], [0.0, 2.0]]]
    assert merge(Tsv(), apart, 0) == [near([3.0, 0.0]), near([0.0, 2.0])]
    assert merge(Tsv(), apart, 0, weight=(1.0, 0.5)) == [near([3.0, 0.0]), near([0.0, 1.0])]
    # 60 degrees between the left vectors, a right angle between the right ones: those turn to 75 degrees from each other's.
    root = math.sqrt(0.75)
    overlapping = [[[1.0, 0.0], [0.0, 0.0]], [[0.0, 0.5], [0.0, root]]]
    turned = math.radians(15.0)
    expected = [near([math.cos(turned), math.sin(turned)]), near([-math.sin(turned), math.cos(turned)])]
    assert merge(Tsv(), overlapping, 0) == expected
    assert merge(Tsv(), [[1.0, 2.0], [3.0, 0.0]], 0) == near([2.0, 1.0])


def test_passthrough_multiplies() -> None:
    assert merge(Passthrough(), [[1.0, 2.0]]) == [1.0, 2.0]
    assert merge(Passthrough(), [[1.0, 2.0]], scale=0.0) == [0.0, 0.0]
