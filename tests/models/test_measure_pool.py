"""The pass over a pool: its numbers against plain float64 arithmetic, and what it says of pools whose faults are known."""

import json
import math
import re
from collections.abc import Callable
from dataclasses import replace
from itertools import combinations
from pathlib import Path

import pytest
import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

from evo_merge.errors import IncompatibleModelsError
from evo_merge.findings import Finding
from evo_merge.mergeability import Mergeability, PairMeasure
from evo_merge.models import measure_pool
from evo_merge.models.compatibility import describe, in_values
from evo_merge.models.measure_pool import measure
from evo_merge.models.pool import Pool

SavePico = Callable[..., Path]
Change = Callable[[str, torch.Tensor], torch.Tensor]


def pool_of(base: Path | None, *sources: Path) -> Pool:
    return Pool(base=None if base is None else str(base), sources=[str(source) for source in sources])


def flat(folder: Path, n_dims: int = 0) -> torch.Tensor:
    tensors = load_file(folder / "model.safetensors")
    return torch.cat([tensors[name].flatten().double() for name in sorted(tensors) if tensors[name].ndim >= n_dims])


def changed(folder: Path, original: Path, change: Change) -> Path:
    """A copy of a model with every tensor changed."""
    folder.mkdir()
    for file in original.iterdir():
        if file.suffix != ".safetensors":
            (folder / file.name).write_bytes(file.read_bytes())
    tensors = {name: change(name, tensor).contiguous() for name, tensor in load_file(original / "model.safetensors").items()}
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})
    return folder


def said(found: Mergeability) -> str:
    return "\n".join(finding.text for finding in found.findings)


def warned(found: Mergeability) -> list[str]:
    return [finding.text for finding in found.findings if finding.is_warning]


def tuned(folder: Path, base: Path, name: str, step: Change) -> Path:
    return changed(folder / name, base, lambda tensor_name, tensor: tensor + step(tensor_name, tensor))


def noise(seed: int, size: float) -> Change:
    def step(name: str, tensor: torch.Tensor) -> torch.Tensor:
        generator = torch.Generator().manual_seed(seed + sum(map(ord, name)))
        return size * torch.randn(tensor.shape, generator=generator)

    return step


@pytest.mark.parametrize("chunk", [7, 1_000, 50_000])
def test_every_number_is_that_of_plain_arithmetic(family: Path, monkeypatch: pytest.MonkeyPatch, chunk: int) -> None:
    monkeypatch.setattr(measure_pool, "_CHUNK", chunk)
    found = measure(pool_of(family / "base", *(family / name for name in "abc")))
    base = flat(family / "base")
    weights = {name: flat(family / name) for name in "abc"}
    vectors = {name: source - base for name, source in weights.items()}
    assert found.n_weights == len(base)
    assert found.base_norm == pytest.approx(base.norm().item(), rel=1e-5)
    for source in found.sources:
        vector = vectors[source.name]
        assert source.norm == pytest.approx(weights[source.name].norm().item(), rel=1e-5)
        assert source.task_norm == pytest.approx(vector.norm().item(), rel=1e-5)
        assert source.relative_norm == pytest.approx((vector.norm() / base.norm()).item(), rel=1e-5)
        assert source.changed == (vector != 0).double().mean().item()
        cosine = torch.cosine_similarity(flat(family / source.name, 2), flat(family / "base", 2), dim=0).item()
        assert source.base_cosine == pytest.approx(cosine, abs=1e-6)
    assert [(pair.first, pair.second) for pair in found.pairs] == [*combinations("abc", 2)]
    for pair in found.pairs:
        a, b = vectors[pair.first], vectors[pair.second]
        both, product = (a != 0) & (b != 0), a * b
        assert pair.cosine == pytest.approx(torch.cosine_similarity(a, b, dim=0).item(), abs=1e-5)
        assert pair.kinship == pytest.approx(torch.corrcoef(torch.stack([a, b]))[0, 1].item(), abs=1e-5)
        assert pair.sign_conflict == (product < 0).sum().item() / both.sum().item()
        assert pair.weighted_conflict == pytest.approx((product[product < 0].sum() / -product.abs().sum()).item(), abs=1e-5)
        first, second = weights[pair.first], weights[pair.second]
        distance = (first - second).norm() / ((first.norm() + second.norm()) / 2)
        assert pair.distance == pytest.approx(distance.item(), rel=1e-5)
        matrices = flat(family / pair.first, 2), flat(family / pair.second, 2)
        assert pair.weight_cosine == pytest.approx(torch.cosine_similarity(*matrices, dim=0).item(), abs=1e-6)


def test_without_a_base_the_weights_themselves_are_compared(family: Path) -> None:
    with_base = measure(pool_of(family / "base", *(family / name for name in "abc")))
    without = measure(pool_of(None, *(family / name for name in "abc")))
    assert without.base is None
    for source in without.sources:
        assert (source.task_norm, source.relative_norm, source.changed, source.base_cosine, source.descends) == (None,) * 5
    for ours, theirs in zip(without.pairs, with_base.pairs, strict=True):
        assert ours.distance == pytest.approx(theirs.distance, rel=1e-5)
        assert ours.weight_cosine == pytest.approx(theirs.weight_cosine, abs=1e-6)
        assert (ours.cosine, ours.kinship, ours.sign_conflict, ours.weighted_conflict) == (None,) * 4
        assert ours.are_kin == "yes"
    assert without.mean_kinship is None
    assert "Without a base no task vectors are defined" in said(without)
    assert "'a' and 'b' have an ancestor in common." in said(without)


def test_tunes_of_one_base_have_nothing_against_them(family: Path) -> None:
    found = measure(pool_of(family / "base", *(family / name for name in "abc")))
    assert [source.descends for source in found.sources] == ["yes"] * 3
    assert warned(found) == []
    assert found.findings[0].text == "Nothing here speaks against merging."
    assert "'a' descends from the base (relative norm 0." in said(found)


def test_strangers_do_not_descend_from_the_base_and_have_no_ancestor_in_common(
    tmp_path: Path, family: Path, save_pico: SavePico
) -> None:
    stranger = save_pico(tmp_path / "stranger", 11)
    found = measure(pool_of(family / "base", family / "a", stranger))
    assert [source.descends for source in found.sources] == ["yes", "no"]
    (warning,) = warned(found)
    assert warning.startswith("'stranger' does not descend from the base (relative norm 1.")
    assert "pull" not in said(found)  # its difference from the base is no task vector
    found = measure(pool_of(None, family / "a", stranger))
    (warning,) = warned(found)
    assert warning.startswith("'a' and 'stranger' have no ancestor in common (relative distance 1.")


def test_strangers_that_share_the_weights_of_their_norms_are_strangers(tmp_path: Path, pico: Callable[..., Path]) -> None:
    found = measure(pool_of(pico("one", 1), pico("two", 2)))
    assert (found.sources[0].relative_norm or 0.0) < 0.5  # in so small a model the ones of the norms outweigh the rest
    assert found.sources[0].descends == "no"


def test_a_model_moved_far_is_doubtful(tmp_path: Path, family: Path) -> None:
    far = tuned(tmp_path, family / "base", "far", noise(1, 0.2))  # the base's own entries have a deviation of about 0.3
    found = measure(pool_of(family / "base", far))
    assert found.sources[0].descends == "doubtful"
    assert 0.5 < (found.sources[0].relative_norm or 0.0) < 1.0
    assert warned(found)[0].startswith("'far' is far from the base (relative norm 0.")


def test_a_wrong_base_is_asked_about(family: Path, tmp_path: Path, save_pico: SavePico) -> None:
    other = save_pico(tmp_path / "other", 12)
    assert "'a' and 'b' are much nearer to each other than to the base: is it the right base?" in said(
        measure(pool_of(other, family / "a", family / "b"))
    )


def test_the_base_as_a_source_adds_nothing(family: Path, tmp_path: Path) -> None:
    same = changed(tmp_path / "same", family / "base", lambda _, tensor: tensor)
    found = measure(pool_of(family / "base", family / "a", same))
    assert found.sources[1].task_norm == 0.0
    assert found.sources[1].changed == 0.0
    assert found.pairs[0].cosine is None  # a vector of zeros has no direction
    assert found.pairs[0].sign_conflict is None
    assert found.mean_kinship is None
    (warning,) = warned(found)
    assert warning.startswith("'same' is the base itself")


def test_task_vectors_against_each_other_and_nearly_the_same(tmp_path: Path, family: Path) -> None:
    base, step, small = family / "base", noise(1, 0.02), noise(2, 0.002)
    ahead = tuned(tmp_path, base, "ahead", step)
    back = tuned(tmp_path, base, "back", lambda name, tensor: -step(name, tensor) + small(name, tensor))
    again = tuned(tmp_path, base, "again", lambda name, tensor: step(name, tensor) + small(name, tensor))
    found = measure(pool_of(base, ahead, back, again))
    opposed, alike = found.pair("ahead", "back"), found.pair("again", "ahead")
    assert opposed is not None
    assert alike is not None
    assert opposed.sign_conflict is not None
    assert opposed.sign_conflict > 0.9
    assert alike.cosine is not None
    assert alike.cosine > 0.99
    warnings = "\n".join(warned(found))
    assert "'ahead' and 'back' pull 9" in warnings
    assert "each undoes some of what the other learnt" in warnings
    assert "'ahead' and 'again' have nearly the same task vector (cosine " in warnings
    assert found.pair("ahead", "ahead") is None


def test_small_opposite_entries_weigh_less(tmp_path: Path, family: Path) -> None:
    base = family / "base"

    def mostly_up(_: str, tensor: torch.Tensor) -> torch.Tensor:
        step = torch.full(tensor.shape, 0.04)
        step.flatten()[::4] = -0.01
        return step

    up = tuned(tmp_path, base, "up", lambda _, tensor: torch.full(tensor.shape, 0.02))
    found = measure(pool_of(base, up, tuned(tmp_path, base, "mostly", mostly_up)))
    assert found.pairs[0].sign_conflict == pytest.approx(0.25, abs=0.01)
    assert found.pairs[0].weighted_conflict == pytest.approx(0.01 / (0.01 + 3 * 0.04), abs=0.005)


def test_far_more_opposite_signs_than_by_chance_are_warned_of(tmp_path: Path, family: Path) -> None:
    base = family / "base"

    def torn(share: float) -> Change:
        """A few large entries agree with ``up``, a share of all are small and do not, so that the cosine is positive."""

        def step(_: str, tensor: torch.Tensor) -> torch.Tensor:
            places = torch.linspace(0, 1, tensor.numel()).reshape(tensor.shape)
            return torch.where(places < share, -0.004, 0.04)

        return step

    up = tuned(tmp_path, base, "up", lambda _, tensor: torch.full(tensor.shape, 0.02))
    most, more = tuned(tmp_path, base, "most", torn(0.7)), tuned(tmp_path, base, "more", torn(0.55))
    found = measure(pool_of(base, up, most))
    assert (found.pairs[0].cosine or 0.0) > 0.3
    (warning,) = warned(found)
    assert warning.startswith(
        "'up' and 'most' pull 70 % of the entries that both changed in opposite directions (chance: 50 %)"
    )
    assert said(found).count("pull") == 1  # not in the notes too
    found = measure(pool_of(base, up, more))
    assert warned(found) == []
    assert "'up' and 'more' pull 55 %" in said(found)


def test_sources_that_changed_other_tensors_have_no_conflict(tmp_path: Path, family: Path) -> None:
    def only(part: str) -> Change:
        step = noise(3, 0.02)
        return lambda name, tensor: step(name, tensor) if part in name else torch.zeros_like(tensor)

    base = family / "base"
    found = measure(pool_of(base, tuned(tmp_path, base, "q", only("q_proj")), tuned(tmp_path, base, "v", only("v_proj"))))
    assert found.pairs[0].cosine == 0.0
    assert found.pairs[0].sign_conflict is None
    assert 0.0 < (found.sources[0].changed or 0.0) < 0.2
    assert "'q' and 'v' changed no entry in common." in said(found)


def test_other_dtypes_than_the_bases_are_told_of(tmp_path: Path, save_pico: SavePico) -> None:
    base = save_pico(tmp_path / "base", 1, dtype=torch.bfloat16)
    plain = save_pico(tmp_path / "plain", 2, near=base, dtype=torch.bfloat16)
    wide = changed(tmp_path / "wide", base, lambda name, tensor: tensor.float() + noise(3, 0.05)(name, tensor))
    found = measure(pool_of(base, plain, wide))
    assert [source.other_dtype for source in found.sources] == [None, "float32 beside bfloat16"]
    assert warned(found) == []
    assert said(found).count("rounding") == 1
    assert "'wide' is stored in another dtype than the base (float32 beside bfloat16): many of the changed entries" in said(
        found
    )
    many = replace(found, sources=(found.sources[1],) * 7, pairs=())
    assert "7 sources are stored in another dtype than the base: many" in said(many)
    assert "rounding" not in said(measure(pool_of(None, plain, wide)))  # nothing is counted


def save_adapter(folder: Path, base: Path) -> Path:
    adapted = get_peft_model(AutoModelForCausalLM.from_pretrained(base), LoraConfig(r=2, target_modules=["q_proj"]))
    with torch.no_grad():
        for name, parameter in adapted.named_parameters():
            if "lora_" in name:
                parameter.fill_(0.1)
    adapted.save_pretrained(folder)
    return folder


def test_an_adapter_on_the_base_is_not_taken_for_another_dtype(tmp_path: Path, save_pico: SavePico) -> None:
    base, other = (save_pico(tmp_path / name, 1, dtype=torch.bfloat16) for name in ("base", "other"))
    adapter = save_adapter(tmp_path / "lora", base)
    for put_on, told in ((base, None), (other, "float32 beside bfloat16")):
        source = {"name": "lora", "adapter": str(adapter), "base": str(put_on)}
        found = measure(Pool(base=str(base), sources=[source]))
        assert found.sources[0].changed
        assert found.sources[0].other_dtype == told


def test_a_task_vector_that_drowns_another_is_named(tmp_path: Path, family: Path) -> None:
    base = family / "base"
    found = measure(
        pool_of(base, tuned(tmp_path, base, "little", noise(1, 0.001)), tuned(tmp_path, base, "much", noise(2, 0.05)))
    )
    (warning,) = warned(found)
    assert re.fullmatch(r"The task vector of 'much' is (49|50|51) times as long as that of 'little', and drowns it .*", warning)


def test_of_many_sources_only_the_extremes_are_told(tmp_path: Path, family: Path) -> None:
    base = family / "base"
    sources = [tuned(tmp_path, base, f"s{i}", noise(i, 0.02)) for i in range(8)]
    found = measure(pool_of(base, *sources))
    assert len(found.pairs) == 28
    sentences = [finding.text for finding in found.findings]
    assert sentences[1] == "8 sources descend from the base."
    assert sentences[2].startswith("Of 28 pairs, from 's")
    assert len(sentences) == 3


def test_one_source_alone_can_be_measured(family: Path) -> None:
    assert measure(pool_of(family / "base", family / "a")).pairs == ()
    alone = measure(pool_of(None, family / "a"))
    assert alone.sources[0].norm == pytest.approx(flat(family / "a").norm().item(), rel=1e-5)


@pytest.mark.parametrize("has_base", [True, False])
def test_it_comes_back_from_json(family: Path, *, has_base: bool) -> None:
    found = measure(pool_of(family / "base" if has_base else None, family / "a", family / "b"))
    assert Mergeability.from_json(found.to_json()) == found
    assert not any(isinstance(value, float) and math.isnan(value) for value in json.loads(found.to_json()).values())


# -- copies ----------------------------------------------------------------------------------------------------------------


def copies_in(pool: Pool) -> list[Finding]:
    return [finding for finding in in_values(describe(pool.base, pool.sources)) if finding.name == "copies"]


def test_one_reference_under_two_names_is_refused(family: Path) -> None:
    pool = Pool(base=None, sources=[{"name": name, "model": str(family / "a")} for name in ("one", "two")])
    (found,) = copies_in(pool)
    assert "'one' (" in found.text
    assert "and 'two' (" in found.text
    assert "are copies of one model (the same reference)" in found.text


def test_a_copied_folder_is_refused(tmp_path: Path, family: Path) -> None:
    copy = changed(tmp_path / "copy", family / "a", lambda _, tensor: tensor)
    (found,) = copies_in(pool_of(family / "base", family / "b", family / "a", copy))
    assert found.models == ("a", "copy")
    assert "are copies of one model (all tensors are equal)" in found.text


def test_files_with_equal_ends_are_not_taken_for_copies(tmp_path: Path, save_pico: SavePico) -> None:
    large = save_pico(tmp_path / "large", 1, vocab_size=40_000)

    def middle(name: str, tensor: torch.Tensor) -> torch.Tensor:
        """The head lies first, by its name, and has 2.5 MB; of those the first is sampled."""
        if name == "lm_head.weight":
            tensor[-100:] += 1.0
        return tensor

    pool = pool_of(None, large, changed(tmp_path / "other", large, middle))
    assert pool.sources[0].fingerprint == pool.sources[1].fingerprint
    assert copies_in(pool) == []


def test_a_copy_in_other_shards_or_another_precision_is_refused_by_the_sample_and_by_the_pass(
    tmp_path: Path, family: Path, save_pico: SavePico
) -> None:
    whole = save_pico(tmp_path / "whole", 5, near=family / "base", dtype=torch.bfloat16)
    wide = changed(tmp_path / "wide", whole, lambda _, tensor: tensor.float())
    pool = pool_of(family / "base", family / "a", whole, wide)
    (found,) = copies_in(pool)
    assert found.models == ("whole", "wide")
    with pytest.raises(IncompatibleModelsError, match=r"'whole' .* and 'wide' .* are copies of one model"):
        measure(pool)


def test_a_copy_in_a_narrower_precision_is_warned_of(tmp_path: Path, family: Path) -> None:
    narrow = changed(tmp_path / "narrow", family / "a", lambda _, tensor: tensor.bfloat16())
    (warning,) = warned(measure(pool_of(family / "base", family / "a", narrow)))
    assert warning.startswith("'a' and 'narrow' have nearly the same task vector (cosine 1.00)")


def test_a_pair_knows_its_ancestry() -> None:
    assert [PairMeasure("a", "b", distance, 0.9).are_kin for distance in (0.1, 0.5, 0.99, 1.0)] == [
        "yes",
        "doubtful",
        "doubtful",
        "no",
    ]
    assert PairMeasure("a", "b", 0.9, 0.3).are_kin == "no"  # a model of little norm is near to everything
