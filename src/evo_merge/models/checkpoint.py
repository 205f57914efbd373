"""Writing a merge as an ordinary checkpoint: shards, config, tokenizer, generation config, and the recipe inside."""

import json
import os
import shutil
from math import prod
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from evo_merge.errors import ModelError
from evo_merge.interchange.to_mergekit import mergekit_yaml
from evo_merge.models.building import Built, built
from evo_merge.models.pool import Pool
from evo_merge.recipe import DataFlowRecipe, Recipe, to_yaml

SHARD_BYTES = 5_000_000_000  # what the hub recommends
_OF_THIS_MACHINE = ("is_local", "local_files_only")  # how the tokenizer was read here, which transformers would save
_RESERVE = 50_000_000  # for config, tokenizer and the file system's own needs


def write_checkpoint(recipe: Recipe, pool: Pool, folder: Path, *, allowed_code: tuple[str, ...] = ()) -> None:
    """Write the recipe's model to a folder, which appears only when it is complete.

    Tensor by tensor, so one shard is in memory at a time. The same recipe gives the same bytes.

    Raises:
        ModelError: The folder holds something, or there is not enough room.
        RecipeError: The recipe does not fit the pool.
        IncompatibleModelsError: The pool's models do not fit each other.
        UnusableCandidateError: The merged weights are not finite.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ModelError(f"'{folder}' exists and is not empty; choose another folder")
    folder.parent.mkdir(parents=True, exist_ok=True)
    model = built(recipe, pool, allowed_code)
    needed, free = model.n_bytes + _RESERVE, shutil.disk_usage(folder.parent).free
    if needed > free:
        raise ModelError(f"writing the model to '{folder}' needs {needed / 1e9:.1f} GB, and {free / 1e9:.1f} GB are free")
    partial = folder.with_name(folder.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir()
    try:
        _write_weights(recipe, model, partial)
        # A path's tokenizer is its first model's, whatever else the pool holds.
        describing = Pool.of_recipe(recipe) if isinstance(recipe, DataFlowRecipe) else pool
        _write_description(recipe, model.config, describing, partial)
        if (config := mergekit_yaml(recipe, list(model.shapes))) is not None:
            (partial / "mergekit.yaml").write_text(config, encoding="utf-8")
        if folder.exists():
            folder.rmdir()
        os.replace(partial, folder)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise


def _write_weights(recipe: Recipe, model: Built, folder: Path) -> None:
    shards = _shards(model)
    names = [
        "model.safetensors" if len(shards) == 1 else f"model-{i:05d}-of-{len(shards):05d}.safetensors"
        for i in range(1, len(shards) + 1)
    ]
    for file, shard in zip(names, shards, strict=True):
        tensors = {name: model.read(name).contiguous().clone() for name in shard}
        # transformers asks for "format"; the recipe travels with the weights.
        save_file(tensors, folder / file, metadata={"format": "pt", "recipe": to_yaml(recipe)})
        _sort_metadata(folder / file)
        (folder / file).chmod(0o644)  # safetensors writes for the owner alone
    if len(shards) > 1:
        weight_map = {name: file for file, shard in zip(names, shards, strict=True) for name in shard}
        index = {
            "metadata": {"total_size": model.n_bytes},
            "weight_map": dict(sorted(weight_map.items())),
        }
        (folder / "model.safetensors.index.json").write_text(json.dumps(index, indent=2) + "\n", encoding="utf-8")


def _sort_metadata(path: Path) -> None:
    """Put a file's metadata in order: safetensors writes it in that of a hash map, another one every time."""
    with path.open("r+b") as file:
        size = int.from_bytes(file.read(8), "little")
        header = json.loads(file.read(size))
        header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
        text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode().ljust(size)
        assert len(text) == size, "only the order changes"
        file.seek(8)
        file.write(text)


def _shards(model: Built) -> list[list[str]]:
    shards: list[list[str]] = [[]]
    filled = 0
    for name, shape in sorted(model.shapes.items()):
        size = prod(shape) * model.dtype.itemsize
        if shards[-1] and filled + size > SHARD_BYTES:
            shards.append([])
            filled = 0
        shards[-1].append(name)
        filled += size
    return shards


def _write_description(recipe: Recipe, described: Any, pool: Pool, folder: Path) -> None:
    config = type(described).from_dict(described.to_dict())
    config.architectures = described.architectures or [_architecture(described)]
    config.dtype = recipe.out_dtype
    if hasattr(config, "quantization_config"):
        del config.quantization_config  # the weights are plain now
    config.save_pretrained(folder)
    pool.generation_config.save_pretrained(folder)
    if any(model.tokenizer is not None for model in pool.models):
        pool.tokenizer.save_pretrained(folder)
        path = folder / "tokenizer_config.json"
        settings = json.loads(path.read_text(encoding="utf-8"))
        kept = {key: value for key, value in settings.items() if key not in _OF_THIS_MACHINE}
        path.write_text(json.dumps(kept, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def _architecture(config: Any) -> str:
    from transformers import AutoModelForCausalLM

    with torch.device("meta"):
        return type(AutoModelForCausalLM.from_config(config)).__name__
