"""Licences of models, combined into the licence of their merge: the strictest wins. No legal advice, only what cards state."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from evo_merge.licence_table import NO_ROOM_FOR_APACHE, Licence, Terms, is_of_the_hub, licence

UNKNOWN = "unknown"  # the hub's word for a licence that nobody states
NOT_TO_BE_SHARED = "not-to-be-shared"  # license_name of a merge that no licence fits


@dataclass(frozen=True, slots=True)
class StatedLicence:
    """What a model says about its licence.

    Attributes:
        name: The hub's identifier, or the ``license_name`` beside ``other``; ``unknown`` where nothing is stated.
        text: Where its text is: a link, or the name of a file, which nobody parses; ``None`` where none is known of.
    """

    name: str
    text: str | None = None

    @property
    def terms(self) -> Terms:
        """What it allows, as far as it is known."""
        return licence(self.name).terms


NOTHING_STATED = StatedLicence(UNKNOWN)


@dataclass(frozen=True, slots=True)
class ResultLicence:
    """The licence of a merge.

    Attributes:
        terms: What it allows.
        license: For the card's metadata: the hub's identifier, or ``other`` or ``unknown``.
        license_name: For the metadata beside ``other``; otherwise ``None``.
        sentence: Why, naming the models that decide.
    """

    terms: Terms
    license: str
    license_name: str | None
    sentence: str


def combine(stated: Mapping[str, Sequence[StatedLicence]]) -> ResultLicence:
    """The licence of a merge of models.

    Args:
        stated: By name of the model, all that it states; every licence of one model applies. A model that states nothing is
            unknown, and so is a merge of no models.
    """
    of_models = {name: [licence(each.name) for each in given or [NOTHING_STATED]] for name, given in stated.items()}
    all_ = list(dict.fromkeys(each for given in of_models.values() for each in given)) or [licence(UNKNOWN)]
    asking = [each for each in all_ if each.terms not in (Terms.PERMISSIVE, Terms.UNKNOWN)]
    terms = max((each.terms for each in all_), key=lambda terms: terms.strictness)
    demanded = _demanded(all_)
    if terms is not Terms.NO_DERIVATIVES and demanded is None:
        terms = Terms.CONFLICT
    if terms in (Terms.NO_DERIVATIVES, Terms.CONFLICT):
        names = [NOT_TO_BE_SHARED]
    elif demanded:
        names = [demanded]
    elif asking:
        names = sorted(each.name for each in asking)  # all of their terms apply
    else:
        names = [all_[0].name] if len(all_) == 1 else ["apache-2.0"]
    those = asking or all_
    if terms is Terms.CONFLICT and _demanded(asking) is not None:
        those = [each for each in all_ if each in asking or each.name == "apache-2.0"]
    sentence = _sentence(terms, _who(of_models, those), names, len(all_))
    if unknown := _unknown(stated):
        one = f"{unknown}, so what the merge may be used for is unknown; find out before you use or share it."
        sentence = one if terms is Terms.UNKNOWN else f"{sentence} Besides, {unknown}, so the merge may be less free than that."
    if terms is Terms.UNKNOWN or not stated:
        return ResultLicence(Terms.UNKNOWN, UNKNOWN, None, sentence)
    if len(names) == 1 and is_of_the_hub(names[0]):
        return ResultLicence(terms, names[0], None, sentence)
    return ResultLicence(terms, "other", "-and-".join(names), sentence)


def in_words(stated: Mapping[str, Sequence[StatedLicence]]) -> str:
    """Each model with what it states: ``ja: mit, base: apache-2.0``."""
    return ", ".join(f"{name}: {' with '.join(each.name for each in given) or UNKNOWN}" for name, given in stated.items())


def stated_in_card(fields: Mapping[str, object], text: str | None = None) -> tuple[StatedLicence, ...]:
    """What a model card's metadata states, ``NOTHING_STATED`` where that is nothing.

    Args:
        fields: ``license`` is a name or a list of names, ``other`` stands for ``license_name``; other types state nothing.
        text: A file that may hold the licence, named where the card has no ``license_link``.
    """
    given = fields.get("license")
    names = [name for name in (given if isinstance(given, list) else [given]) if isinstance(name, str) and name.strip()]
    beside, link = fields.get("license_name"), fields.get("license_link")
    text = link if isinstance(link, str) and link.strip() else text
    if isinstance(beside, str) and beside.strip():
        names = [beside if name.strip().lower() == "other" else name for name in names]
    return tuple(dict.fromkeys(StatedLicence(licence(name).name, text) for name in names)) or (StatedLicence(UNKNOWN, text),)


def _demanded(licences: Sequence[Licence]) -> str | None:
    """The licence that share-alike demands of the merge: ``""`` where none does, ``None`` where nothing fits all."""
    demanding = [each for each in licences if each.result]
    if not demanding:
        return ""
    # Share-alike has no room for terms beside its own; non-commercial share-alike has for its sister without share-alike.
    are_non_commercial = all(each.terms is Terms.NON_COMMERCIAL for each in demanding)
    for each in licences:
        is_sister = are_non_commercial and re.fullmatch(r"cc-by-nc-[\d.]+", each.name)
        if each not in demanding and each.terms not in (Terms.PERMISSIVE, Terms.UNKNOWN) and not is_sister:
            return None
    common = [name for name in demanding[0].result if all(name in each.result for each in demanding)]
    if any(each.name == "apache-2.0" for each in licences):
        common = [name for name in common if name not in NO_ROOM_FOR_APACHE]
    return common[0] if common else None


def _sentence(terms: Terms, who: str, names: Sequence[str], n_licences: int) -> str:
    under = " and ".join(f"`{name}`" for name in names)
    if terms is Terms.PERMISSIVE and n_licences == 1:
        return f"All models state {under}, so the merge may be under it too."
    return {
        Terms.PERMISSIVE: f"{who}, all permissive, so the merge may be under {under}, with the notices of all.",
        Terms.SHARE_ALIKE: f"{who}, so the merge must be under {under}.",
        Terms.CONDITIONS: f"{who}, so the merge may be used on the terms of {under}.",
        Terms.UNKNOWN: "No model is named, so nothing is known of the licence.",
        Terms.NON_COMMERCIAL: f"{who}, so the merge is non-commercial, on the terms of {under}.",
        Terms.RESEARCH_ONLY: f"{who}, so the merge is for research only, on the terms of {under}.",
        Terms.NO_DERIVATIVES: f"{who}, and who allows no derivatives allows no merge to be shared.",
        Terms.CONFLICT: f"{who}, which contradict each other, so the merge must not be shared.",
    }[terms]


def _who(of_models: Mapping[str, Sequence[Licence]], licences: Sequence[Licence]) -> str:
    """``ja` states `mit` and `base` states `apache-2.0``, of the models that state one of the licences."""
    found = [(name, each.name) for name, given in of_models.items() for each in dict.fromkeys(given) if each in licences]
    return _listing([f"`{name}` states `{text}`" for name, text in found])


def _unknown(stated: Mapping[str, Sequence[StatedLicence]]) -> str:
    """Models with licences that are unknown, and where those might be read; empty where there are none."""
    found = []
    for name, given in stated.items():
        for each in dict.fromkeys(given or [NOTHING_STATED]):
            if each.terms is Terms.UNKNOWN:
                what = "no licence" if each.name == UNKNOWN else f"`{each.name}`, of which nothing is known here"
                found.append(f"`{name}` states {what}" + ("" if each.text is None else f" (see {each.text})"))
    return _listing(found)


def _listing(items: Sequence[str]) -> str:
    return items[0] if len(items) == 1 else f"{', '.join(items[:-1])} and {items[-1]}" if items else ""
