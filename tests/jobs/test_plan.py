"""The estimate agrees with formats, with Postgres, with hand arithmetic, and with docs/scale.md."""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError
from sqlalchemy import text

from recjob.cli import app
from recjob.errors import SettingsError
from recjob.jobs import plan, plan_sizes
from recjob.jobs.plan import Machines, Plan, plan_night
from recjob.jobs.plan_sizes import Shop, heap_bytes, index_bytes, lists_bytes, shop_sizes
from recjob.jobs.rates import Rate, Rates, read_rates
from recjob.ranking import index_build
from recjob.reference import with_outputs
from recjob.settings import Settings
from recjob.store.database import Database
from tests.command_line import Run

ROOT = Path(__file__).resolve().parents[2]
SHOP = Shop(users=2_000_000, outfits=1_000_000, items=400_000, interactions=10_000_000)


def with_settings(**sections: dict[str, Any]) -> Settings:
    return Settings.model_validate(sections)


def estimate(
    shop: Shop = SHOP, settings: Settings | None = None, rates: Rates | None = None, **machine: Any
) -> Plan:
    return plan_night(shop, Machines(**machine), settings or Settings(), rates or Rates())


def seconds(answer: Plan, stage: str) -> tuple[float, float]:
    (row,) = (row for row in answer.stages if row.stage.startswith(stage))
    return row.first_seconds, row.usual_seconds


# --- bytes


@pytest.mark.parametrize("length", [1, 20, 26, 27, 30, 100])
def test_lists_take_what_postgres_says(database: Database, length: int) -> None:
    rows = 5_000
    with database.begin() as connection:
        connection.execute(text("CREATE TEMP TABLE lists (LIKE recommendation)"))
        connection.execute(
            text(
                "INSERT INTO lists SELECT 7, n, 'warm', array_agg(n + i),"
                " array_agg((1.0 / (n + i))::real)"
                " FROM generate_series(1, :rows) n, generate_series(1, :length) i GROUP BY n"
            ),
            {"rows": rows, "length": length},
        )
        measured = connection.scalar(text("SELECT pg_relation_size('lists')"))
    assert lists_bytes(rows, length) == pytest.approx(measured, rel=0.02)


def test_vectors_and_interactions_take_what_postgres_says(database: Database) -> None:
    rows = 20_000
    statements = {
        "outfit_embedding": "SELECT 1, n, array_fill(0.5, ARRAY[128])::halfvec",
        "interaction": "SELECT n % 100, n, now()",
    }
    expected = {
        "outfit_embedding": heap_bytes(rows, 2 * 4 + 8 + 2 * 128),
        "interaction": heap_bytes(rows, 2 * 4 + 8),
    }
    with database.begin() as connection:
        for table, select in statements.items():
            connection.execute(
                text(f"CREATE TEMP TABLE kept_{table} (LIKE {table} INCLUDING INDEXES)")
            )
            connection.execute(
                text(f"INSERT INTO kept_{table} {select} FROM generate_series(1, :rows) n"),
                {"rows": rows},
            )
            measured = connection.scalar(text(f"SELECT pg_relation_size('kept_{table}')"))
            assert expected[table] == pytest.approx(measured, rel=0.02)


def test_files_take_their_arrays() -> None:
    sizes = {row.what: row.bytes for row in shop_sizes(SHOP, Settings())}
    assert sizes["packed pictures"] == 400_000 * 224 * 224 * 3
    assert sizes["user vectors"] == 2_000_000 * 128 * 4
    lists = sizes["lists of a run"] + sizes["  primary key"]
    assert sizes["lists of 7 kept runs"] == 7 * lists


@pytest.mark.parametrize("kind", ["flat", "ivf", "hnsw"])
def test_the_index_takes_what_faiss_writes(tmp_path: Path, kind: str) -> None:
    n = 5000
    vectors = np.random.default_rng(0).standard_normal((n, 128)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    settings = with_settings(index={"kind": kind, "recall_floor": 0, "build_effort": 40})
    ids = [str(number) for number in range(n)]
    built = index_build.build_index(
        tmp_path / "x.faiss", vectors, ids, vectors[:0], 10, settings.index
    )
    assert index_bytes(n, settings) == pytest.approx(built.path.stat().st_size, rel=0.03)


def test_numbers_that_stand_in_two_places_are_the_same() -> None:
    assert plan_sizes.CELLS_PER_ROOT == index_build.CELLS_PER_ROOT
    assert plan.TRAINING_POINTS_PER_CELL == index_build.TRAINING_POINTS_PER_CELL
    assert plan.TRAINING_PASSES == index_build.TRAINING_PASSES


# --- seconds


def rates_of(**values: float) -> Rates:
    return Rates(**{name: Rate(value=value, source="test") for name, value in values.items()})


def test_stages_are_their_work_over_their_rates() -> None:
    rates = rates_of(
        decoded_pictures_per_core=100,
        item_pictures_per_core=50,
        outfits_per_core=1000,
        pairs_per_core=1e9,
        rows_read=1e6,
        vectors_written=1e5,
        lists_of_20_written=1e5,
        keys_built=1e6,
    )
    settings = with_settings(nightly={"spare": 0})
    answer = estimate(settings=settings, rates=rates, nodes=1, cores=10)
    assert seconds(answer, "decode") == pytest.approx((400, 4))
    assert seconds(answer, "item features") == pytest.approx((800, 8))
    assert seconds(answer, "outfit vectors")[0] == pytest.approx(100)
    assert seconds(answer, "outfit vectors")[1] == pytest.approx(100 * (1 - 0.99**4))
    assert seconds(answer, "scoring") == pytest.approx((200, 200))
    assert seconds(answer, "vectors to")[0] == pytest.approx(34)
    assert seconds(answer, "read")[0] == pytest.approx(10 + 2 + 0.4 + 5)
    assert seconds(answer, "lists")[0] == pytest.approx(20 + 2)
    for night, column in (("first", 0), ("usual", 1)):
        (row,) = (row for row in answer.nights if row.night == night)
        total = sum(seconds(answer, stage.stage)[column] for stage in answer.stages)
        assert row.seconds == pytest.approx(total)
    assert [row.bottleneck for row in answer.nights] == ["item features", "scoring, exact"]


def test_machines_divide_only_what_divides() -> None:
    one, ten = estimate(nodes=1), estimate(nodes=10)
    speed = 10 * Rates().efficiency_of_many.value
    for alone, together in zip(one.stages, ten.stages, strict=True):
        factor = speed if alone.where in ("cores", "GPUs") else 1
        assert together.first_seconds == pytest.approx(alone.first_seconds / factor)


@pytest.mark.parametrize("hours", [0.3, 0.5, 1.0, 4.0])
@pytest.mark.parametrize("night", [0, 1])
def test_machines_needed_are_the_fewest_that_are_in_time(hours: float, night: int) -> None:
    shop = SHOP.model_copy(update={"users": 20_000_000})
    needed = estimate(shop, hours=hours).nights[night].nodes_needed
    if needed is None:
        alone = [row for row in estimate(shop, nodes=1).stages if row.where not in plan.DIVISIBLE]
        column = "usual_seconds" if night else "first_seconds"
        assert sum(getattr(row, column) for row in alone) >= hours * 3600
        return
    assert estimate(shop, nodes=needed).nights[night].seconds <= hours * 3600
    if needed > 1:
        assert estimate(shop, nodes=needed - 1).nights[night].seconds > hours * 3600


def test_a_night_that_no_machines_save_says_so() -> None:
    answer = estimate(hours=0.001)
    assert [row.nodes_needed for row in answer.nights] == [None, None]
    assert any("divide the users" in line for line in answer.advice)


def test_money_is_the_hours_of_the_machines() -> None:
    answer = estimate(nodes=4, cores=8, gpus=2, cpu_hour=0.05, gpu_hour=3.0)
    price = 8 * 0.05 + 2 * 3.0
    together = sum(row.usual_seconds for row in answer.stages if row.where in plan.DIVISIBLE)
    alone = sum(row.usual_seconds for row in answer.stages) - together
    assert answer.nights[1].money == pytest.approx((4 * together + alone) / 3600 * price)
    assert estimate(gpus=1, cpu_hour=0.05).nights[1].money is None
    assert estimate().nights[1].money is None


def test_longer_lists_take_longer_to_write() -> None:
    short, long = (
        seconds(estimate(settings=with_settings(nightly={"k": k, "spare": 0})), "lists")[0]
        for k in (20, 100)
    )
    assert 2 < long / short < 4


def test_a_shard_is_short_and_in_bounds() -> None:
    for users, outfits in ((1000, 1000), (10**6, 10**6), (10**8, 10**7), (10**8, 10**9)):
        shop = SHOP.model_copy(update={"users": users, "outfits": outfits})
        answer = estimate(shop, nodes=1)
        (line,) = (line for line in answer.advice if "shard_users" in line)
        shard = int(line.rpartition(" ")[2])
        assert plan.MIN_SHARD <= shard <= plan.MAX_SHARD
        assert math.log2(shard).is_integer()
        scoring = seconds(answer, "scoring")[1] * shard / users
        assert scoring <= plan.SHARD_SECONDS or shard == plan.MIN_SHARD


def test_an_index_is_searched_where_the_settings_say_so() -> None:
    shop = SHOP.model_copy(update={"outfits": 4 * 10**8})
    exact = estimate(shop, nodes=1)
    assert any('index.kind = "ivf"' in line for line in exact.advice)
    for kind in ("ivf", "hnsw"):
        settings = with_settings(nightly={"search": "index"}, index={"kind": kind})
        answer = estimate(shop, settings, nodes=1)
        assert seconds(answer, "search")[1] < seconds(exact, "scoring")[1] / 100


# --- where figures come from


def test_a_stage_rests_on_an_assumption_where_a_rate_does() -> None:
    assert {row.basis for row in estimate(nodes=1).stages} == {"extrapolated"}
    answer = estimate(nodes=1, gpus=1)
    assumed = {row.stage for row in answer.stages if row.basis == "assumed"}
    assert assumed == {row.stage for row in answer.stages if row.where == "GPUs"}
    assert all(rate.source for rate in answer.rates.values())


def test_no_figure_of_a_gpu_claims_to_be_measured() -> None:
    for name in Rates.model_fields:
        if name.endswith("_gpu"):
            assert getattr(Rates(), name).basis == "assumed"


def test_own_rates(tmp_path: Path) -> None:
    file = tmp_path / "rates.toml"
    file.write_text('[pairs_per_gpu]\nvalue = 2e12\nsource = "bench topk"\n')
    rates = read_rates(file)
    assert rates.pairs_per_gpu == Rate(value=2e12, basis="measured", source="bench topk")
    assert rates.pairs_per_core == Rates().pairs_per_core
    twice = seconds(estimate(rates=rates, gpus=1), "scoring")[1]
    assert twice == pytest.approx(seconds(estimate(gpus=1), "scoring")[1] / 2)


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("[pairs_per_cpu]\nvalue = 1\nsource = 'x'", "pairs_per_cpu"),
        ("[pairs_per_core]\nvalue = 0\nsource = 'x'", "greater than 0"),
        ("[pairs_per_core]\nvalue = 1", "pairs_per_core.source"),
        ("pairs_per_core = 1", "pairs_per_core"),
        ("[", "TOML"),
        (None, "no such file"),
    ],
)
def test_rates_that_are_none(tmp_path: Path, content: str | None, told: str) -> None:
    file = tmp_path / "rates.toml"
    if content is not None:
        file.write_text(content)
    with pytest.raises(SettingsError, match=re.escape(told)):
        read_rates(file)


def test_a_shop_has_somebody_in_it() -> None:
    with pytest.raises(ValidationError):
        Shop(users=0, outfits=1, items=1, interactions=0)


# --- the command and the page


def test_the_page_is_what_the_command_prints(monkeypatch: pytest.MonkeyPatch) -> None:
    page = (ROOT / "docs" / "scale.md").read_text("utf-8")
    monkeypatch.chdir(ROOT / "docs")  # where there is no recjob.toml
    assert page == with_outputs(page, app), "run: make docs"
    commands = re.findall(r"^(python cli\.py plan .*)\n\n\d", page, re.MULTILINE)
    for size in ("--users 1000000 ", "--users 100000000 ", "--outfits 10000000 ", "--gpus 1 "):
        assert any(size in command for command in commands)


def test_json_has_every_number(command: Run) -> None:
    words = "plan --users 1000 --outfits 2000 --items 500 --k 5 --json"
    answer = Plan.model_validate(command(*words.split()).json)
    settings = with_settings(nightly={"k": 5})
    shop = Shop(users=1000, outfits=2000, items=500, interactions=20_000)
    assert answer == plan_night(shop, Machines(), settings, Rates())


def test_rates_of_ones_own_on_the_command_line(command: Run, tmp_path: Path) -> None:
    words = ["plan", "--users", "10", "--outfits", "10", "--items", "10", "--rates"]
    assert "no such file of rates" in command(*words, str(tmp_path / "none.toml")).error(2)
