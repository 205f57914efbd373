"""Licences of a pool: what cards and the pool itself state, and the sources that ``models.licences`` keeps."""

import logging
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from evo_merge.errors import ConfigError
from evo_merge.licence_table import Terms, licence
from evo_merge.licences import UNKNOWN, StatedLicence
from evo_merge.models.description import read_licences
from evo_merge.models.reference import ModelFiles, locate
from evo_merge.recipe import ModelReference, Source, references

log = logging.getLogger(__name__)
PERMISSIVE = "permissive"
_SAY_NOTHING = (UNKNOWN, "other")


def licence_apart(entry: str | Mapping[str, Any]) -> tuple[str | Mapping[str, Any], str | None]:
    """A model without the licence that the pool states for it, and that licence."""
    if not isinstance(entry, Mapping):
        return entry, None
    own = entry.get("licence")
    if own is not None and (not isinstance(own, str) or not own.strip()):
        raise ConfigError(f"models: the licence of a model is a name such as apache-2.0, got {own!r}")
    return {key: value for key, value in entry.items() if key != "licence"}, own


def licences_of(reference: ModelReference, own: str | None = None) -> tuple[StatedLicence, ...]:
    """What the cards of a model state, without its weights; of a recipe, those of all models in it.

    Args:
        reference: Of the model.
        own: What the pool states for it.

    Raises:
        ModelError: A model cannot be found.
    """
    if reference.recipe is None:
        return licences_in(locate(reference, headers_only=True), own)
    return with_own(dict.fromkeys(each for inner in references(reference.recipe) for each in licences_of(inner)), own)


def licences_in(files: ModelFiles, own: str | None) -> tuple[StatedLicence, ...]:
    """What the card of a stored model states, or the pool where it does not; an adapter's base keeps what its own card says."""
    if files.adapter is None:
        return with_own(read_licences(files), own)
    of_base = read_licences(files.without_adapter)
    return tuple(dict.fromkeys(with_own(read_licences(ModelFiles(files.adapter)), own) + of_base))


def with_own(found: Iterable[StatedLicence], own: str | None) -> tuple[StatedLicence, ...]:
    """What cards state, with what the pool itself states in the place of nothing and of ``other`` without a name."""
    if own is None:
        return tuple(found)
    return tuple(dict.fromkeys(StatedLicence(licence(own).name) if each.name in _SAY_NOTHING else each for each in found))


def permissive_only(
    base: ModelReference | None, base_licence: str | None, sources: Sequence[Source], licences: Mapping[str, str | None]
) -> tuple[list[Source], dict[str, str]]:
    """The sources that allow a merge under Apache-2.0, and the others by name with the reason; warns of those.

    The paper's appendix B (Akiba et al. 2024): an open model of only such sources.

    Args:
        base: Must be permissive itself.
        base_licence: What the pool states for it, where its card does not say.
        sources: At least one must be permissive.
        licences: The same by the names of the sources.

    Raises:
        ConfigError: The base is not permissive, or no source is.
        ModelError: A model cannot be found.
    """
    if base is not None and (reason := _reason(licences_of(base, base_licence))):
        raise ConfigError(
            f"models.licences=permissive: the base '{base}' {reason}, and every merge is made of it; "
            "name another base, or models.base=null for a merge without one"
        )
    reasons = {source.name: _reason(licences_of(source.reference, licences[source.name])) for source in sources}
    kept = [source for source in sources if not reasons[source.name]]
    left_out = {name: reason for name, reason in reasons.items() if reason}
    each = "; ".join(f"'{name}' {reason}" for name, reason in left_out.items())
    if not kept:
        raise ConfigError(f"models.licences=permissive leaves no source: {each}; name others, or models.licences=null")
    if left_out:
        alone = f"; '{kept[0].name}' alone is left" if len(kept) == 1 else ""
        log.warning("models.licences=permissive leaves out: %s%s", each, alone)
    return kept, left_out


def _reason(stated: Sequence[StatedLicence]) -> str:
    """Why these do not allow a merge under Apache-2.0; empty where they do."""
    odd = [each for each in stated if each.terms is not Terms.PERMISSIVE]
    if not odd:
        return ""
    return "states " + " and ".join(_kind(each) for each in odd)


def _kind(stated: StatedLicence) -> str:
    see = "" if stated.text is None or stated.terms is not Terms.UNKNOWN else f" (see {stated.text})"
    if stated.name == UNKNOWN:
        return f"no licence, so that it is unknown{see}"
    return f"{stated.name} ({stated.terms.value}){see}"
