"""What licences ask of a merge: the matrix, the published pools, and cards that state nothing that can be read."""

from collections.abc import Mapping
from typing import Any

import pytest
import yaml

from evo_merge.command_line import CONF
from evo_merge.licence_table import Terms, licence
from evo_merge.licences import StatedLicence, combine, in_words, stated_in_card
from evo_merge.models.pool_licences import with_own


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
    ("gpl-3.0", "osl-3.0", Terms.CONFLICT, "other", "not-to-be-shared"),
    ("cc-by-sa-4.0", "cc-by-nc-sa-4.0", Terms.CONFLICT, "other", "not-to-be-shared"),
    ("cc-by-nc-sa-4.0", "llama2", Terms.CONFLICT, "other", "not-to-be-shared"),
    ("apache-2.0", "my-own-1.0", Terms.UNKNOWN, "unknown", None),
    ("apache-2.0", "", Terms.UNKNOWN, "unknown", None),
    ("llama3", "unknown", Terms.UNKNOWN, "unknown", None),
    ("cc", "mit", Terms.UNKNOWN, "unknown", None),  # the family names no terms
    ("cc-by-nc-4.0", "unknown", Terms.NON_COMMERCIAL, "cc-by-nc-4.0", None),
    ("msrla", "other", Terms.RESEARCH_ONLY, "other", "msrla"),
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
    conflict = combine(stated(a="gpl-2.0", b="apache-2.0", c="mit"))
    assert conflict.sentence == (
        "`a` states `gpl-2.0` and `b` states `apache-2.0`, which contradict each other, so the merge must not be shared."
    )


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


def test_what_the_pool_states_stands_where_the_card_does_not_say() -> None:
    assert with_own([StatedLicence("unknown")], "mit") == (StatedLicence("mit"),)
    assert with_own([StatedLicence("other", "LICENSE"), StatedLicence("apache-2.0")], "MIT") == (
        StatedLicence("mit"),
        StatedLicence("apache-2.0"),
    )
    assert with_own([StatedLicence("cc-by-nc-4.0")], "mit") == (StatedLicence("cc-by-nc-4.0"),)  # a card is not overruled
    assert with_own([StatedLicence("unknown")], None) == (StatedLicence("unknown"),)
