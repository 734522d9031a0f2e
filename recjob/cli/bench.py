"""Commands `bench ...`: speed claims measured beside their peers, in one run."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from recjob.cli.bench_training import bench_images_command, bench_train_command
from recjob.cli.output import JsonOption, SettingsOption, print_json, print_values
from recjob.settings import load_settings

bench_app = typer.Typer(
    no_args_is_help=True, help="Measure speed beside the peers, in one run on this machine."
)
bench_app.command("images")(bench_images_command)
bench_app.command("train")(bench_train_command)


@bench_app.command("topk")
def bench_topk_command(
    users: Annotated[int, typer.Option("--users", min=1)] = 8192,
    outfits: Annotated[int, typer.Option("--outfits", min=1)] = 200_000,
    dim: Annotated[int, typer.Option("--dim", min=1, help="Width of the vectors.")] = 128,
    k: Annotated[int, typer.Option("--k", min=1, help="Length of a list.")] = 100,
    threads: Annotated[int, typer.Option("--threads", min=1, help="Of every rival.")] = 2,
    repeats: Annotated[int, typer.Option("--repeats", min=1, help="The least counts.")] = 3,
    vectors: Annotated[
        Path | None,
        typer.Option(
            "--vectors", help="A student's embeddings.safetensors; default: the newest at home."
        ),
    ] = None,
    settings: SettingsOption = None,
    as_json: JsonOption = False,
) -> None:
    """Measure the exact top-K beside FAISS, torch, implicit and the matrix product alone.

    All take turns in one process with the same threads, on random, trained and nearly duplicated
    vectors, and their results are compared. Peers that are not installed are named.

    python cli.py bench topk --users 8192 --outfits 200000
    """
    from recjob.bench.topk import TopKWork, bench_topk, print_topk

    work = TopKWork(users, outfits, dim, k, threads, repeats, vectors)
    result = bench_topk(load_settings(settings), work)
    if as_json:
        print_json(result.model_dump(mode="json"))
    else:
        print_topk(result)


@bench_app.command("load")
def bench_load_command(
    users: Annotated[int, typer.Option("--users", min=1, help="Lists of a run.")] = 100_000,
    places: Annotated[int, typer.Option("--places", min=1, help="Outfits in each list.")] = 30,
    outfits: Annotated[
        int, typer.Option("--outfits", min=1, help="Outfits that lists are drawn from.")
    ] = 100_000,
    repeats: Annotated[int, typer.Option("--repeats", min=1, help="The least counts.")] = 5,
    settings: SettingsOption = None,
    as_json: JsonOption = False,
) -> None:
    """Write a run into Postgres, beside a bare COPY BINARY of the very same bytes.

    Both write in turn, the same way, into a database that is made for it and removed.

    python cli.py bench load --users 100000 --places 30
    """
    from recjob.bench.load import bench_load

    if outfits < places:
        raise typer.BadParameter("a list has no outfit twice: give at least as many outfits")
    seed = load_settings(settings).seed
    print_values(bench_load(seed, users, places, outfits, repeats), as_json)


@bench_app.command("night")
def bench_night_command(
    users: Annotated[int, typer.Option("--users", min=1, help="Users of the shop.")] = 100_000,
    outfits: Annotated[int, typer.Option("--outfits", min=1, help="Outfits of it.")] = 100_000,
    items: Annotated[int, typer.Option("--items", min=3, help="Items of it.")] = 6_000,
    positives: Annotated[
        int, typer.Option("--positives", min=1, help="Outfits that each user likes.")
    ] = 10,
    cold: Annotated[
        float, typer.Option("--cold", min=0, max=0.9, help="Share of cold starters.")
    ] = 0.05,
    strangers: Annotated[
        float, typer.Option("--strangers", min=0, max=0.1, help="Share of strangers.")
    ] = 0.01,
    settings: SettingsOption = None,
    as_json: JsonOption = False,
) -> None:
    """Run a whole first night on a large drawn shop: seconds and peak memory of every stage.

    The jobs are the real ones, with the settings' lists, rules and variety; the student is
    untrained, and pictures are small. Home and database are made for it and removed.

    python cli.py bench night --users 100000 --outfits 100000
    """
    from recjob.bench.night import bench_night, print_night
    from recjob.bench.shop import ShopSize

    size = ShopSize(users, outfits, items, positives, cold, strangers)
    result = bench_night(load_settings(settings), size)
    if as_json:
        print_json(result.model_dump(mode="json"))
    else:
        print_night(result)


@bench_app.command("embed")
def bench_embed_command(
    items: Annotated[int, typer.Option("--items", min=100, help="Items of the shop.")] = 8_000,
    outfits: Annotated[int, typer.Option("--outfits", min=1, help="Outfits of it.")] = 40_000,
    users: Annotated[int, typer.Option("--users", min=1, help="Users of it.")] = 2_000,
    settings: SettingsOption = None,
    as_json: JsonOption = False,
) -> None:
    """Embed a drawn shop, then again after 1 % of its pictures changed, then with nothing new.

    The jobs are the real ones; the student is untrained. Home and database are made for it, some
    150 KB for each item of 224 pixels, and removed.

    python cli.py bench embed --items 8000 --outfits 40000
    """
    from recjob.bench.embed import bench_embed, print_embed

    result = bench_embed(load_settings(settings), items, outfits, users)
    if as_json:
        print_json(result.model_dump(mode="json"))
    else:
        print_embed(result)
