"""Where the models' weights wait between candidates: on the device, in host memory, or on disk."""

import re
from dataclasses import dataclass
from math import prod

import psutil
import torch

from evo_merge.models.pool import Pool

_IN_LAYER = re.compile(r"(.*\blayers\.\d+)\.")
_SHARE = 0.6  # of the free memory that the waiting weights may take; the candidate and its caches need the rest


def weight_bytes(pool: Pool) -> int:
    """Bytes of all the pool's models as they are read."""
    return sum(prod(shape) * model.dtypes[name].itemsize for model in pool.models for name, shape in model.shapes.items())


def candidate_bytes(pool: Pool) -> int:
    """Bytes of one merged model."""
    width = getattr(torch, pool.out_dtype).itemsize
    return sum(prod(shape) * int(width) for shape in pool.leader.shapes.values())


def path_bytes(pool: Pool, hops: int) -> int:
    """Bytes of the checkpoint of a path of so many hops."""
    width = getattr(torch, pool.out_dtype).itemsize
    layers: dict[str, int] = {}
    rest = 0
    for name, shape in pool.leader.shapes.items():
        match = _IN_LAYER.match(name)
        if match is None:
            rest += prod(shape)
        else:
            layers[match[1]] = layers.get(match[1], 0) + prod(shape)
    return int(width) * (rest + hops * max(layers.values(), default=0))


def cache_bytes(pool: Pool, rows: int, tokens: int, hops: int | None = None) -> int:
    """Bytes of the key-value cache of so many rows of so many tokens, with a slot a layer, or a hop of a path."""
    config, width = pool.leader.config, getattr(torch, pool.out_dtype).itemsize
    heads = getattr(config, "num_attention_heads", None) or 1
    head_dim = getattr(config, "head_dim", None) or getattr(config, "hidden_size", 0) // heads
    kv_heads = getattr(config, "num_key_value_heads", None) or heads
    slots = getattr(config, "num_hidden_layers", 0) if hops is None else hops
    return 2 * slots * kv_heads * head_dim * int(width) * rows * tokens


def free_bytes(device: torch.device) -> int:
    """Free memory of a device; for the CPU what the machine can give without swapping."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    return int(psutil.virtual_memory().available)


@dataclass(frozen=True, slots=True)
class Room:
    """Free memory in bytes, to be looked at before a candidate takes its own.

    Attributes:
        device: Of the device.
        host: Of the machine.
    """

    device: int
    host: int

    @classmethod
    def now(cls, device: torch.device) -> "Room":
        """As it is."""
        return cls(free_bytes(device), free_bytes(torch.device("cpu")))


@dataclass(frozen=True, slots=True)
class Residency:
    """Where the models wait between candidates.

    Attributes:
        place: ``device``, ``host`` or ``disk``.
        reason: Why there, with the sizes that it rests on.
    """

    place: str
    reason: str


def residency_of(
    pool: Pool, device: torch.device, needed: int | None = None, prepared: int = 0, room: Room | None = None
) -> Residency:
    """As the pool says, or the first place in which the weights fit beside the rest of a run.

    Args:
        pool: The models.
        device: Where candidates are merged.
        needed: Bytes of what waits, where that is not all weights.
        prepared: Bytes of what the method keeps beside them on the device (``prepared_bytes``); nothing where they are on disk.
        room: What was free before the run took any of it, where that is not now.
    """
    if pool.residency != "auto":
        return Residency(pool.residency, "as models.residency says")
    needed = weight_bytes(pool) if needed is None else needed
    candidate = candidate_bytes(pool)
    room = room or Room.now(device)
    kept = f" and the {gigabytes(prepared)} that the method keeps" if prepared else ""
    share, on_device = f"{_SHARE:.0%} of the", f"{gigabytes(room.device)} free on {device.type}"
    if needed + prepared + candidate < _SHARE * room.device:
        return Residency("device", f"with a candidate{kept} they fit into {share} {on_device}")
    reason = f"with a candidate{kept} they are more than {share} {on_device}"
    if prepared and device.type != "cpu":  # it stays on the device
        if prepared + candidate >= _SHARE * room.device:
            return Residency(
                "disk", f"{gigabytes(prepared)} that the method keeps and a candidate are more than {share} {on_device}"
            )
        prepared = 0
    of_host = f"{share} {gigabytes(room.host)} of free host memory"
    if needed + prepared < _SHARE * room.host:
        return Residency("host", f"{reason}, and fit into {of_host}")
    return Residency("disk", f"{reason}, and without a candidate more than {of_host}")


def choose_residency(pool: Pool, device: torch.device, needed: int | None = None) -> str:
    """``device``, ``host`` or ``disk``; see ``residency_of``."""
    return residency_of(pool, device, needed).place


def gigabytes(n: int) -> str:
    """A number of bytes as people read it."""
    return f"{n / 1e9:.2f} GB" if n >= 1e7 else f"{n / 1e6:.1f} MB"
