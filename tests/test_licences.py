"""What licences ask of a merge: the matrix, the published pools, and cards that state nothing that can be read."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from evo_merge.command_line import CONF
from evo_merge.errors import ConfigError
from evo_merge.licence_table import Terms, licence
from evo_merge.licences import StatedLicence, combine, in_words, stated_in_card
from evo_merge.models.pool_licences import licences_in, permissive_only, with_own
from evo_merge.models.reference import ModelFiles
from evo_merge.recipe import ModelReference, Source


def stated(**names: str) -> dict[str, tuple[StatedLicence, ...]]:
    """Models by name; several licences of one are separated by spaces."""
    return {model: tuple(map(StatedLicence, given.split())) for model, given in names.items()}


# Licences of the models, the verdict, and what the card's metadata says.
MATRIX = [
    ("mit", "mit", Terms.PERMISSIVE, "mit", None),
    ("mit", "apache-2.0", Terms.PERMISSIVE, "apache-2.0", None),
    ("bsd-3-clause cc0-1.0", "cc-by-4.0", Terms.PERMISSIVE, "apache-2.0", None),
    ("apache-2.0", "cc-by-sa-4.0", Terms.SHARE_ALIKE, "cc-by-sa-4.0", None),
    ("gpl-3.0", "lgpl-3.0", Terms.SHARE_ALIKE, "gpl-3.0", None),
    ("cc-by-sa-3.0", "cc-by-sa-4.0", Terms.SHARE_ALIKE, "cc-by-sa-4.0", None),
    ("cc-by-sa-4.0", "gpl-3.0", Terms.SHARE_ALIKE, "gpl-3.0", None),
    ("gpl", "apache-2.0", Terms.SHARE_ALIKE, "gpl-3.0", None),
    ("gpl-3.0", "agpl-3.0", Terms.SHARE_ALIKE, "agpl-3.0", None),
    ("gpl-3.0", "eupl-1.2", Terms.SHARE_ALIKE, "gpl-3.0", None),
    ("gpl-2.0", "eupl-1.1", Terms.SHARE_ALIKE, "gpl-2.0", None),
    ("agpl-3.0", "eupl-1.2", Terms.SHARE_ALIKE, "agpl-3.0", None),
    ("lgpl-3.0", "eupl-1.2", Terms.SHARE_ALIKE, "lgpl-3.0", None),
    ("mpl-2.0", "eupl-1.2", Terms.SHARE_ALIKE, "mpl-2.0", None),
    ("osl-3.0", "eupl-1.2", Terms.SHARE_ALIKE, "osl-3.0", None),
    ("eupl-1.1", "eupl-1.2", Terms.SHARE_ALIKE, "eupl-1.2", None),
    ("epl-1.0", "epl-2.0", Terms.SHARE_ALIKE, "epl-2.0", None),
    ("gpl-3.0", "artistic-2.0", Terms.SHARE_ALIKE, "gpl-3.0", None),
    ("cc-by-sa-4.0", "artistic-2.0", Terms.SHARE_ALIKE, "gpl-3.0", None),
    ("osl-3.0", "afl-3.0", Terms.SHARE_ALIKE, "osl-3.0", None),
    ("gpl-3.0", "ecl-2.0", Terms.SHARE_ALIKE, "gpl-3.0", None),
    ("gpl", "ecl-2.0", Terms.SHARE_ALIKE, "gpl-3.0", None),
    ("mit", "artistic-2.0", Terms.CONDITIONS, "artistic-2.0", None),
    ("apache-2.0", "llama3.1", Terms.CONDITIONS, "llama3.1", None),
    ("llama3.1", "gemma", Terms.CONDITIONS, "other", "gemma-and-llama3.1"),
    ("mit", "qwen", Terms.CONDITIONS, "other", "qwen"),
    ("mit", "bigscience-openrail-m", Terms.CONDITIONS, "bigscience-openrail-m", None),
    ("apache-2.0", "cc-by-nc-4.0", Terms.NON_COMMERCIAL, "cc-by-nc-4.0", None),
    ("llama2", "cc-by-nc-4.0", Terms.NON_COMMERCIAL, "other", "cc-by-nc-4.0-and-llama2"),
    ("cc-by-nc-4.0", "cc-by-nc-sa-4.0", Terms.NON_COMMERCIAL, "cc-by-nc-sa-4.0", None),
    ("apache-2.0", "microsoft-research-license", Terms.RESEARCH_ONLY, "other", "microsoft-research-license"),
    ("cc-by-nc-4.0", "apple-amlr", Terms.RESEARCH_ONLY, "other", "apple-amlr-and-cc-by-nc-4.0"),
    ("mit", "cc-by-nd-4.0", Terms.NO_DERIVATIVES, "other", "not-to-be-shared"),
    ("gpl-3.0", "cc-by-nc-nd-4.0", Terms.NO_DERIVATIVES, "other", "not-to-be-shared"),
    ("gpl-3.0", "cc-by-nc-4.0", Terms.CONFLICT, "other", "not-to-be-shared"),
    ("gpl-2.0", "gpl-3.0", Terms.CONFLICT, "other", "not-to-be-shared"),
    ("gpl-2.0", "apache-2.0", Terms.CONFLICT, "other", "not-to-be-shared"),
    ("gpl-2.0", "ecl-2.0", Terms.CONFLICT, "other", "not-to-be-shared"),
    ("gpl-3.0", "afl-3.0", Terms.CONFLICT, "other", "not-to-be-shared"),
    ("gpl", "afl-3.0", Terms.CONFLICT, "other", "not-to-be-shared"),
    ("lgpl-2.1", "afl-3.0", Terms.CONFLICT, "other", "not-to-be-shared"),
    ("eupl-1.2", "epl-2.0", Terms.CONFLICT, "other", "not-to-be-shared"),
    ("osl-3.0", "artistic-2.0", Terms.CONFLICT, "other", "not-to-be-shared"),
    ("gpl-3.0", "osl-3.0", Terms.CONFLICT, "other", "not-to-be-shared"),
    ("cc-by-sa-4.0", "cc-by-nc-sa-4.0", Terms.CONFLICT, "other", "not-to-be-shared"),
    ("cc-by-nc-sa-4.0", "llama2", Terms.CONFLICT, "other", "not-to-be-shared"),
    ("apache-2.0", "my-own-1.0", Terms.UNKNOWN, "unknown", None),
    ("apache-2.0", "", Terms.UNKNOWN, "unknown", None),
    ("llama3", "unknown", Terms.UNKNOWN, "unknown", None),
    ("cc", "mit", Terms.UNKNOWN, "unknown", None),  # the family names no terms
    ("cc-by-nc-4.0", "unknown", Terms.NON_COMMERCIAL, "other", "cc-by-nc-4.0-and-unknown"),
    ("cc-by-nc-sa-4.0", "my-own-1.0", Terms.NON_COMMERCIAL, "other", "cc-by-nc-sa-4.0-and-unknown"),
    ("msrla", "other", Terms.RESEARCH_ONLY, "other", "msrla-and-unknown"),
    ("cc-by-nd-4.0", "unknown", Terms.NO_DERIVATIVES, "other", "not-to-be-shared"),
]


@pytest.mark.parametrize(("a", "b", "terms", "identifier", "name"), MATRIX)
def test_the_strictest_wins(a: str, b: str, terms: Terms, identifier: str, name: str | None) -> None:
    for models in (stated(a=a, b=b), stated(b=b, a=a), stated(a=f"{a} {b}")):
        found = combine(models)
        if b == "" and "b" not in models:
            continue  # only a model of its own can state nothing
        assert (found.terms, found.license, found.license_name) == (terms, identifier, name)
        assert found.sentence.endswith(".")
        assert "\n" not in found.sentence


# What the cards on the hub state. WizardMath's stated microsoft-research-license until the lines were taken out
# (commit 1b95501 of WizardLMTeam/WizardMath-7B-V1.1).
CARDS: Mapping[str, Mapping[str, Any]] = {
    "mistralai/Mistral-7B-v0.1": {"license": "apache-2.0"},
    "augmxnt/shisa-gamma-7b-v1": {"license": "apache-2.0"},
    "upaya07/Arithmo2-Mistral-7B": {"license": "mit"},
    "WizardLM/WizardMath-7B-V1.1": {},
    "GAIR/Abel-7B-002": {},
    "SakanaAI/EvoLLM-JP-v1-7B": {"license": "other"},
}


# The licences under which the merges were released: https://github.com/SakanaAI/evolutionary-model-merge.
@pytest.mark.parametrize(
    ("pool", "terms", "identifier", "name"),
    [
        ("evollm_jp", Terms.RESEARCH_ONLY, "other", "microsoft-research-license"),
        ("evollm_jp_10b", Terms.RESEARCH_ONLY, "other", "microsoft-research-license"),
        ("evollm_jp_a", Terms.PERMISSIVE, "apache-2.0", None),
    ],
)
def test_the_published_pools_have_the_licences_of_the_published_models(
    pool: str, terms: Terms, identifier: str, name: str | None
) -> None:
    config = yaml.safe_load((CONF / "models" / f"{pool}.yaml").read_text(encoding="utf-8"))
    entries = [*config["sources"], *([{"name": "base", **config["base"]}] if config["base"] else [])]
    found = combine({each["name"]: with_own(stated_in_card(CARDS[each["model"]]), each.get("licence")) for each in entries})
    assert (found.terms, found.license, found.license_name) == (terms, identifier, name)


def test_the_sentence_names_who_decides() -> None:
    found = combine(stated(ja="apache-2.0", math="microsoft-research-license"))
    assert found.sentence.startswith("`math` states `microsoft-research-license`, so the merge is for research only")
    assert "`ja`" not in found.sentence
    conflict = combine(stated(a="gpl-3.0", b="afl-3.0", c="mit", d="apache-2.0"))
    assert conflict.sentence == (
        "`a` states `gpl-3.0` and `b` states `afl-3.0`, which contradict each other, so the merge must not be shared."
    )


@pytest.mark.parametrize("other", ["gpl-3.0", "agpl-3.0", "lgpl-3.0", "apache-2.0", "ecl-2.0"])
def test_gpl_2_may_be_meant_as_any_later_version(other: str) -> None:
    assert combine(stated(a="gpl-2.0", b=other)).sentence == (
        f"`a` states `gpl-2.0` and `b` states `{other}`, which contradict each other, so the merge must not be shared, "
        'unless `gpl-2.0` is meant as "or any later version", which the card does not tell.'
    )
    for pair in (("gpl-2.0", "osl-3.0"), ("gpl-2.0", "afl-3.0"), ("gpl-3.0", "osl-3.0")):
        assert "later version" not in combine(stated(a=pair[0], b=pair[1])).sentence


def test_llama_2_and_3_improve_no_other_models() -> None:
    found = combine(stated(ja="mit", base="llama2", math="llama2")).sentence
    assert found.endswith(
        "`llama2` forbids its use to improve any large language model but Llama 2 and its derivatives, "
        "so do not merge it with `ja` unless that is one."
    )
    of_both = combine(stated(a="llama2", b="llama3", c="")).sentence
    assert "but Llama 2 and its derivatives, so do not merge it with `b` and `c` unless those are such." in of_both
    assert "but Meta Llama 3 and its derivatives, so do not merge it with `a` and `c` unless those are such." in of_both
    assert "forbids" in combine(stated(a="llama2", b="cc-by-nc-sa-4.0")).sentence  # beside a conflict too
    for free in (stated(a="llama2", b="llama2"), stated(a="llama3.1", b="mit"), stated(a="mit", b="apache-2.0")):
        assert "forbids" not in combine(free).sentence


@pytest.mark.parametrize(
    ("name", "beginning", "display"),
    [
        ("llama3", "Llama 3", "Built with Meta Llama 3"),
        ("llama3.1", "Llama", "Built with Llama"),
        ("llama3.3", "Llama", "Built with Llama"),
        ("llama4", "Llama", "Built with Llama"),
    ],
)
def test_the_name_of_a_merge_with_llama_3_begins_as_its_licence_says(name: str, beginning: str, display: str) -> None:
    must = f'the name of a merge that you share must begin with "{beginning}", and "{display}" must be displayed.'
    assert combine(stated(a=name, b="mit")).sentence.endswith(must)
    assert combine(stated(a=name, b="unknown")).sentence.endswith(must)
    assert must not in combine(stated(a=name, b="cc-by-nd-4.0")).sentence  # it is not shared at all
    assert "must begin" not in combine(stated(a="llama2", b="mit")).sentence


def test_what_is_unknown_is_said_beside_a_stricter_verdict() -> None:
    link = "https://example.org/licence"
    found = combine({"a": (StatedLicence("cc-by-nc-4.0"),), "b": (StatedLicence("weird-1.0", link),), "c": ()})
    assert found.terms is Terms.NON_COMMERCIAL
    assert f"`b` states `weird-1.0`, of which nothing is known here (see {link}) and `c` states no licence" in found.sentence


def test_a_merge_of_nothing_known_is_unknown() -> None:
    assert (combine({}).terms, combine({}).license) == (Terms.UNKNOWN, "unknown")
    assert combine({"a": ()}).sentence.startswith("`a` states no licence")


def test_models_are_listed_with_what_they_state() -> None:
    assert in_words(stated(ja="mit", x="apache-2.0 llama2", y="")) == "ja: mit, x: apache-2.0 with llama2, y: unknown"


def test_an_adapter_without_a_licence_on_a_base_with_one_is_told_readably():
    found = stated(a="unknown apache-2.0", b="mit")
    assert in_words(found) == "a: apache-2.0 (of a part nothing is stated), b: mit"
    assert combine(found).sentence.startswith("A part of `a` states no licence, so what the merge may be used for is unknown")


@pytest.mark.parametrize(
    ("written", "name"),
    [
        ("Apache-2.0", "apache-2.0"),
        (" apache 2.0 ", "apache-2.0"),
        ("Apache License 2.0", "apache-2.0"),
        ("CC_BY_NC_4.0", "cc-by-nc-4.0"),
        ("Llama 3.1", "llama3.1"),
        ("Microsoft Research License", "microsoft-research-license"),
    ],
)
def test_a_name_is_known_however_it_is_written(written: str, name: str) -> None:
    assert licence(written).name == name
    assert licence(written).terms is not Terms.UNKNOWN


@pytest.mark.parametrize("name", ["", "   ", "other", "unknown", "cc", "apache", "mit-nc", "llama", "cc-by-nc"])
def test_nothing_is_guessed_from_a_name(name: str) -> None:
    assert licence(name).terms is Terms.UNKNOWN


@pytest.mark.parametrize(
    ("fields", "names"),
    [
        ({"license": "mit"}, ["mit"]),
        ({"license": ["mit", "Apache-2.0", "mit"]}, ["mit", "apache-2.0"]),
        ({"license": "other", "license_name": "microsoft-research-license"}, ["microsoft-research-license"]),
        ({"license": ["apache-2.0", "other"], "license_name": "qwen"}, ["apache-2.0", "qwen"]),
        ({"license": "other"}, ["other"]),
        ({"license": "other", "license_name": 3}, ["other"]),
        ({"license": "mit", "license_name": "qwen"}, ["mit"]),  # only beside other
        ({}, ["unknown"]),
        ({"license": None}, ["unknown"]),
        ({"license": ""}, ["unknown"]),
        ({"license": []}, ["unknown"]),
        ({"license": 2.0}, ["unknown"]),
        ({"license": {"name": "mit"}}, ["unknown"]),
        ({"license": [None, 3, "mit"]}, ["mit"]),
    ],
)
def test_a_card_states_names_or_nothing(fields: Mapping[str, Any], names: list[str]) -> None:
    assert [each.name for each in stated_in_card(fields)] == names


def test_the_text_of_a_licence_is_the_cards_link_or_a_file() -> None:
    assert stated_in_card({"license": "other", "license_link": "https://x"}, "LICENSE") == (
        StatedLicence("other", "https://x"),
    )
    assert stated_in_card({}, "LICENSE") == (StatedLicence("unknown", "LICENSE"),)


def test_what_a_stranger_writes_stays_within_the_sentence() -> None:
    fields = {"license": "other", "license_name": "my`own\n# Licence", "license_link": "https://x\n\n# `Buy`\there"}
    (found,) = stated_in_card(fields)
    assert found == StatedLicence("myown-#-licence", "https://x # Buy here")
    sentence = combine({"a": (found,)}).sentence
    assert sentence.startswith("`a` states `myown-#-licence`, of which nothing is known here (see https://x # Buy here)")
    assert stated_in_card({"license_link": " ` "}, "LICENSE") == (StatedLicence("unknown", "LICENSE"),)


def test_what_the_pool_states_stands_where_the_card_does_not_say() -> None:
    assert with_own([StatedLicence("unknown")], "mit") == (StatedLicence("mit"),)
    assert with_own([StatedLicence("other", "LICENSE"), StatedLicence("apache-2.0")], "MIT") == (
        StatedLicence("mit"),
        StatedLicence("apache-2.0"),
    )
    assert with_own([StatedLicence("unknown")], None) == (StatedLicence("unknown"),)


@pytest.mark.parametrize("name", ["cc-by-nc-4.0", "my-own-1.0", "cc"])
def test_a_card_that_says_something_is_not_overruled(name: str) -> None:
    assert with_own([StatedLicence(name)], "mit") == (StatedLicence(name),)


def test_what_the_pool_states_for_an_adapter_is_not_said_of_its_base(tmp_path: Path) -> None:
    files = ModelFiles(tmp_path / "base", adapter=tmp_path / "adapter")
    for folder in (tmp_path / "base", tmp_path / "adapter"):
        folder.mkdir()
    assert [each.name for each in licences_in(files, "mit")] == ["mit", "unknown"]
    (tmp_path / "adapter" / "README.md").write_text("---\nlicense: cc-by-nc-4.0\n---\n")
    (tmp_path / "base" / "README.md").write_text("---\nlicense: llama2\n---\n")
    assert [each.name for each in licences_in(files, "mit")] == ["cc-by-nc-4.0", "llama2"]
    assert [each.name for each in licences_in(ModelFiles(tmp_path / "base"), "mit")] == ["llama2"]


def test_a_base_without_a_licence_is_refused_with_where_it_might_be_read(tmp_path: Path) -> None:
    (tmp_path / "LICENSE").write_text("Be nice.")
    base, source = ModelReference(str(tmp_path)), Source("ja", ModelReference("builtin:tiny_ja_math/ja"))
    with pytest.raises(ConfigError) as refused:
        permissive_only(base, None, [source], {"ja": None})
    assert f"states no licence, so that it is unknown (see {tmp_path / 'LICENSE'}), and every merge" in str(refused.value)
