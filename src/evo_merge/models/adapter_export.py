"""Writing a merge of LoRA adapters as one LoRA adapter, which ``peft`` loads on the same base."""

import json
import logging
from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from evo_merge.errors import ConfigError, RecipeError, UnusableCandidateError
from evo_merge.models.adapter_space import AdapterSpace, MergedAdapters
from evo_merge.models.adapters import ADAPTER_CONFIG, ADAPTER_FILE, LowRank
from evo_merge.models.partial import partial_folder, place_for
from evo_merge.models.pool import Pool
from evo_merge.models.reference import absolute_recipe, path_here
from evo_merge.recipe import ParameterSpaceRecipe, Recipe, to_yaml

log = logging.getLogger(__name__)
_PREFIX = "base_model.model."
_WEIGHT = ".weight"


@dataclass(frozen=True)
class Factors:
    """What the merge adds to one tensor: ``left @ right``.

    Attributes:
        left: ``(rows, rank)`` float32.
        right: ``(rank, columns)`` float32.
        like: A source's change of the tensor, which says how files hold it.
    """

    left: Tensor
    right: Tensor
    like: LowRank


def write_adapter(
    recipe: Recipe, pool: Pool, folder: Path, *, rank: int | None = None, allowed_code: tuple[str, ...] = ()
) -> None:
    """Write the recipe's model as an adapter of its sources' base; the folder appears only when it is complete.

    The adapter has the sum of the sources' ranks and adds what the merge adds, within the rounding of float32.

    Args:
        recipe: A mixture of LoRA adapters of one base, by a method that is linear in the task vectors.
        pool: The recipe's models.
        folder: To be written; it may be there if it is empty.
        rank: At most so many ranks a tensor, the best that there are (Eckart and Young 1936); ``None`` keeps all.
        allowed_code: Dotted names of methods from elsewhere that may run.

    Raises:
        ConfigError: ``rank`` is below 1.
        RecipeError: The recipe is no adapter, or does not fit itself; the message says what to do instead.
        ModelError: The folder holds something, is being written, or runs out of disk; or an adapter cannot be read.
        UnusableCandidateError: The matrices are not finite.
    """
    if rank is not None and rank < 1:
        raise ConfigError(f"rank must be 1 or more, or null for the sum of the adapters' ranks, got {rank}")
    folder = place_for(folder)
    merged = _merged(recipe, pool, allowed_code)
    factors = {name: found for name in merged.family.base.shapes if (found := _factors(merged, name)) is not None}
    if not factors:
        raise RecipeError("the merge adds nothing to the base: all weights are 0; choose others")
    if rank is not None:
        factors = _cut(factors, rank)
    with partial_folder(folder, "adapter", ()) as partial:
        save_file(_in_files(factors), partial.path / ADAPTER_FILE, metadata={"format": "pt"})
        (partial.path / ADAPTER_FILE).chmod(0o644)  # safetensors writes for the owner alone
        settings = json.dumps(_settings(factors, merged), indent=2, sort_keys=True)
        (partial.path / ADAPTER_CONFIG).write_text(settings + "\n", encoding="utf-8")
        (partial.path / "recipe.yaml").write_text(to_yaml(absolute_recipe(recipe)), encoding="utf-8")


def truncated(left: Tensor, right: Tensor, rank: int) -> tuple[Tensor, Tensor, float]:
    """The matrices of lower rank whose product is nearest to ``left @ right``.

    By the singular values of the product, found from the QR decompositions of both factors, never from the product itself.

    Args:
        left: ``(rows, n)``.
        right: ``(n, columns)``.
        rank: At most so many.

    Returns:
        ``(rows, rank)``, ``(rank, columns)``, each with the square roots of the singular values, and the share of the
        product's squared Frobenius norm that is kept.
    """
    q_left, r_left = torch.linalg.qr(left.double())
    q_right, r_right = torch.linalg.qr(right.double().T)
    u, s, v = torch.linalg.svd(r_left @ r_right.T)
    root = s[:rank].sqrt()
    total = float(s.square().sum())
    kept = float(s[:rank].square().sum()) / total if total > 0 else 1.0
    return ((q_left @ u[:, :rank]) * root).to(left), (root[:, None] * (q_right @ v[:rank].T).T).to(right), kept


def _merged(recipe: Recipe, pool: Pool, allowed_code: tuple[str, ...]) -> MergedAdapters:
    whole = "build the whole model with as=checkpoint"
    if not isinstance(recipe, ParameterSpaceRecipe):
        raise RecipeError(f"a layer path is no adapter; {whole}")
    try:
        merged = AdapterSpace(pool, torch.device("cpu"), allowed_code, residency="disk").inside(recipe)
    except RecipeError as error:
        raise RecipeError(f"the recipe cannot be written as an adapter: {error}; or {whole}") from error
    for name in merged.family.base.shapes:
        if (factor := merged.form(name).base) != 1.0:
            raise RecipeError(
                f"the recipe multiplies the base's '{name}' by {factor:g}, which an adapter cannot; "
                f"let the weights sum to 1 (normalize: true), or {whole}"
            )
    return merged


def _factors(merged: MergedAdapters, name: str) -> Factors | None:
    matrices = merged.matrices(name)
    if matrices is None:
        return None
    if not all(bool(torch.isfinite(matrix).all()) for matrix in matrices):
        raise UnusableCandidateError(f"weights are not finite: '{name}'")
    return Factors(*matrices, next(change for change in merged.family.changes(name) if change is not None))


def _cut(factors: Mapping[str, Factors], rank: int) -> dict[str, Factors]:
    cut, shares = {}, []
    for name, each in factors.items():
        left, right, kept = truncated(each.left, each.right, rank)
        cut[name] = Factors(left, right, each.like)
        shares.append(kept)
    log.info(
        "rank %d keeps %.1f %% of the squared norm of what the merge adds to a tensor on average, %.1f %% at worst",
        rank,
        100 * sum(shares) / len(shares),
        100 * min(shares),
    )
    return cut


def _in_files(factors: Mapping[str, Factors]) -> dict[str, Tensor]:
    tensors: dict[str, Tensor] = {}
    for name, each in factors.items():
        a, b = (each.left.T, each.right.T) if each.like.flipped else (each.right, each.left)
        layer = _PREFIX + name.removesuffix(_WEIGHT)
        named = ("lora_embedding_A", "lora_embedding_B") if each.like.embedding else ("lora_A.weight", "lora_B.weight")
        tensors[f"{layer}.{named[0]}"], tensors[f"{layer}.{named[1]}"] = a.contiguous(), b.contiguous()
    return tensors


def _settings(factors: Mapping[str, Factors], merged: MergedAdapters) -> dict[str, Any]:
    """The adapter's config. Every scale is 1: alpha is the rank, also where a tensor's rank is not that of most."""
    from peft import LoraConfig

    ranks = {name.removesuffix(_WEIGHT): len(each.right) for name, each in factors.items()}
    most = Counter(ranks.values()).most_common(1)[0][0]
    apart = {module: rank for module, rank in ranks.items() if rank != most}
    base = merged.family.base.reference
    config = LoraConfig(
        r=most,
        lora_alpha=most,
        rank_pattern=apart,
        alpha_pattern=dict(apart),
        target_modules=_targets(ranks, merged.family.base.shapes),
        fan_in_fan_out=any(each.like.flipped and not each.like.embedding for each in factors.values()),
        task_type="CAUSAL_LM",
        inference_mode=True,
        base_model_name_or_path=str(path_here(base) or base.model),
        revision=base.revision,
    )
    settings: dict[str, Any] = config.to_dict()
    settings["target_modules"] = sorted(settings["target_modules"])
    return settings


def _targets(modules: Collection[str], tensors: Collection[str]) -> list[str]:
    """The modules by the last parts of their names, where no other module of the base is named so; else in full."""
    lasts = sorted({module.rpartition(".")[2] for module in modules})
    meant = {name.removesuffix(_WEIGHT) for name in tensors if name.removesuffix(_WEIGHT).rpartition(".")[2] in lasts}
    return lasts if meant == set(modules) else sorted(modules)
