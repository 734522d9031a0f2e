"""What a night takes at a given size: bytes, seconds, machines, money; arithmetic, no database.

Pictures, outfits and users divide among machines, so those stages take their work divided by the
machines' rates. Reading the catalog, building the index and writing to Postgres are one process:
no further machine makes them shorter.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal

from pydantic import BaseModel, ConfigDict, Field

from recjob.jobs.plan_sizes import Shop, SizeRow, cells, lists_bytes, shop_sizes
from recjob.jobs.rates import Basis, Rate, Rates
from recjob.settings import Settings

HOUR: Final = 3600.0
MEASURED_LIST: Final = 20
"""Length of the lists whose writing was measured."""
TRAINING_POINTS_PER_CELL: Final = 64
TRAINING_PASSES: Final = 10
"""As the index is built (a test compares them with the module that does)."""
SHARD_SECONDS: Final = 5.0
"""A shard that takes this long is done well within the ten seconds after SIGTERM."""
MIN_SHARD: Final = 256
MAX_SHARD: Final = 65536
"""More users per shard make nothing faster, and cost memory."""

Where = Literal["cores", "GPUs", "one machine", "one thread", "database"]
DIVISIBLE: Final = frozenset({"cores", "GPUs"})


class Machines(BaseModel):
    """What one machine has, what it costs, and how long the night may last."""

    model_config = ConfigDict(frozen=True)

    nodes: int = Field(0, ge=0)
    """Machines; 0: as many as a usual night needs."""
    cores: int = Field(16, ge=1)
    """Physical cores of a machine."""
    gpus: int = Field(0, ge=0)
    """GPUs of a machine."""
    hours: float = Field(4.0, gt=0)
    """The night must be over after so many."""
    cpu_hour: float | None = Field(None, ge=0)
    """Price of a core for an hour."""
    gpu_hour: float | None = Field(None, ge=0)
    """Price of a GPU for an hour."""

    @property
    def hour(self) -> float | None:
        """Price of a machine for an hour; None where a price of what it has is not known."""
        if self.cpu_hour is None or (self.gpus and self.gpu_hour is None):
            return None
        return self.cores * self.cpu_hour + self.gpus * (self.gpu_hour or 0.0)


class StageRow(BaseModel):
    """A stage: seconds in the first night (or after a new student), and in a usual one."""

    stage: str
    where: Where
    first_seconds: float
    usual_seconds: float
    basis: Basis
    """extrapolated from measured rates, or resting on an assumed one."""


class NightRow(BaseModel):
    """A whole night."""

    night: Literal["first", "usual"]
    seconds: float
    """On `Plan.nodes` machines."""
    bottleneck: str
    """The longest stage."""
    nodes_needed: int | None
    """Machines with which it ends in time; None: with no number of them."""
    money: float | None
    """Price of it on `Plan.nodes` machines; None without prices."""


class Plan(BaseModel):
    """The estimate."""

    shop: Shop
    machines: Machines
    nodes: int
    sizes: tuple[SizeRow, ...]
    stages: tuple[StageRow, ...]
    nights: tuple[NightRow, ...]
    advice: tuple[str, ...]
    rates: dict[str, Rate]
    """Those that it rests on."""


@dataclass(frozen=True)
class _Work:
    """Seconds of a stage on one machine, first and usual night, and the rates behind them."""

    stage: str
    where: Where
    first: float
    usual: float
    rates: tuple[str, ...]


def plan_night(
    shop: Shop, machines: Machines, settings: Settings, rates: Rates, new_items: float = 0.01
) -> Plan:
    """The estimate for a shop on such machines.

    A usual night has the share `new_items` of new items; the first one embeds everything. A night
    after a new student is a first one without the decoding.
    """
    works = _works(shop, machines, settings, rates, new_items)
    efficiency = rates.efficiency_of_many.value
    needed = {night: _nodes(works, night, machines, efficiency) for night in ("first", "usual")}
    nodes = machines.nodes or needed["usual"] or _nodes_for_divisible(works, machines, efficiency)
    speed = _speed(nodes, efficiency)
    stages = tuple(_stage_row(work, speed, rates) for work in works)
    nights = tuple(
        _night(night, stages, nodes, machines, needed[night]) for night in ("first", "usual")
    )
    used = {name for work in works for name in work.rates}
    if nodes > 1:
        used.add("efficiency_of_many")
    return Plan(
        shop=shop,
        machines=machines,
        nodes=nodes,
        sizes=shop_sizes(shop, settings),
        stages=stages,
        nights=nights,
        advice=_advice(shop, machines, settings, nodes, works, nights),
        rates={name: getattr(rates, name) for name in Rates.model_fields if name in used},
    )


def _works(
    shop: Shop, machines: Machines, settings: Settings, rates: Rates, new_items: float
) -> tuple[_Work, ...]:
    # An outfit is embedded again where one of its items is new.
    new_outfits = 1 - (1 - new_items) ** shop.items_per_outfit
    worker: Where = "GPUs" if machines.gpus else "cores"
    kind, count = ("gpu", machines.gpus) if machines.gpus else ("core", machines.cores)

    def pace(name: str) -> float:
        value: float = getattr(rates, name).value
        return value

    def divided(stage: str, amount: float, part: float, rate: str) -> _Work:
        seconds = amount / (pace(f"{rate}_per_{kind}") * count)
        return _Work(stage, worker, seconds, seconds * part, (f"{rate}_per_{kind}",))

    decoded = shop.items / (pace("decoded_pictures_per_core") * machines.cores)
    vectors = (shop.users + shop.outfits + shop.items) / pace("vectors_written")
    changed = shop.items * new_items + shop.outfits * new_outfits
    rows = shop.interactions + shop.users + shop.items + shop.outfits * (1 + shop.items_per_outfit)
    read = rows / pace("rows_read")
    return (
        _Work("decode", "cores", decoded, decoded * new_items, ("decoded_pictures_per_core",)),
        divided("item features", shop.items, new_items, "item_pictures"),
        divided("outfit vectors", shop.outfits, new_outfits, "outfits"),
        _Work(
            "vectors to Postgres",
            "database",
            vectors,
            changed / pace("vectors_written"),
            ("vectors_written",),
        ),
        _index(shop.outfits, machines.cores, settings, rates),
        _Work("read the catalog", "database", read, read, ("rows_read",)),
        _scoring(shop, machines, settings, rates),
        _writing(shop.users, settings, rates),
    )


def _index(outfits: int, cores: int, settings: Settings, rates: Rates) -> _Work:
    """Building the FAISS file."""
    pairs = rates.faiss_pairs_per_core.value
    if settings.index.kind == "hnsw":
        seconds = outfits / rates.graph_outfits_per_thread.value
        return _Work("index, hnsw", "one thread", seconds, seconds, ("graph_outfits_per_thread",))
    if settings.index.kind == "ivf":
        n = cells(outfits, settings)
        training = n * n * TRAINING_POINTS_PER_CELL * TRAINING_PASSES / pairs  # by one thread
        seconds = training + outfits * n / (pairs * cores)
        return _Work("index, ivf", "one thread", seconds, seconds, ("faiss_pairs_per_core",))
    # A flat index is the vectors; only its recall is measured.
    seconds = settings.index.recall_queries * outfits / (pairs * cores)
    return _Work("index, flat", "one machine", seconds, seconds, ("faiss_pairs_per_core",))


def _scoring(shop: Shop, machines: Machines, settings: Settings, rates: Rates) -> _Work:
    """Every user against every outfit, or against what the index looks at."""
    if settings.nightly.search == "index" and settings.index.kind != "flat":
        pairs = shop.users * looked_at(shop.outfits, settings)
        seconds = pairs / (rates.faiss_pairs_per_core.value * machines.cores)
        name = f"search, {settings.index.kind}"
        return _Work(name, "cores", seconds, seconds, ("faiss_pairs_per_core",))
    pairs = float(shop.users) * shop.outfits
    if machines.gpus:
        seconds = pairs / (rates.pairs_per_gpu.value * machines.gpus)
        return _Work("scoring, exact", "GPUs", seconds, seconds, ("pairs_per_gpu",))
    seconds = pairs / (rates.pairs_per_core.value * machines.cores)
    return _Work("scoring, exact", "cores", seconds, seconds, ("pairs_per_core",))


def looked_at(outfits: int, settings: Settings) -> float:
    """Inner products of one query of the index."""
    options = settings.index
    if options.kind == "ivf":
        n = cells(outfits, settings)
        return min(outfits, n + outfits * options.probes / n)
    if options.kind == "hnsw":
        return min(outfits, options.search_effort * options.links)
    return outfits


def _writing(users: int, settings: Settings, rates: Rates) -> _Work:
    """COPY of the lists, then the primary key; longer rows by their bytes."""
    length = settings.nightly.k + settings.nightly.spare
    longer = lists_bytes(users, length) / lists_bytes(users, MEASURED_LIST)
    seconds = users * longer / rates.lists_of_20_written.value + users / rates.keys_built.value
    return _Work(
        "lists to Postgres", "database", seconds, seconds, ("lists_of_20_written", "keys_built")
    )


def _speed(nodes: int, efficiency: float) -> float:
    """How many times faster than one machine so many are."""
    return 1.0 if nodes == 1 else nodes * efficiency


def _seconds(works: tuple[_Work, ...], night: str, divisible: bool) -> float:
    return sum(
        work.first if night == "first" else work.usual
        for work in works
        if (work.where in DIVISIBLE) == divisible
    )


def _nodes(
    works: tuple[_Work, ...], night: str, machines: Machines, efficiency: float
) -> int | None:
    """Machines with which the night fits; None where what does not divide is too long."""
    left = machines.hours * HOUR - _seconds(works, night, divisible=False)
    work = _seconds(works, night, divisible=True)
    if work <= left:
        return 1
    return max(2, math.ceil(work / (left * efficiency))) if left > 0 else None


def _nodes_for_divisible(works: tuple[_Work, ...], machines: Machines, efficiency: float) -> int:
    """Where no number of machines is enough: as many as do their part in the time."""
    work = _seconds(works, "usual", divisible=True)
    time = machines.hours * HOUR
    return 1 if work <= time else max(2, math.ceil(work / (time * efficiency)))


def _stage_row(work: _Work, speed: float, rates: Rates) -> StageRow:
    factor = 1 / speed if work.where in DIVISIBLE else 1.0
    assumed = any(getattr(rates, name).basis == "assumed" for name in work.rates)
    return StageRow(
        stage=work.stage,
        where=work.where,
        first_seconds=work.first * factor,
        usual_seconds=work.usual * factor,
        basis="assumed" if assumed else "extrapolated",
    )


def _night(
    night: Literal["first", "usual"],
    stages: tuple[StageRow, ...],
    nodes: int,
    machines: Machines,
    needed: int | None,
) -> NightRow:
    seconds: Mapping[str, float] = {
        row.stage: row.first_seconds if night == "first" else row.usual_seconds for row in stages
    }
    together = sum(seconds[row.stage] for row in stages if row.where in DIVISIBLE)
    alone = sum(seconds.values()) - together
    price = machines.hour
    return NightRow(
        night=night,
        seconds=together + alone,
        bottleneck=max(seconds, key=lambda stage: seconds[stage]),
        nodes_needed=needed,
        # One machine stays for what one process does; the others are given back.
        money=None if price is None else (nodes * together + alone) / HOUR * price,
    )


def _advice(
    shop: Shop,
    machines: Machines,
    settings: Settings,
    nodes: int,
    works: tuple[_Work, ...],
    nights: tuple[NightRow, ...],
) -> tuple[str, ...]:
    """Settings for this size, and what stands in the way."""
    engine = "ray" if nodes > 1 else "local"
    scoring = next(work for work in works if work.stage.startswith(("scoring", "search")))
    lines = [
        f'nightly.engine = "{engine}"',
        f"nightly.shard_users = {_shard(shop.users, scoring.usual)}",
        _search_advice(shop, settings, scoring, machines),
    ]
    for row in nights:
        if row.nodes_needed is None:
            lines.append(
                f"the {row.night} night does not fit in {machines.hours:g} hours with any number "
                "of machines: divide the users among several databases, or allow more hours"
            )
        elif row.nodes_needed > nodes:
            lines.append(
                f"the {row.night} night needs {row.nodes_needed} machines to end in "
                f"{machines.hours:g} hours"
            )
    return tuple(lines)


def _shard(users: int, seconds: float) -> int:
    """Users of a shard: a power of two that one machine scores in the time of a shard."""
    fitting = users * SHARD_SECONDS / seconds
    power = 1 << math.floor(math.log2(max(fitting, 1.0)))
    return min(MAX_SHARD, max(MIN_SHARD, power))


def _search_advice(shop: Shop, settings: Settings, scoring: _Work, machines: Machines) -> str:
    """Exact as long as it fits on one machine; then what an index would look at."""
    if scoring.stage.startswith("search"):
        return f'index.kind = "{settings.index.kind}" looks at a part: mind the recall it prints'
    if scoring.usual <= machines.hours * HOUR:
        return 'nightly.search = "exact": one machine scores every pair in time'
    ivf = settings.model_copy(update={"index": settings.index.model_copy(update={"kind": "ivf"})})
    share = looked_at(shop.outfits, ivf) / shop.outfits
    return (
        'nightly.search = "exact" needs several machines; with "index" and index.kind = "ivf" '
        f"{share:.2%} of the pairs are looked at, with the recall that `embed` prints"
    )
