"""Licences of models, combined into the licence of their merge: the strictest wins. No legal advice, only what cards state."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from evo_merge.licence_table import NAMING, NO_ROOM, ONLY_FOR_ITSELF, ROOM, Licence, Terms, is_of_the_hub, licence

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
    elif terms is Terms.CONDITIONS and demanded:
        terms = Terms.SHARE_ALIKE  # which has room for those conditions
    may_be_shared = terms not in (Terms.NO_DERIVATIVES, Terms.CONFLICT)
    if not may_be_shared:
        names = [NOT_TO_BE_SHARED]
    elif demanded:
        names = [demanded]
    elif asking:
        names = sorted(each.name for each in asking)  # all of their terms apply
    else:
        names = [all_[0].name] if len(all_) == 1 else ["apache-2.0"]
    those = asking or all_
    if terms is Terms.CONFLICT and _demanded(asking) is not None:
        those = [each for each in all_ if each in asking or _demanded([*asking, each]) is None]
    sentence = _sentence(terms, _who(of_models, those), names, len(all_))
    if terms is Terms.CONFLICT and _is_of_versions(all_):
        sentence = f'{sentence[:-1]}, unless `gpl-2.0` is meant as "or any later version", which the card does not tell.'
    if unknown := _unknown(stated):
        first = f"{unknown[0].upper()}{unknown[1:]}"
        one = f"{first}, so what the merge may be used for is unknown; find out before you use or share it."
        sentence = one if terms is Terms.UNKNOWN else f"{sentence} Besides, {unknown}, so the merge may be less free than that."
    sentence = " ".join([sentence, *_only_for_itself(of_models), *(_naming(all_) if may_be_shared else ())])
    if terms is Terms.UNKNOWN or not stated:
        return ResultLicence(Terms.UNKNOWN, UNKNOWN, None, sentence)
    if unknown and may_be_shared:
        names = [*names, UNKNOWN]
    if len(names) == 1 and is_of_the_hub(names[0]):
        return ResultLicence(terms, names[0], None, sentence)
    return ResultLicence(terms, "other", "-and-".join(names), sentence)


def in_words(stated: Mapping[str, Sequence[StatedLicence]]) -> str:
    """Each model with what it states: ``ja: mit, base: apache-2.0``.

    An adapter that states nothing, on a base that does, is ``apache-2.0 (of a part nothing is stated)``.
    """

    def of(given: Sequence[StatedLicence]) -> str:
        known = [each.name for each in given if each.name != UNKNOWN]
        return (
            " with ".join(known) + (" (of a part nothing is stated)" if len(known) < len(given) else "") if known else UNKNOWN
        )

    return ", ".join(f"{name}: {of(given)}" for name, given in stated.items())


def stated_in_card(fields: Mapping[str, object], text: str | None = None) -> tuple[StatedLicence, ...]:
    """What a model card's metadata states, ``NOTHING_STATED`` where that is nothing.

    Args:
        fields: ``license`` is a name or a list of names, ``other`` stands for ``license_name``; other types state nothing.
        text: A file that may hold the licence, named where the card has no ``license_link``.
    """
    given = fields.get("license")
    names = [name for name in (given if isinstance(given, list) else [given]) if isinstance(name, str) and name.strip()]
    beside, link = fields.get("license_name"), fields.get("license_link")
    # A stranger wrote the link, and it goes into a sentence of Markdown.
    link = " ".join(link.replace("`", "").split()) if isinstance(link, str) else ""
    text = link or text
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
    common = [name for name in demanding[0].result if all(name in each.result for each in demanding)]
    for each in licences:
        if (
            each in demanding
            or each.terms is Terms.UNKNOWN
            or (are_non_commercial and re.fullmatch(r"cc-by-nc-[\d.]+", each.name))
        ):
            continue
        if each.terms is Terms.PERMISSIVE:
            common = [name for name in common if name not in NO_ROOM.get(each.name, ())]
        else:
            common = [name for name in common if name in ROOM.get(each.name, ())]
    return common[0] if common else None


def _is_of_versions(licences: Sequence[Licence]) -> bool:
    """Whether a conflict is only about GPL 2 without a later version; identifiers of the hub do not tell the two apart."""
    later = licence("gpl")  # of any version
    return bool(_demanded([later if each.name == "gpl-2.0" else each for each in licences]))


def _only_for_itself(of_models: Mapping[str, Sequence[Licence]]) -> Iterator[str]:
    """A sentence for every licence that allows to improve no other models, where there are others."""
    for name, model in ONLY_FOR_ITSELF.items():
        others = [other for other, given in of_models.items() if name not in {each.name for each in given}]
        if others and len(others) < len(of_models):
            who = _listing([f"`{other}`" for other in others])
            yield (
                f"`{name}` forbids its use to improve any large language model but {model} and its derivatives, "
                f"so do not merge it with {who} unless {'that is one' if len(others) == 1 else 'those are such'}."
            )


def _naming(licences: Sequence[Licence]) -> Iterator[str]:
    """What must be done with the name of a merge that is shared."""
    for name in sorted(each.name for each in licences if each.name in NAMING):
        beginning, display = NAMING[name]
        must = f'must begin with "{beginning}", and "{display}" must be displayed'
        yield f"By `{name}` the name of a merge that you share {must}."


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
                who = f"`{name}`" if len(given) < 2 else f"a part of `{name}`"  # such as an adapter, whose base says more
                found.append(f"{who} states {what}" + ("" if each.text is None else f" (see {each.text})"))
    return _listing(found)


def _listing(items: Sequence[str]) -> str:
    return items[0] if len(items) == 1 else f"{', '.join(items[:-1])} and {items[-1]}" if items else ""
