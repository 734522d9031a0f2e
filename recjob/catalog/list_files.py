"""Evaluation lists as a Parquet file of ids: for work without a database."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet

from recjob.catalog.catalog import PADDING, Catalog, Int64Array
from recjob.catalog.evaluation_lists import EvaluationLists
from recjob.errors import DataError

_LIST = pa.list_(pa.list_(pa.string()))
_SCHEMA = pa.schema([("user_id", pa.string()), ("outfits", _LIST)])
_COUNTS = ("seed", "left_out", "outfits", "places")


def write_lists(path: Path, catalog: Catalog, lists: EvaluationLists, seed: int) -> None:
    """Write a row per list: `user_id`, and `outfits`, the positive first, as lists of item ids.

    The seed that they were drawn with is in the file's metadata. The file is there whole, or not.
    """
    n, length, places = lists.items.shape
    items = lists.items.reshape(n * length, places)
    real = items != PADDING
    ids = pa.array(catalog.item_ids, pa.string()).take(pa.array(items[real]))
    outfits = pa.ListArray.from_arrays(_offsets(real.sum(axis=1)), ids)
    rows = pa.ListArray.from_arrays(_offsets(np.full(n, length)), outfits)
    users = pa.array(catalog.user_ids, pa.string()).take(pa.array(lists.user))
    counts = dict(zip(_COUNTS, (seed, lists.left_out, length, places), strict=True))
    metadata = {name: str(value) for name, value in counts.items()}
    temporary = path.with_name(f".{path.name}.unfinished")
    pyarrow.parquet.write_table(
        pa.table([users, rows], schema=_SCHEMA.with_metadata(metadata)), temporary
    )
    temporary.replace(path)


def read_lists(path: Path, catalog: Catalog) -> EvaluationLists:
    """The lists that `write_lists` wrote for the same data.

    Raises DataError where the file is damaged, or names what the catalog does not have.
    """
    try:
        table = pyarrow.parquet.ParquetFile(path).read()
        counts = {name: int(table.schema.metadata[name.encode()]) for name in _COUNTS}
        table = table.select(_SCHEMA.names).cast(_SCHEMA)
        table.validate(full=True)  # that its texts are UTF-8, too
    except FileNotFoundError:
        raise DataError(f"{path}: no such file; draw the lists first") from None
    except (pa.ArrowException, OSError, KeyError, TypeError, ValueError):
        raise DataError(f"{path}: is no file of evaluation lists; delete it") from None
    n, length, places = table.num_rows, counts["outfits"], counts["places"]
    outfits = pc.list_flatten(table["outfits"])
    sizes = pc.list_value_length(outfits).to_numpy().astype(np.int64)
    if len(outfits) != n * length or sizes.max(initial=0) > places:
        raise DataError(f"{path}: is no file of evaluation lists; delete it")
    rows = np.repeat(np.arange(sizes.size), sizes)
    place = np.arange(rows.size) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    items = np.full((n * length, places), PADDING, np.int32)
    items[rows, place] = _index(pc.list_flatten(outfits), catalog.item_ids, "item", path)
    return EvaluationLists(
        _index(table["user_id"], catalog.user_ids, "user", path).astype(np.int32),
        items.reshape(n, length, places),
        counts["left_out"],
    )


def _offsets(sizes: Any) -> pa.Array:
    return pa.array(np.concatenate([[0], np.cumsum(sizes)]).astype(np.int32))


def _index(values: pa.ChunkedArray, ids: tuple[str, ...], what: str, path: Path) -> Int64Array:
    codes = pc.index_in(values, value_set=pa.array(ids, pa.string()))
    if codes.null_count:
        first = values.filter(pc.is_null(codes))[0].as_py()
        raise DataError(f"{path}: {what} {first!r} is not in these data; delete the file")
    return np.asarray(codes.to_numpy(), dtype=np.int64)
