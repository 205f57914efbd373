"""What known licences ask of a model that is made of others.

Identifiers are those of the Hugging Face hub (https://huggingface.co/docs/hub/repositories-licenses) and names that model cards
give under ``license_name`` beside ``license: other``. What is not here is unknown; nothing is guessed from a name.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum


class Terms(Enum):
    """What a licence, or the licences of a merge together, allow; from the loosest to the strictest.

    Unknown terms may be any; where another licence is non-commercial or stricter, so is the merge, whatever they are.
    """

    PERMISSIVE = "permissive"  # may go into a work under Apache-2.0, whose notices name it
    SHARE_ALIKE = "share-alike"  # the merge must be under the same licence
    CONDITIONS = "own terms"  # commercial use is allowed, with conditions that the merge inherits
    UNKNOWN = "unknown"
    NON_COMMERCIAL = "non-commercial"
    RESEARCH_ONLY = "research-only"
    NO_DERIVATIVES = "no derivatives"  # a merge must not be shared at all
    CONFLICT = "conflict"  # no licence of a merge satisfies all

    @property
    def strictness(self) -> int:
        """Its place in the order, 0 for the loosest."""
        return list(Terms).index(self)


@dataclass(frozen=True, slots=True)
class Licence:
    """A licence that models are under.

    Attributes:
        name: Identifier of the hub, or the name beside ``other``.
        terms: What it allows.
        result: Share-alike: the licences that a merge may have, the nearest first; otherwise empty.
    """

    name: str
    terms: Terms
    result: tuple[str, ...] = ()


_PERMISSIVE = """
    apache-2.0 mit mit-0 isc bsd bsd-2-clause bsd-3-clause bsd-3-clause-clear cc0-1.0 unlicense wtfpl zlib ncsa postgresql
    bsl-1.0 afl-3.0 ecl-2.0 pddl odc-by etalab-2.0 cdla-permissive-1.0 cdla-permissive-2.0 openmdw-1.0 openmdw-1.1
    cc-by-2.0 cc-by-2.5 cc-by-3.0 cc-by-4.0
"""
_CONDITIONS = """
    openrail openrail++ bigscience-openrail-m creativeml-openrail-m bigscience-bloom-rail-1.0 bigcode-openrail-m
    artistic-2.0 lppl-1.3c c-uda apple-ascl
    llama2 llama3 llama3.1 llama3.2 llama3.3 llama4 gemma grok2-community
    falcon-llm-license falcon-180b-license qwen qwen2 tongyi-qianwen deepseek yi-license nvidia-open-model-license
    databricks-open-model-license stabilityai-ai-community lfm1.0
"""
_NON_COMMERCIAL = "cc-by-nc-2.0 cc-by-nc-3.0 cc-by-nc-4.0 mnpl mnpl-0.1"
_RESEARCH_ONLY = """
    microsoft-research-license msrla msr-la llama1 mrl tongyi-qianwen-research qwen-research deepfloyd-if-license intel-research
    h-research apple-amlr fair-noncommercial-research-license stabilityai-nc-research-community
"""
_NO_DERIVATIVES = "cc-by-nd-4.0 cc-by-nc-nd-3.0 cc-by-nc-nd-4.0"
# These fit only themselves.
_OTHER_SHARE_ALIKE = "epl-2.0 gfdl ms-pl osl-3.0 ofl-1.1 lgpl-lr odbl cdla-sharing-1.0"
# The appendix of EUPL 1.2 (https://eupl.eu/1.2/en), whose CC BY-SA 3.0 is only for works other than software.
_BESIDE_EUPL = "mpl-2.0 epl-1.0 osl-3.0 lgpl-2.1 lgpl-3.0 gpl-2.0 gpl-3.0 agpl-3.0"
# Which licence an adaptation may have: for the GNU family https://www.gnu.org/licenses/gpl-faq.html#AllCompatibility (an
# identifier without "or later" is read as "only"; a family without a version as any), for Creative Commons
# https://creativecommons.org/compatiblelicenses (a later version of the same kind; 4.0 also GPL 3). EPL 1.0 (section 7) and
# EUPL 1.1 (article 5) allow their later versions.
_SHARE_ALIKE: Mapping[str, str] = {
    "agpl-3.0": "agpl-3.0",
    "gpl-3.0": "gpl-3.0 agpl-3.0",
    "gpl-2.0": "gpl-2.0",
    "gpl": "gpl gpl-2.0 gpl-3.0 agpl-3.0",
    "lgpl-3.0": "lgpl-3.0 gpl-3.0 agpl-3.0",
    "lgpl-2.1": "lgpl-2.1 gpl-2.0 gpl-3.0 agpl-3.0",
    "lgpl": "lgpl lgpl-2.1 lgpl-3.0 gpl gpl-2.0 gpl-3.0 agpl-3.0",
    "mpl-2.0": "mpl-2.0 lgpl-2.1 lgpl-3.0 gpl-2.0 gpl-3.0 agpl-3.0",
    "cc-by-sa-3.0": "cc-by-sa-3.0 cc-by-sa-4.0",
    "cc-by-sa-4.0": "cc-by-sa-4.0 gpl-3.0",
    "epl-1.0": "epl-1.0 epl-2.0",
    "eupl-1.1": f"eupl-1.1 eupl-1.2 {_BESIDE_EUPL}",
    "eupl-1.2": f"eupl-1.2 {_BESIDE_EUPL}",
    **{name: name for name in _OTHER_SHARE_ALIKE.split()},
}
_NON_COMMERCIAL_SHARE_ALIKE: Mapping[str, str] = {
    "cc-by-nc-sa-2.0": "cc-by-nc-sa-2.0 cc-by-nc-sa-3.0 cc-by-nc-sa-4.0",
    "cc-by-nc-sa-3.0": "cc-by-nc-sa-3.0 cc-by-nc-sa-4.0",
    "cc-by-nc-sa-4.0": "cc-by-nc-sa-4.0",
}
_ALIASES: Mapping[str, str] = {
    "apache2": "apache-2.0",
    "apache2.0": "apache-2.0",
    "apache-license-2.0": "apache-2.0",
    "apache-license-version-2.0": "apache-2.0",
    "mit-license": "mit",
    "cc0": "cc0-1.0",
    "llama-2": "llama2",
    "llama-3": "llama3",
    "llama-3.1": "llama3.1",
    "llama-3.2": "llama3.2",
    "llama-3.3": "llama3.3",
    "llama-4": "llama4",
    "llama-1": "llama1",
    "gemma-terms-of-use": "gemma",
    "deepseek-license": "deepseek",
    "microsoft-research-license-terms": "microsoft-research-license",
    "tongyi-qianwen-license-agreement": "tongyi-qianwen",
    "tongyi-qianwen-research-license-agreement": "tongyi-qianwen-research",
}
# Names that cards give under ``license_name``; the others may stand under ``license`` itself.
_NOT_OF_THE_HUB = """
    mit-0 falcon-llm-license falcon-180b-license qwen qwen2 tongyi-qianwen deepseek yi-license nvidia-open-model-license
    databricks-open-model-license stabilityai-ai-community lfm1.0 mrl mnpl mnpl-0.1 microsoft-research-license msrla msr-la
    llama1 tongyi-qianwen-research qwen-research stabilityai-nc-research-community
"""
_GNU = frozenset({"gpl", "gpl-2.0", "gpl-3.0", "agpl-3.0", "lgpl", "lgpl-2.1", "lgpl-3.0"})
# GPL 2 has no room for the patent clause of Apache-2.0, which ECL-2.0 has too; a family without a version then means version 3.
_WITHOUT_PATENT_CLAUSE = frozenset({"gpl", "gpl-2.0", "lgpl", "lgpl-2.1"})
# Share-alike licences that have no room for a permissive one (https://www.gnu.org/licenses/license-list.html).
NO_ROOM: Mapping[str, frozenset[str]] = {
    "apache-2.0": _WITHOUT_PATENT_CLAUSE,
    "ecl-2.0": _WITHOUT_PATENT_CLAUSE,
    "afl-3.0": _GNU,
}
# Share-alike licences that one with terms of its own may become part of (section 4(c)(ii) of Artistic 2.0).
ROOM: Mapping[str, frozenset[str]] = {"artistic-2.0": _GNU}
# What must not improve any large language model but itself and its derivatives (section 1.b.v of both licences).
ONLY_FOR_ITSELF: Mapping[str, str] = {"llama2": "Llama 2", "llama3": "Meta Llama 3"}
# How the name of a shared model made of one must begin, and what must be displayed beside it (section 1.b.i).
NAMING: Mapping[str, tuple[str, str]] = {
    "llama3": ("Llama 3", "Built with Meta Llama 3"),
    **dict.fromkeys(("llama3.1", "llama3.2", "llama3.3", "llama4"), ("Llama", "Built with Llama")),
}

_KNOWN = {
    name: Licence(name, terms)
    for terms, names in (
        (Terms.PERMISSIVE, _PERMISSIVE),
        (Terms.CONDITIONS, _CONDITIONS),
        (Terms.NON_COMMERCIAL, _NON_COMMERCIAL),
        (Terms.RESEARCH_ONLY, _RESEARCH_ONLY),
        (Terms.NO_DERIVATIVES, _NO_DERIVATIVES),
    )
    for name in names.split()
} | {
    name: Licence(name, terms, tuple(result.split()))
    for terms, entries in ((Terms.SHARE_ALIKE, _SHARE_ALIKE), (Terms.NON_COMMERCIAL, _NON_COMMERCIAL_SHARE_ALIKE))
    for name, result in entries.items()
}


def licence(name: str) -> Licence:
    """The licence of a name as cards write it; its terms are unknown where the table has none of that name."""
    plain = re.sub(r"[\s_]+", "-", name.replace("`", "").strip().lower())
    plain = _ALIASES.get(plain, plain)
    return _KNOWN.get(plain, Licence(plain or "unknown", Terms.UNKNOWN))


def is_of_the_hub(name: str) -> bool:
    """Whether a card may state the known licence under ``license``, rather than as ``other`` with a name."""
    return name in _KNOWN and name not in _NOT_OF_THE_HUB.split()
