"""What two configs say of the computation, setting by setting: the same weights may compute another thing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from evo_merge.findings import Finding
from evo_merge.models.checks import kinds
from evo_merge.models.checks.facts import Facts
from evo_merge.models.checks.kinds import Kind


@dataclass(frozen=True, slots=True)
class _Rule:
    """Settings that make one finding together; a name may differ between architectures."""

    kind: Kind
    keys: tuple[str, ...]


_RULES = (
    _Rule(kinds.ARCHITECTURE, ("model_type",)),
    _Rule(kinds.LAYERS, ("num_hidden_layers",)),
    _Rule(
        kinds.SIZES,
        (
            "hidden_size",
            "intermediate_size",
            "moe_intermediate_size",
            "shared_expert_intermediate_size",
            "num_local_experts",
            "num_experts",
            "n_routed_experts",
            "n_shared_experts",
        ),
    ),
    _Rule(kinds.HEADS, ("num_attention_heads", "num_key_value_heads", "head_dim")),
    _Rule(kinds.ACTIVATION, ("hidden_act", "hidden_activation", "activation_function")),
    _Rule(kinds.TIED_WEIGHTS, ("tie_word_embeddings",)),
    _Rule(kinds.BIASES, ("attention_bias", "mlp_bias", "use_qkv_bias")),
    _Rule(
        kinds.ROTARY,
        ("rope_parameters", "rope_theta", "rope_scaling", "partial_rotary_factor", "rotary_pct", "rotary_emb_base"),
    ),
    _Rule(kinds.NORM_EPS, ("rms_norm_eps", "layer_norm_eps", "layer_norm_epsilon")),
    _Rule(kinds.SLIDING_WINDOW, ("sliding_window", "use_sliding_window", "layer_types", "max_window_layers")),
    _Rule(kinds.MAX_POSITIONS, ("max_position_embeddings", "original_max_position_embeddings", "n_positions")),
)
# Of how a model was trained, stored, or written to a file: nothing that a merge computes with.
_WITHOUT_EFFECT = frozenset(
    {
        "architectures",
        "attn_implementation",
        "auto_map",
        "chunk_size_feed_forward",
        "dtype",
        "finetuning_task",
        "id2label",
        "initializer_range",
        "is_decoder",
        "is_encoder_decoder",
        "label2id",
        "name_or_path",
        "output_attentions",
        "output_hidden_states",
        "output_router_logits",
        "pretraining_tp",
        "problem_type",
        "quantization_config",
        "return_dict",
        "router_aux_loss_coef",
        "router_jitter_noise",
        "task_specific_params",
        "tokenizer_class",
        "torch_dtype",
        "transformers_version",
        "use_cache",
        "vocab_size",
    }
)
_RULED = frozenset(key for rule in _RULES for key in rule.keys)


def compare_settings(ours: Facts, theirs: Facts, *, on_paths: bool) -> list[Finding]:
    """What two models' configs differ in, a finding a kind."""
    if ours.config is None or theirs.config is None:
        return []
    pair, names = f"{ours.label} and {theirs.label} differ in ", (ours.name, theirs.name)
    first, second = (_of_all_layers(config) if on_paths else config for config in (ours.config, theirs.config))
    told_of = [(rule.kind, _differences(first, second, rule.keys)) for rule in _RULES]
    found = [kind.found(pair + ", ".join(told), *names, on_paths=on_paths) for kind, told in told_of if told]
    if ours.config.get("model_type") == theirs.config.get("model_type"):  # else their settings have other names
        keys = sorted(key for key in {**first, **second} if not _is_idle(key))
        if told := _differences(first, second, keys):
            found.append(kinds.OTHER_SETTINGS.found(pair + ", ".join(told), *names))
    return found


def _of_all_layers(config: Mapping[str, Any]) -> dict[str, Any]:
    """Without what is said a layer: in a path every layer keeps its own."""
    return {key: value for key, value in config.items() if not isinstance(value, list) and key != "max_window_layers"}


def _is_idle(key: str) -> bool:
    """Whether a setting is looked at elsewhere, or changes nothing that a merge computes."""
    return (
        key in _WITHOUT_EFFECT
        or key in _RULED
        or key.startswith("_")
        or key.endswith(("_token_id", "_dropout", "dropout_prob", "_pdrop"))
    )


def _differences(ours: Mapping[str, Any], theirs: Mapping[str, Any], keys: Sequence[str]) -> list[str]:
    found = []
    for key in keys:
        first, second = ours.get(key), theirs.get(key)
        if isinstance(first, list) and isinstance(second, list):  # one entry a layer, so that depth is no difference of these
            n_shared = min(len(first), len(second))
            if first[:n_shared] == second[:n_shared]:
                continue
        if first != second:
            found.append(f"{key}: {first} and {second}")
    return found
