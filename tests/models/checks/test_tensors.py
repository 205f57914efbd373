"""What headers tell of two models, where no folder of the catalogue can show it."""

from dataclasses import replace
from pathlib import Path

import good_families
from evo_merge.models.checks.facts import Facts, facts_of
from evo_merge.models.checks.samples import sampled_or_finding
from evo_merge.models.checks.tensors import compare_tensors
from evo_merge.models.model import StoredModel
from evo_merge.models.reference import ModelFiles
from evo_merge.models.weights import open_weights
from evo_merge.recipe import ModelReference


def test_a_gguf_file_beside_full_precision_is_a_warning(tmp_path: Path) -> None:
    folder = good_families.make(tmp_path, "llama") / "a"
    weights = open_weights(ModelFiles(folder))
    plain = StoredModel("plain", ModelReference(str(folder)), ModelFiles(folder), weights)
    facts, unreadable = facts_of(plain, {})
    assert unreadable == []
    packed = StoredModel("packed", ModelReference(str(folder / "x.gguf")), ModelFiles(folder, gguf="x.gguf"), weights)
    beside = Facts(packed, facts.config, facts.shapes, facts.dtypes, facts.expected, facts.tokenizer, is_mute=False)
    (found,) = compare_tensors(beside, facts, frozenset())
    assert (found.name, found.models) == ("quantised_source", ("packed", "plain"))
    assert found.text.startswith(f"'packed' ({folder / 'x.gguf'}) is a GGUF file, and 'plain' (")
    assert compare_tensors(beside, beside, frozenset()) == []


def test_a_sample_that_cannot_be_read_is_named_by_what_is_wrong(tmp_path: Path) -> None:
    folder = good_families.make(tmp_path, "llama") / "a"
    plain = StoredModel("plain", ModelReference(str(folder)), ModelFiles(folder), open_weights(ModelFiles(folder)))
    facts, _ = facts_of(plain, {})
    (folder / "x.gguf").write_bytes(b"GGUF")  # a GGUF file is not opened before it is read
    cut = replace(facts, model=replace(plain, weights=open_weights(ModelFiles(folder, gguf="x.gguf"))))
    sampled, (found,) = sampled_or_finding(cut)
    assert (sampled, found.name, found.mend, found.models) == (None, "truncated", "", ("plain",))
