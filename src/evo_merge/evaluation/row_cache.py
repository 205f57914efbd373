"""A key-value cache whose rows have lengths of their own: written in place, never concatenated, each row from column 0 on.

A token stands in the column of its position. So a query at position p may see the columns up to p and no others, whatever the
other rows do: there is no padding to mask, what a rejected draft wrote is written over before anyone may see it, a row that
has ended is dropped by moving the last row into its place, and a new prompt takes a row when one is free.
"""

from typing import Any

import torch
from torch import Tensor

_BLOCK = 64  # columns that a layer grows by at least


class RowCache:
    """What ``transformers`` models ask of a cache, for the rows and positions that ``at`` names."""

    is_compileable = False

    def __init__(self, n_rows: int, n_columns: int) -> None:
        """Nothing is allocated before a layer is written to.

        Args:
            n_rows: Rows at most.
            n_columns: Columns at most; how many there are grows with what is written.
        """
        self.n_rows, self.n_columns = n_rows, n_columns
        self._keys: dict[int, Tensor] = {}  # by layer: (n_rows, heads, columns, head dim)
        self._values: dict[int, Tensor] = {}
        self._rows: Tensor | slice = slice(0)
        self._index = self._positions = torch.zeros(0, dtype=torch.int64)
        self._width = 0

    def at(self, rows: list[int], positions: Tensor) -> Tensor:
        """Say which rows the next pass writes, and where.

        Args:
            rows: Without repeats.
            positions: ``(n, t)`` ``int64``, of each row's tokens.

        Returns:
            The attention mask ``(n, 1, t, columns)`` ``bool`` of the pass: what each token may see.
        """
        device = positions.device
        first = rows[0]
        # Rows in a row are a view; others have to be gathered, which is about what a concatenation a step would cost.
        is_view = rows == list(range(first, first + len(rows)))
        self._rows = slice(first, first + len(rows)) if is_view else torch.tensor(rows, device=device)
        self._index = torch.tensor(rows, device=device)[:, None]
        self._positions = positions
        self._width = int(positions.max()) + 1
        columns = torch.arange(self._width, device=device)
        return columns <= positions[:, None, :, None]

    def update(self, keys: Tensor, values: Tensor, layer_idx: int, *_: Any, **__: Any) -> tuple[Tensor, Tensor]:
        """Write ``(n, heads, t, head dim)`` and return what the rows hold ``(n, heads, columns, head dim)``."""
        written = []
        for held, new in ((self._keys, keys), (self._values, values)):
            buffer = held[layer_idx] = self._grown(held.get(layer_idx), new)
            buffer[self._index, :, self._positions] = new.transpose(1, 2)
            written.append(buffer[self._rows, :, : self._width])
        return written[0], written[1]

    def get_seq_length(self, layer_idx: int = 0) -> int:
        """Tokens before the pass; positions and masks are given, so that nothing depends on it."""
        return 0

    def move(self, source: int, target: int, n_tokens: int) -> None:
        """Copy the first tokens of a row over another row."""
        for held in (self._keys, self._values):
            for buffer in held.values():
                buffer[target, :, :n_tokens] = buffer[source, :, :n_tokens]

    def wipe(self, row: int, first: int = 0) -> None:
        """Forget a row from a column on: what is not finite must not stay, for a weight of 0 times nan is nan."""
        for held in (self._keys, self._values):
            for buffer in held.values():
                buffer[row, :, first:] = 0

    def prefix(self, n_tokens: int) -> dict[int, tuple[Tensor, Tensor]]:
        """A copy of the first tokens of row 0, layer by layer."""
        return {
            layer: (self._keys[layer][0, :, :n_tokens].clone(), self._values[layer][0, :, :n_tokens].clone())
            for layer in self._keys
        }

    def start(self, rows: slice, prefix: dict[int, tuple[Tensor, Tensor]]) -> None:
        """Let rows begin with a prefix that was computed once."""
        for layer, (keys, values) in prefix.items():
            self._keys[layer][rows, :, : keys.shape[1]] = keys
            self._values[layer][rows, :, : values.shape[1]] = values

    def _grown(self, buffer: Tensor | None, new: Tensor) -> Tensor:
        _, heads, _, dim = new.shape
        if buffer is not None and buffer.shape[2] >= self._width:
            return buffer
        n_before = 0 if buffer is None else buffer.shape[2]
        n_columns = min(max(self._width, n_before * 3 // 2, self._width + _BLOCK), max(self.n_columns, self._width))
        # Zeros, for a product with what was never written must not be nan: a masked weight of 0 would not make it 0.
        grown = new.new_zeros((self.n_rows, heads, n_columns, dim))
        if buffer is not None:
            grown[:, :, :n_before] = buffer
        return grown
