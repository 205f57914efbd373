"""What can be wrong with a LoRA adapter and the model it is put on, from the adapter's config and its own small file."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open

from evo_merge.findings import Finding
from evo_merge.models.adapters import ADAPTER_FILE, ChangedNames, unmergeable_kind
from evo_merge.models.checks import kinds
from evo_merge.models.checks.facts import Facts
from evo_merge.models.checks.tokens import some
from evo_merge.models.layer_path import EMBEDDING

_EMBEDDINGS = ("embed_tokens.weight", "embed_in.weight", "wte.weight")
# base_model.model.<module>.lora_A.weight, some with the adapter's name before "weight"; of embeddings lora_embedding_A.
_LORA = re.compile(r"^(?:base_model\.model\.)?(?P<module>.+)\.lora_(?:embedding_)?(?P<side>[AB])(?:\.\w+)*?(?<!\.bias)$")


def adapter_findings(facts: Facts) -> list[Finding]:
    """Whether an adapter fits its base, by its config and header; a model without an adapter has no findings."""
    return [] if facts.adapter is None else list(_findings(facts, facts.adapter))


def adapter_values(facts: Facts) -> list[Finding]:
    """What an adapter's values tell; all of them are looked at, for they are few."""
    if facts.adapter is None or _config(facts.adapter) is None or _shapes(facts.adapter) is None:
        return []
    return list(_values(facts, facts.adapter))


def _label(facts: Facts, folder: Path) -> str:
    return f"the adapter '{facts.name}' ({folder})"


def _config(folder: Path) -> dict[str, Any] | None:
    """The adapter's config; ``None`` where it is none."""
    try:
        config = json.loads((folder / "adapter_config.json").read_text(encoding="utf-8"))
        return config | {"peft_type": str(config.get("peft_type", "unknown")).upper()}  # type: ignore[no-any-return]
    except (OSError, ValueError, TypeError, AttributeError):
        return None


def _shapes(folder: Path) -> dict[str, tuple[int, ...]] | None:
    """Shape of every tensor of the adapter's file; ``None`` where that cannot be read."""
    try:
        with safe_open(str(folder / ADAPTER_FILE), framework="pt", device="cpu") as file:
            return {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118  no mapping
    except (SafetensorError, OSError):
        return None


def _findings(facts: Facts, folder: Path) -> Iterator[Finding]:
    label = _label(facts, folder)
    config, shapes = _config(folder), _shapes(folder)
    if config is None:
        yield kinds.ADAPTER_CONFIG.found(f"{label} has a config that cannot be read", facts.name)
    if shapes is None:
        yield kinds.TRUNCATED.found(f"'{folder / ADAPTER_FILE}' is truncated or corrupted", facts.name)
    if config is None or shapes is None:
        return
    if kind := unmergeable_kind(config):
        yield kinds.ADAPTER_KIND.found(f"{label} {kind}", facts.name, mend="")
        return
    tied = bool((facts.config or {}).get("tie_word_embeddings"))
    changed = ChangedNames.of(shapes)
    if facts.shapes is not None and (misfit := changed.misfit(config, facts.shapes, tied=tied)):
        yield kinds.ADAPTER_TARGETS.found(f"{label} {misfit}", facts.name, mend="")
        return
    if tied and EMBEDDING in changed.added and not config.get("ensure_weight_tying"):
        yield kinds.ADAPTER_TIED.found(f"{label} adds to '{EMBEDDING}', which is also the head of its base", facts.name)
    yield from _named_base(facts, label, config)
    yield from _fit(facts, label, config, _pairs(shapes))


def _pairs(shapes: Mapping[str, tuple[int, ...]]) -> dict[str, dict[str, tuple[int, ...]]]:
    """Shapes of the two matrices of each adapted tensor, by the tensor's name in the model."""
    pairs: dict[str, dict[str, tuple[int, ...]]] = {}
    for name, shape in shapes.items():
        if found := _LORA.match(name):
            pairs.setdefault(f"{found['module']}.weight", {})[found["side"]] = shape
    return pairs


def _named_base(facts: Facts, label: str, config: Mapping[str, Any]) -> Iterator[Finding]:
    """A folder may be moved and a name spelt in two ways, so that only the last part of a name counts."""
    named, base = config.get("base_model_name_or_path"), facts.model.reference.base
    if not named or base is None:
        return
    given = base.model.removeprefix("builtin:").removeprefix("package:")
    # A snapshot of the hub's cache is a folder named by its commit, under one named models--org--name.
    ours, theirs = (re.sub(r"[^a-z0-9]", "", Path(str(name)).name.lower()) for name in (given, named))
    if (
        ours
        and theirs
        and ours not in theirs
        and theirs not in ours
        and f"--{Path(str(named)).name}".lower() not in given.lower()
    ):
        yield kinds.ADAPTER_BASE.found(f"{label} was made for '{named}' by its config, and is put on '{base}'", facts.name)


def _fit(
    facts: Facts, label: str, config: Mapping[str, Any], pairs: Mapping[str, Mapping[str, tuple[int, ...]]]
) -> Iterator[Finding]:
    if not pairs:
        yield kinds.ADAPTER_TARGETS.found(f"{label} has no LoRA matrices", facts.name)
    if facts.shapes is None:
        return
    if lost := [name for name in pairs if name not in facts.shapes]:
        base = facts.model.reference.base
        yield kinds.ADAPTER_TARGETS.found(f"{label} changes {some(lost)}, which its base '{base}' does not have", facts.name)
    odd, ranks = [], []
    expected = {config.get("r"), *(config.get("rank_pattern") or {}).values()}
    for name, pair in pairs.items():
        if pair.keys() != {"A", "B"}:
            odd.append(f"{name} has only lora_{min(pair)}")
            continue
        down, up = pair["A"], pair["B"]  # (rank, in) and (out, rank)
        made_for = (down[-1], up[0]) if name.endswith(_EMBEDDINGS) else (up[0], down[-1])  # of embeddings it is transposed
        fits = [made_for, made_for[::-1]] if config.get("fan_in_fan_out") else [made_for]  # GPT-2's are (in, out)
        if name in facts.shapes and facts.shapes[name] not in fits:
            odd.append(f"{name} {facts.shapes[name]}, and the adapter's {made_for}")
        if down[0] != up[-1] or down[0] not in expected:
            ranks.append(f"{name} of rank {down[0]}" + (f" and {up[-1]}" if up[-1] != down[0] else ""))
    if odd:
        yield kinds.ADAPTER_SHAPES.found(f"{label} does not fit its base: {some(odd)}", facts.name)
    if ranks:
        said = " or ".join(str(rank) for rank in sorted(expected, key=str))
        text = f"{label} has matrices of another rank than its config says ({said}): {some(ranks)}"
        yield kinds.ADAPTER_RANK.found(text, facts.name)


def _values(facts: Facts, folder: Path) -> Iterator[Finding]:
    label, config = _label(facts, folder), _config(folder) or {}
    bad: list[str] = []
    adds = False
    with safe_open(str(folder / ADAPTER_FILE), framework="pt", device="cpu") as file:
        for name in file.keys():  # noqa: SIM118  a handle is no mapping
            tensor = file.get_tensor(name)
            if not torch.isfinite(tensor.sum(dtype=torch.float32)):
                bad.append(name)
            # A starts from random numbers and B from zeros, so that B says whether it was trained; of embeddings it is A.
            # DoRA's magnitudes and tensors that are saved whole count as trained.
            adds = adds or ("lora_A" not in name and "lora_embedding_B" not in name and bool(tensor.any()))
    if bad:
        yield kinds.NOT_FINITE.found(f"{label} has a NaN or an infinity in '{bad[0]}'", facts.name)
    if config.get("lora_alpha") == 0 or not adds:
        why = "its lora_alpha is 0" if config.get("lora_alpha") == 0 else "all its matrices B are zero"
        yield kinds.ADAPTER_WITHOUT_EFFECT.found(f"{label} adds nothing to its base: {why}", facts.name)
