"""Whether models can be merged with each other, from configs, headers and tokenizers: no weight is read."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from evo_merge.errors import IncompatibleModelsError

if TYPE_CHECKING:
    from evo_merge.models.pool import Model

# Settings that change what a model computes while its tensors keep their shapes.
_DECISIVE = (
    "model_type",
    "num_hidden_layers",
    "hidden_size",
    "intermediate_size",
    "vocab_size",
    "num_attention_heads",
    "num_key_value_heads",
    "head_dim",
    "hidden_act",
    "tie_word_embeddings",
)
_TOLERABLE = ("rms_norm_eps", "rope_parameters", "sliding_window", "max_position_embeddings")
# What two layers need in common to work on one residual stream, in one checkpoint with one config.
_DECISIVE_FOR_PATHS = (
    "model_type",
    "hidden_size",
    "intermediate_size",
    "num_attention_heads",
    "num_key_value_heads",
    "head_dim",
    "hidden_act",
    "rms_norm_eps",
    "rope_parameters",
    "attention_bias",
    "mlp_bias",
    "use_sliding_window",
    "sliding_window",
)
# Embeddings, head and window are the first model's, and a path has as many layers as it has hops.
_TOLERABLE_FOR_PATHS = ("num_hidden_layers", "max_position_embeddings", "vocab_size", "tie_word_embeddings")
_SHOWN = 3  # of a list of differences of one kind


def refuse_unmixable(base: Model | None, sources: Sequence[Model]) -> list[str]:
    """Compare every source with the base, or with the first source where there is none, for mixing their weights.

    Returns:
        Warnings: differences that do not keep the models from being merged.

    Raises:
        IncompatibleModelsError: With every difference that does.
    """
    reference = base if base is not None else sources[0]
    problems: list[str] = []
    warnings: list[str] = []
    for model in sources:
        if model is reference:
            continue
        pair = f"'{model.name}' ({model.reference}) and '{reference.name}' ({reference.reference})"
        problems += [f"{pair} differ in {what}" for what in _decisive_differences(model, reference)]
        warnings += [f"{pair} differ in {what}" for what in _config_differences(model, reference, _TOLERABLE)]
    models = sources if base is None else (base, *sources)
    warnings += [f"'{model.name}' ({model.reference}) has no tokenizer" for model in models if model.tokenizer is None]
    if problems:
        raise IncompatibleModelsError(
            "these models cannot be merged: " + "; ".join(problems) + "; choose models tuned from one base"
        )
    return warnings


def refuse_unroutable(models: Sequence[Model]) -> list[str]:
    """Compare every model with the first, for paths that run through the layers of all of them.

    Returns:
        Warnings: differences that do not keep their layers from running in one path.

    Raises:
        IncompatibleModelsError: With every difference, and which of them would be tolerable alone.
    """
    first, *others = models
    problems: list[str] = []
    tolerable: list[str] = []
    for model in others:
        pair = f"'{model.name}' ({model.reference}) and '{first.name}' ({first.reference})"
        decisive = _config_differences(model, first, _DECISIVE_FOR_PATHS)
        mild = _config_differences(model, first, _TOLERABLE_FOR_PATHS)
        vocabulary = _tokenizer_differences(model.tokenizer, first.tokenizer)
        (mild if _only_grown(model.tokenizer, first.tokenizer) else decisive).extend(vocabulary)
        problems += [f"{pair} differ in {what}" for what in decisive]
        tolerable += [f"{pair} differ in {what}" for what in mild]
    if problems:
        also = f"; tolerable would be: {'; '.join(tolerable)}" if tolerable else ""
        raise IncompatibleModelsError(
            f"no path can run through the layers of these models: {'; '.join(problems)}{also}; "
            "choose models of one architecture and size that share a vocabulary"
        )
    return tolerable


def _decisive_differences(model: Model, reference: Model) -> list[str]:
    found = _config_differences(model, reference, _DECISIVE)
    ours, theirs = model.shapes, reference.shapes
    if missing := [name for name in theirs if name not in ours]:
        found.append(f"tensors: the first lacks {_some(missing)}")
    if extra := [name for name in ours if name not in theirs]:
        found.append(f"tensors: the second lacks {_some(extra)}")
    shapes = [f"{name} {ours[name]} and {theirs[name]}" for name in theirs if name in ours and ours[name] != theirs[name]]
    if shapes:
        found.append(f"shapes: {_some(shapes)}")
    return found + _tokenizer_differences(model.tokenizer, reference.tokenizer)


def _config_differences(model: Model, reference: Model, keys: Sequence[str]) -> list[str]:
    pairs = [(key, getattr(model.config, key, None), getattr(reference.config, key, None)) for key in keys]
    return [f"{key}: {ours} and {theirs}" for key, ours, theirs in pairs if ours != theirs]


def _tokenizer_differences(ours: Any | None, theirs: Any | None) -> list[str]:
    if ours is None or theirs is None or ours is theirs:
        return []
    first, second = ours.get_vocab(), theirs.get_vocab()
    if first == second:
        return []
    moved = [
        f"'{token}' is {first[token]} and {second[token]}"
        for token in first
        if token in second and first[token] != second[token]
    ]
    only = [f"'{token}'" for token in first.keys() ^ second.keys()]
    found = [f"vocabulary: {len(first)} and {len(second)} tokens"]
    if moved:
        found.append(f"token numbers: {_some(sorted(moved))}")
    if only:
        found.append(f"tokens in one alone: {_some(sorted(only))}")
    return found


def _only_grown(ours: Any | None, theirs: Any | None) -> bool:
    """Whether one vocabulary is the other with tokens added at its end, so that the shared ones mean the same."""
    if ours is None or theirs is None:
        return True
    small, large = sorted((ours.get_vocab(), theirs.get_vocab()), key=len)
    return all(large.get(token) == number for token, number in small.items())


def _some(items: Sequence[str]) -> str:
    shown = ", ".join(items[:_SHOWN])
    return shown if len(items) <= _SHOWN else f"{shown} and {len(items) - _SHOWN} more"
