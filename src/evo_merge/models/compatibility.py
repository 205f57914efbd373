"""Whether models can be merged with each other: every finding about them, gathered in one place.

``describe`` gathers what headers, configs and tokenizers say, ``for_mixing`` and ``for_paths`` compare that without reading a
weight, ``in_memory`` and ``in_searched_paths`` ask whether a search can make candidates of them, and ``in_values`` looks at a
small sample of the weights.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from evo_merge.findings import Finding, refusals, refuse, warnings
from evo_merge.models.aligned import AlignedModel
from evo_merge.models.checks import kinds
from evo_merge.models.checks.adapters import adapter_findings, adapter_values
from evo_merge.models.checks.alone import findings_alone
from evo_merge.models.checks.facts import Facts, facts_of, vocabulary_tensors
from evo_merge.models.checks.samples import Sampled, copies_among, findings_in_values, sampled_or_finding
from evo_merge.models.checks.settings import compare_settings
from evo_merge.models.checks.tensors import compare_tensors
from evo_merge.models.checks.tokens import TokenizerFacts, compare_aligned_tokens, compare_templates, compare_tokens
from evo_merge.models.layer_path import FOLDABLE
from evo_merge.models.untied import as_stored

if TYPE_CHECKING:
    from evo_merge.models.model import Model
    from evo_merge.models.pool import UnreadableModelsError

NOT_MIXABLE = "these models cannot be merged"
NOT_ROUTABLE = "no path can run through the layers of these models"
# Of layers that run in one path these need not agree by name or number: embeddings and head are the first model's.
_OF_MIXTURES = frozenset({kinds.NO_TOKENIZER.name, kinds.SHAPES.name, kinds.MISSING_TENSORS.name, kinds.DTYPE.name})


@dataclass(frozen=True)
class Described:
    """Models as their files describe them, with what kept parts of that from being read.

    Attributes:
        base: What the sources were tuned from, where there is one.
        sources: At least one.
        findings: About each model by itself.
        are_aligned: Whether rows are matched by token, so that vocabularies may differ. What is described are the models with
            their own.
    """

    base: Facts | None
    sources: tuple[Facts, ...]
    findings: tuple[Finding, ...]
    are_aligned: bool = False

    @property
    def models(self) -> tuple[Facts, ...]:
        """The base, where there is one, and the sources."""
        return self.sources if self.base is None else (self.base, *self.sources)

    @property
    def leader(self) -> Facts:
        """The model that the others are compared with: the base, or the first source."""
        return self.models[0]


def describe(base: Model | None, sources: Sequence[Model]) -> Described:
    """Gather what the models' files say; no weight is read."""
    tokenizers: dict[str, TokenizerFacts] = {}
    found: list[Finding] = []
    all_facts = []
    models = sources if base is None else (base, *sources)
    for model in map(as_stored, models):
        facts, unreadable = facts_of(model, tokenizers)
        all_facts.append(facts)
        found += unreadable
    seen: set[object] = set()
    for facts in all_facts:
        under = facts.model.reference.base or facts.model.reference  # adapters of one model share what is wrong with it
        if under not in seen:
            seen.add(under)
            found += findings_alone(facts)
        found += adapter_findings(facts)
    own, rest = (None, all_facts) if base is None else (all_facts[0], all_facts[1:])
    return Described(own, tuple(rest), tuple(dict.fromkeys(found)), any(isinstance(model, AlignedModel) for model in models))


def for_mixing(described: Described) -> list[Finding]:
    """What speaks against mixing the weights of the models, each source compared with the base or the first source."""
    found = list(described.findings)
    for facts in _comparable(described):
        pair = (facts, described.leader)
        tokens = compare_aligned_tokens(*pair) if described.are_aligned else compare_tokens(*pair, on_paths=False)
        settings = [*compare_settings(*pair, on_paths=False), *tokens]
        # Rows that are matched by token may be of any number.
        known = {kinds.VOCABULARY_SIZE.name} if described.are_aligned else set()
        found += settings + compare_tensors(*pair, known | {finding.name for finding in settings})
    return found + compare_templates(described.models)


def for_paths(described: Described) -> list[Finding]:
    """What speaks against running layers of the models in one path, each compared with the first."""
    found = [finding for finding in described.findings if finding.name not in _OF_MIXTURES]
    for facts in _comparable(described):
        pair = (facts, described.leader)
        found += [*compare_settings(*pair, on_paths=True), *compare_tokens(*pair, on_paths=True)]
    return found + compare_templates(described.models)


def _comparable(described: Described) -> list[Facts]:
    """The models to compare with the first: of what is no such model, or not numbers, everything would differ."""
    apart = (kinds.NOT_A_LANGUAGE_MODEL.name, kinds.QUANTISED.name)
    odd = {name for finding in described.findings if finding.name in apart for name in finding.models}
    return [] if described.leader.name in odd else [facts for facts in described.models[1:] if facts.name not in odd]


def in_memory(described: Described) -> list[Finding]:
    """What keeps a search from making candidates in memory, though a merge of the models can be built as files."""
    leader = described.leader
    if not leader.is_rearranged:
        return []
    of_type = leader.model.config.model_type
    text = f"{leader.label} is of type '{of_type}', whose weights transformers rearranges when it loads them"
    return [kinds.REARRANGED.found(text, leader.name)]


def in_searched_paths(described: Described) -> list[Finding]:
    """What keeps a search from running paths through the models, though a path without scales can be built as files."""
    models = [described.leader, *_comparable(described)]
    return [
        kinds.UNFOLDABLE.found(
            f"{facts.label} is of type '{facts.model.config.model_type}', and searched paths run through {', '.join(FOLDABLE)}",
            facts.name,
        )
        for facts in models
        if facts.model.config.model_type not in FOLDABLE
    ]


def in_values(described: Described, known: Iterable[Finding] = ()) -> list[Finding]:
    """What a sample of the weights tells of models that are to be mixed.

    Args:
        described: The models.
        known: What was found before: where a model comes from is not asked of one that is refused.
    """
    refused = {name for finding in refusals(known) for name in finding.models}
    found: list[Finding] = []
    sampled: dict[str, Sampled] = {}
    for facts in described.models:
        values, unreadable = sampled_or_finding(facts)
        found += [*unreadable, *adapter_values(facts)]
        if values is not None:
            sampled[facts.name] = values
    base = None if described.base is None else sampled.get(described.base.name)
    sources = [sampled[facts.name] for facts in described.sources if facts.name in sampled]
    leader = described.leader
    by_token = vocabulary_tensors(leader.model.config) if described.are_aligned and leader.config is not None else frozenset()
    found += findings_in_values(base, sources, refused, by_token)
    found += copies_among(described.sources, sampled)
    return found


def despite(error: UnreadableModelsError, *, on_paths: bool) -> list[Finding]:
    """What can be found about a pool of which some models cannot be opened: that, and everything about the others."""
    rest = describe(error.base, error.sources) if error.sources else None
    found = [] if rest is None else for_paths(rest) if on_paths else for_mixing(rest)
    return [*error.findings, *found]


def refuse_with_the_rest(error: UnreadableModelsError, *, on_paths: bool) -> None:
    """Raise ``IncompatibleModelsError`` with what else keeps the models from being merged, where there is anything else."""
    found = refusals(despite(error, on_paths=on_paths))
    if len(found) > len(error.findings):
        refuse(found, NOT_ROUTABLE if on_paths else NOT_MIXABLE)


def refuse_unmixable(base: Model | None, sources: Sequence[Model]) -> list[str]:
    """Compare every source with the base, or with the first source where there is none, for mixing their weights.

    Returns:
        Warnings: differences that do not keep the models from being merged.

    Raises:
        IncompatibleModelsError: With every refusal.
    """
    found = for_mixing(describe(base, sources))
    refuse(found, NOT_MIXABLE)
    return [finding.sentence for finding in warnings(found)]


def refuse_unroutable(models: Sequence[Model]) -> list[str]:
    """Compare every model with the first, for paths that run through the layers of all of them.

    Returns:
        Warnings: differences that do not keep their layers from running in one path.

    Raises:
        IncompatibleModelsError: With every refusal.
    """
    found = for_paths(describe(None, models))
    refuse(found, NOT_ROUTABLE)
    return [finding.sentence for finding in warnings(found)]
