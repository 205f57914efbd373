"""What can be wrong with one model by itself, from its headers, its config and its tokenizer."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from evo_merge.findings import Finding
from evo_merge.licence_table import Terms
from evo_merge.licences import UNKNOWN, combine, in_words
from evo_merge.models.checks import kinds
from evo_merge.models.checks.facts import Facts, writes_text
from evo_merge.models.checks.tokens import some
from evo_merge.models.model import Model

# Ends of the class names under "architectures" of models with another head.
_OTHER_HEADS = ("Classification", "QuestionAnswering", "MaskedLM", "MultipleChoice", "RewardModel", "NextSentencePrediction")
_DEQUANTISED = (
    "gguf"  # what transformers saves of a GGUF file that it read holds plain numbers, and still says where they are from
)


def findings_alone(facts: Facts) -> Iterator[Finding]:
    """What is wrong with a model, whatever it is to be merged with; of an adapter, with the model that it is put on."""
    yield from _kind_of_model(facts)
    yield from _stored(facts)
    yield from _words(facts)


def licence_findings(models: Sequence[Model]) -> Iterator[Finding]:
    """What keeps a merge from being shared, as far as the models' cards tell."""
    stated = {model.name: model.licences for model in models}
    for model in models:
        if all(each.name == UNKNOWN for each in stated[model.name]):
            yield kinds.LICENCE_UNKNOWN.found(f"'{model.name}' ({model.reference}) states no licence", model.name)
    if combine(stated).terms in (Terms.CONFLICT, Terms.NO_DERIVATIVES):
        yield kinds.LICENCE_CONFLICT.found(
            f"the licences do not allow a merge to be shared ({in_words(stated)})", *dict.fromkeys(stated)
        )


def _kind_of_model(facts: Facts) -> Iterator[Finding]:
    if facts.config is None:
        return
    quantisation = _quantisation(facts)
    if quantisation is not None:
        yield kinds.QUANTISED.found(f"{facts.label} is quantised ({quantisation})", facts.name)
    heads = [name for name in facts.model.config.architectures or [] if _is_other_head(name)]
    if heads:
        text = f"{facts.label} is a {heads[0]}, which is no causal language model"
        yield kinds.NOT_A_LANGUAGE_MODEL.found(text, facts.name)
    elif not writes_text(facts.model.config):
        of_type = facts.config.get("model_type")
        text = f"{facts.label} is of type '{of_type}', which is no causal language model"
        yield kinds.NOT_A_LANGUAGE_MODEL.found(text, facts.name)


def _is_other_head(architecture: str) -> bool:
    """Whether a class writes no text: a head for something else, or none, such as ``LlamaModel``."""
    is_bare = architecture.endswith("Model") and not architecture.endswith("LMHeadModel")
    return is_bare or architecture.endswith(_OTHER_HEADS)


def _quantisation(facts: Facts) -> str | None:
    """How a model that lies in plain files was quantised; ``None`` where it was not."""
    settings: Any = getattr(facts.model.config, "quantization_config", None)
    if settings is None or facts.is_gguf:
        return None
    fields: Mapping[str, Any] = settings if isinstance(settings, Mapping) else settings.to_dict()
    method = str(getattr(fields.get("quant_method"), "value", fields.get("quant_method", "unknown method")))
    return None if method == _DEQUANTISED else method


def _stored(facts: Facts) -> Iterator[Finding]:
    if facts.shapes is None or facts.expected is None or _quantisation(facts) is not None:
        return
    if lost := facts.lacking():
        one = f"no tensor '{lost[0]}'" if len(lost) == 1 else f"no tensor '{lost[0]}' (and {len(lost) - 1} more)"
        tied = "; set tie_word_embeddings to true in config.json if it has none of its own" if "lm_head.weight" in lost else ""
        mend = kinds.INCOMPLETE.mend + tied
        yield kinds.INCOMPLETE.found(f"{facts.label} has {one}, which its architecture needs", facts.name, mend=mend)
    odd = [
        f"{name} {facts.shapes[name]} in the file, {shape} by its config"
        for name, shape in facts.expected.items()
        if name in facts.shapes and facts.shapes[name] != shape
    ]
    if odd:
        yield kinds.CONFIG_MISMATCH.found(f"{facts.label} does not fit its config: {some(odd)}", facts.name)
    if spare := [name for name in facts.shapes if name not in facts.expected]:
        yield kinds.EXTRA_TENSORS.found(
            f"{facts.label} has tensors that its architecture does not use: {some(spare)}", facts.name
        )


def _words(facts: Facts) -> Iterator[Finding]:
    if facts.is_mute:
        yield kinds.NO_TOKENIZER.found(f"{facts.label} has no tokenizer", facts.name)
    if facts.tokenizer is None:
        return
    rows = (facts.config or {}).get("vocab_size")
    beyond = sorted((n, token) for token, n in facts.tokenizer.vocabulary.items() if rows is not None and n >= rows)
    if beyond:
        which = some([f"'{token}' ({number})" for number, token in beyond])
        yield kinds.TOKEN_OUT_OF_RANGE.found(f"{facts.label} has {rows} rows of embeddings and the tokens {which}", facts.name)
