"""Rows of a memory-mapped array that are read late."""

from __future__ import annotations

from typing import Any

import numpy as np


class RowView:
    """Rows of an array, chosen now and read when they are indexed.

    A split of a memory-mapped data set is such a view: it costs the row numbers, and an index into it reads only those images.
    Indexing gives what indexing `base[rows]` gives, as an ndarray of its own; `np.asarray` reads all rows. Read-only.

    Args:
        base: array of at least one axis, usually a memory map.
        rows: which rows of `base`, integers in [0, len(base)), shape (M,).
    """

    def __init__(self, base: Any, rows: np.ndarray) -> None:
        if isinstance(base, RowView):  # a view of a view reads from the array below both
            base, rows = base.base, base.rows[rows]
        self.base = base
        self.rows = np.asarray(rows, dtype=np.int64)

    @property
    def shape(self) -> tuple[int, ...]:
        return (len(self.rows), *self.base.shape[1:])

    @property
    def dtype(self) -> np.dtype:
        return self.base.dtype

    @property
    def ndim(self) -> int:
        return self.base.ndim

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, key: Any) -> np.ndarray:
        first, *rest = key if isinstance(key, tuple) and key else (key,)
        if isinstance(first, slice):  # a slice must stay a slice beside index arrays, hence the two steps
            return np.asarray(self.base[self.rows[first]])[(slice(None), *rest)]
        if isinstance(first, (int, np.integer, list, np.ndarray)) and not isinstance(first, bool):
            return np.asarray(self.base[(self.rows[first], *rest)])
        return np.asarray(self)[key]  # rare forms: numpy decides

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        if copy is False:
            raise ValueError("The rows of a RowView cannot be had without a copy.")
        rows = np.asarray(self.base[self.rows])
        return rows if dtype is None else rows.astype(dtype, copy=False)

    def __repr__(self) -> str:
        return f"RowView(shape={self.shape}, dtype={self.dtype})"


def rows_of(base: Any, rows: np.ndarray) -> Any:
    """`base[rows]`: a view of what is mapped, a copy of what is in memory."""
    return RowView(base, rows) if isinstance(base, (np.memmap, RowView)) else base[rows]
