"""Runs entrywise merges over tensors: in parts that fit the processor's cache, or compiled to one pass over memory.

Both run the same function and on the CPU come to the same bits, so that which one did it does not matter to anyone. On a GPU
the compiler is told not to contract or to round in its own way; that it comes to the same bits there was never seen.
"""

import logging
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor

from evo_merge.methods.entrywise import Form, Numbers, arithmetic, merge_entries, rows_of, traced_rows
from evo_merge.methods.noise import entry_bits, entry_index
from evo_merge.methods.parts import parts
from evo_merge.models.finite import greatest

log = logging.getLogger(__name__)
# Entries that a form merges in parts before it is worth compiling: in about that time it is compiled. So neither a small model
# nor a single merge ever waits for a compiler.
_PAYS = 3_000_000_000
_SMALL = 1 << 4  # a compiler takes tensors with no entry or one for something else
_PASSES = 128
_EXACT = ("emulate_precision_casts", "eager_numerics.division_rounding")
_INDEXED = 1 << 31  # entries that one int32 index can tell apart


class EntryEngine:
    """Merges tensors by ``merge_entries``.

    Args:
        device: Where the tensors are.
        compile: ``auto`` compiles what has been merged often enough to pay, ``always`` at once, ``never`` not at all.
    """

    def __init__(self, device: torch.device, compile: str = "auto") -> None:
        self._device, self._compile = device, compile
        self._merged: dict[tuple[Form, int], int] = {}  # entries merged in parts, by form and number of sources
        self._compiled: dict[Form, Callable[..., Tensor]] = {}
        self._told: set[Form] = set()

    def merge(
        self,
        form: Form,
        base: Tensor | None,
        sources: Sequence[Tensor],
        numbers: Numbers,
        keys: Tensor,
        dtype: torch.dtype,
        target: Tensor,
    ) -> Tensor:
        """Merge one tensor.

        Args:
            form: What is done to each entry.
            base: ``(n,)`` as it is stored; ``None`` where the form has no task vectors.
            sources: Of each model ``(n,)``, as they are stored.
            numbers: Of this tensor, on the CPU.
            keys: ``(n_models, 2)`` ``int32``, of the noise.
            dtype: Of the arithmetic.
            target: ``(n,)``, written to.

        Returns:
            ``()``, the greatest magnitude of what was written, which is finite only where all of it is.
        """
        if dtype == torch.float32 and self._is_compiled(form, len(sources), target.numel()):
            try:
                plain_base = None if base is None else _no_view(base)
                plain = [_no_view(source) for source in sources]
                there = numbers.to(self._device), keys.to(self._device)
                started = time.perf_counter()
                merged = self._pass(form)(plain_base, plain, *there, _no_view(target))
                self._tell_once(form, time.perf_counter() - started)
                return merged
            except Exception as error:  # noqa: BLE001  no compiler, a broken one, no room, too many forms: it fails in many ways
                log.warning("merging goes on without a compiler, which fails here: %s", str(error).strip().split("\n")[0])
                self._compile = "never"
        return _in_parts(form, base, sources, numbers, keys, dtype, target)

    def _is_compiled(self, form: Form, n_sources: int, n: int) -> bool:
        if self._compile == "never" or not _SMALL <= n < _INDEXED:
            return False
        done = self._merged.get((form, n_sources), 0)
        self._merged[form, n_sources] = done + n
        return self._compile == "always" or done >= _PAYS

    def _tell_once(self, form: Form, seconds: float) -> None:
        """A form is compiled when it is first called; what is compiled again later, for other dtypes, is not told."""
        if form not in self._told:
            self._told.add(form)
            log.info("compiled the merge of an entry in %.1f s (thinning: %s, vote: %s)", seconds, form.thinning, form.vote)

    def _pass(self, form: Form) -> Callable[..., Tensor]:
        if form not in self._compiled:
            from torch._dynamo import config  # it takes seconds to import, and few runs come here

            # All forms, dtypes and numbers of sources share one function's code, and each is compiled for itself.
            if hasattr(config, "recompile_limit"):  # from torch 2.7 on; with fewer, the rest is merged in parts
                config.recompile_limit = max(config.recompile_limit, _PASSES)
            options = None if self._device.type == "cpu" else _as_without_compiler()
            self._compiled[form] = torch.compile(partial(_one_pass, form), dynamic=True, fullgraph=True, options=options)
        return self._compiled[form]


def _no_view(flat: Tensor) -> Tensor:
    """The same memory as a tensor of its own.

    Of a view a compiler also looks at the shape of what it is a view of: it would compile anew for a model's vectors, which are
    short, without threads, and from then on take that for the matrices as well.
    """
    own = flat.new_empty(0)
    own.set_(flat.untyped_storage(), flat.storage_offset(), flat.shape, flat.stride())
    return own


def _as_without_compiler() -> dict[str, str | int | bool | Callable[..., Any]]:
    """What makes a GPU compute as it does without a compiler, of the options that this torch has."""
    from torch._inductor import list_options

    return {option: True for option in _EXACT if option in list_options()}


def _one_pass(
    form: Form,
    base: Tensor | None,
    sources: Sequence[Tensor],
    numbers: Numbers,
    keys: Tensor,
    target: Tensor,
) -> Tensor:
    """Every entry read once and written once; everything between stays in registers."""
    if not torch.compiler.is_compiling():  # masks would be taken for those of the other kind
        raise RuntimeError("torch.compile is turned off, as by TORCHDYNAMO_DISABLE=1")
    index = torch.arange(target.numel(), dtype=torch.int32, device=target.device)

    def bits(source: int, index: Tensor) -> Tensor:
        return entry_bits(index, keys[source, 0], keys[source, 1])

    wide = [source.to(torch.float32) for source in sources]
    base = None if base is None else base.to(torch.float32)
    merged = merge_entries(form, base, wide, traced_rows(numbers), index, bits).to(target.dtype)
    target.copy_(merged)
    return merged.abs().amax()


def _in_parts(
    form: Form,
    base: Tensor | None,
    sources: Sequence[Tensor],
    numbers: Numbers,
    keys: Tensor,
    dtype: torch.dtype,
    target: Tensor,
) -> Tensor:
    wide = arithmetic(form, dtype)
    rows, pairs = rows_of(numbers, wide), keys.tolist()

    def bits(source: int, index: Tensor) -> Tensor:
        return entry_bits(index, *pairs[source])

    for part in parts(target.numel(), target.device):
        index = entry_index(part.start, part.stop - part.start, target.device)
        merged = merge_entries(
            form,
            None if base is None else base[part].to(dtype),
            [source[part].to(dtype).to(wide) for source in sources],
            rows,
            index,
            bits,
        )
        target[part].copy_(merged.to(dtype))
    return greatest(target)
