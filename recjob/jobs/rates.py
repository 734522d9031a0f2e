"""What a machine does per second: each figure with where it comes from, for `plan`.

The figures of the table were measured on two cores of a shared x86 machine with AMX, unless they
say otherwise; nothing of a GPU was measured. `python cli.py plan --rates FILE` puts one's own in
their place.
"""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from recjob.errors import SettingsError

Basis = Literal["measured", "extrapolated", "assumed"]
"""measured: by a clock; extrapolated: from a measured figure by arithmetic; assumed: neither."""

_TWO_CORES = "two shared x86 cores with AMX, halved"


class Rate(BaseModel):
    """One figure and its source."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    value: float = Field(gt=0)
    basis: Basis = "measured"
    source: str = Field(min_length=1)
    """By which command on what machine, or by which arithmetic."""


def _measured(value: float, source: str) -> Rate:
    return Rate(value=value, basis="measured", source=source)


def _assumed(value: float, source: str) -> Rate:
    return Rate(value=value, basis="assumed", source=source)


class Rates(BaseModel):
    """Rows, pictures or pairs per second: of one core, one GPU, or the one database."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    decoded_pictures_per_core: Rate = _measured(
        220, "decoding JPEGs of 1000 x 1000 pixels (60 kB) to 224, one core of two"
    )
    item_pictures_per_core: Rate = _measured(
        165, f"`bench embed`, student xs at 224, torch bf16: 330 on {_TWO_CORES}"
    )
    item_pictures_per_gpu: Rate = _assumed(
        20_000, "3 GB/s of packed pictures read; arithmetic alone would allow some 100,000"
    )
    outfits_per_core: Rate = _measured(
        11_000, f"`bench embed`, Set Transformer, torch: 22,700 on {_TWO_CORES}"
    )
    outfits_per_gpu: Rate = _assumed(500_000, "about 1 % of a data-centre GPU's bf16 arithmetic")
    pairs_per_core: Rate = _measured(
        1.1e9, f"`bench topk`, engine bf16, 8192 x 200,000, k = 100: 2.2e9 on {_TWO_CORES}"
    )
    pairs_per_gpu: Rate = _assumed(
        1e12, "a third of an H200's bound for a fused kernel, 3e12: memory traffic and arithmetic"
    )
    faiss_pairs_per_core: Rate = _measured(
        0.34e9, f"`bench topk`, FAISS IndexFlatIP: 0.69e9 on {_TWO_CORES}"
    )
    graph_outfits_per_thread: Rate = _measured(
        2_200, "HNSW of 20,000 vectors, 32 links, effort 200, one thread (it is built by one)"
    )
    lists_of_20_written: Rate = _measured(
        70_000,
        "stage load of `bench night` on two shared x86 cores with AMX: 100,000 lists of 30 in "
        "2.1 s, checks and key included",
    )
    keys_built: Rate = Rate(
        value=1.22e6,
        basis="extrapolated",
        source="from COPY at 806,000 rows/s alone and 486,000 with the primary key afterwards",
    )
    vectors_written: Rate = _measured(175_000, "COPY BINARY of halfvec(128), same two cores")
    rows_read: Rate = _measured(760_000, "COPY BINARY of interactions out of Postgres, same cores")
    efficiency_of_many: Rate = _assumed(
        0.8, "share of perfect speed on more than one machine: stragglers, transfers, idle ends"
    )


def read_rates(file: Path) -> Rates:
    """The table with the figures of a TOML file in place of its own.

    `[pairs_per_core]` with `value = 1e9`, `source = "bench topk on 16 cores"` and, if it was not
    measured, `basis = "assumed"`. Raises SettingsError for a file that is none.
    """
    try:
        values: dict[str, Any] = tomllib.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise SettingsError(f"{file}: no such file of rates") from None
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"{file}: cannot be read ({error})") from None
    except tomllib.TOMLDecodeError as error:
        raise SettingsError(f"{file}: not valid TOML: {error}") from None
    try:
        return Rates.model_validate(values)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        raise SettingsError(
            f"{file}: {where}: {first['msg']}; `plan --json` lists every rate under its name"
        ) from None
