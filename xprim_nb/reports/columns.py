"""Rows into a frame with the columns and dtypes that its docstring promises, also when there are no rows.

Source: spec 2 §Reports ("typed columns, bytes as int64, UTC timestamps, a stable column order").
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

import pandas as pd

__all__ = ["BYTES", "COUNT", "FLAG", "MAYBE_BYTES", "SHARE", "TEXT", "TIME", "typed_frame"]

TEXT: Final = "string"
BYTES: Final = "int64"
MAYBE_BYTES: Final = "Int64"  # where the registry may not say
COUNT: Final = "int64"
SHARE: Final = "float64"
FLAG: Final = "bool"
TIME: Final = "datetime64[ns, UTC]"


def typed_frame(columns: Mapping[str, str], rows: Iterable[Sequence[Any]]) -> pd.DataFrame:
    """A frame of exactly these columns, in this order, of these dtypes.

    Args:
        columns: Name and dtype of each.
        rows: Their values, in the same order; None for what is not known (text, `Int64` and times only).

    Raises:
        ValueError: A row has another number of values.
    """
    listed = [tuple(row) for row in rows]
    wrong = next((row for row in listed if len(row) != len(columns)), None)
    if wrong is not None:
        raise ValueError(f"a row has {len(wrong)} values for {len(columns)} columns: {wrong!r:.200}")
    by_column = zip(*listed, strict=True) if listed else ((),) * len(columns)
    return pd.DataFrame(
        {
            name: _series(values, dtype)
            for (name, dtype), values in zip(columns.items(), by_column, strict=True)
        }
    )


def _series(values: Sequence[Any], dtype: str) -> pd.Series[Any]:
    if dtype == TIME:  # mixed precision and None: pandas' own reader of times is the one that takes all
        return pd.Series(pd.to_datetime(pd.Series(list(values), dtype="object"), utc=True)).astype(TIME)
    return pd.Series(list(values), dtype=dtype)
