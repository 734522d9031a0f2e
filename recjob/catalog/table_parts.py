"""Parts for tables that name none, by the split of the settings."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from recjob.catalog.dense_tables import to_catalog
from recjob.catalog.split import split_parts
from recjob.catalog.tables import PART_CODES, FolderTables
from recjob.settings import SplitSettings

_ANY_PICTURE = "of no matter"


def with_parts(tables: FolderTables, settings: SplitSettings) -> FolderTables:
    """The tables with the part of every positive; as they are where they name parts already.

    Positives that the split leaves out are left out here.

    Raises DataError where the data lack what `settings.kind` goes by.
    """
    likes = tables.interactions
    if likes["part"].null_count < likes.num_rows:
        return tables
    catalog = to_catalog(tables, [_ANY_PICTURE] * tables.items.num_rows)
    codes = split_parts(catalog, settings)
    word_of = {code: word for word, code in PART_CODES.items()}
    words = pa.array([word_of.get(int(code)) for code in range(max(PART_CODES.values()) + 1)])
    # A catalog's positives are sorted, so that a row of the table is found among them by halving.
    users = pc.index_in(likes["user_id"], value_set=pa.array(catalog.user_ids)).to_numpy()
    outfits = pc.index_in(likes["outfit_id"], value_set=pa.array(catalog.outfit_ids)).to_numpy()
    width = np.int64(catalog.n_outfits)
    sorted_pairs = catalog.positives[:, 0] * width + catalog.positives[:, 1]
    found = codes[np.searchsorted(sorted_pairs, users.astype(np.int64) * width + outfits)]
    chosen = words.take(pa.array(found, mask=found < 0))
    place = likes.schema.get_field_index("part")
    parted = likes.set_column(place, "part", chosen)
    return replace(tables, interactions=parted.filter(pc.is_valid(chosen)))
