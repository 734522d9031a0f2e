"""Commands `bench images` and `bench train`: what the way to a model costs, beside its peers."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from recjob.cli.output import JsonOption, SettingsOption, print_json
from recjob.settings import ModelSize, load_settings


def bench_images_command(
    data: Annotated[
        Path | None,
        typer.Option("--data", help="Folder with picture files; default: drawn garments."),
    ] = None,
    pictures: Annotated[int, typer.Option("--pictures", min=1, help="At most so many.")] = 400,
    side: Annotated[
        int, typer.Option("--side", min=16, help="Pixels of the drawn pictures.")
    ] = 800,
    size: Annotated[
        int | None, typer.Option("--size", min=64, help="Packed pixels; default: images.size.")
    ] = None,
    repeats: Annotated[int, typer.Option("--repeats", min=1, help="The least counts.")] = 3,
    settings: SettingsOption = None,
    as_json: JsonOption = False,
) -> None:
    """Pack pictures beside Pillow alone, on one core and in a pool on all of them.

    Pillow decodes, scales and pads the same files and drops the pixels; an import also hashes and
    writes them. The pixels are compared first, and an import's peak memory is measured.

    python cli.py bench images --data ../shared/data/wardrobe --pictures 2000
    """
    from recjob.bench.images import ImagesWork, bench_images, print_images

    work = ImagesWork(pictures, side, size, repeats, data)
    result = bench_images(load_settings(settings), work)
    if as_json:
        print_json(result.model_dump(mode="json"))
    else:
        print_images(result)


def bench_train_command(
    data: Annotated[
        Path | None,
        typer.Option("--data", help="Folder in the import format; default: a drawn catalog."),
    ] = None,
    size: Annotated[
        int | None, typer.Option("--size", min=64, help="Side of pictures; default: images.size.")
    ] = None,
    model_size: Annotated[
        ModelSize | None,
        typer.Option("--model-size", help="Of teacher and student; default: as the settings say."),
    ] = None,
    batch_size: Annotated[
        int | None, typer.Option("--batch-size", min=2, help="Default: as the settings say.")
    ] = None,
    steps: Annotated[int, typer.Option("--steps", min=1, help="Timed in a row.")] = 3,
    repeats: Annotated[int, typer.Option("--repeats", min=1, help="The least counts.")] = 2,
    settings: SettingsOption = None,
    as_json: JsonOption = False,
) -> None:
    """Train beside a loop as the paper reads: every item of every outfit through the CNN.

    Teacher and student (FND-CL) take the same batches in both, in fp32 and in bf16 where the
    machine has it; losses and gradients are compared first. Flips and dropout are off.

    python cli.py bench train --data ../shared/data/wardrobe
    """
    from recjob.bench.train import TrainWork, bench_train, print_train

    work = TrainWork(data, size, model_size, batch_size, steps, repeats)
    result = bench_train(load_settings(settings), work)
    if as_json:
        print_json(result.model_dump(mode="json"))
    else:
        print_train(result)
