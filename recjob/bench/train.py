"""Benchmark of training steps: the recipes' own, beside a loop written as the paper reads.

Both take the same batches from the same weights, with dropout and flips off; first the losses and
the gradients of the first batches are compared, then whole steps are timed, input and optimiser
included.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

from pydantic import BaseModel, ConfigDict
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from recjob.bench.machine import Machine, this_machine
from recjob.bench.scratch import scratch_home
from recjob.bench.train_loops import (
    Block,
    Loop,
    Precision,
    compare,
    time_steps,
    ways_to_train,
)
from recjob.bench.train_steps import Recipe, StepBuilder
from recjob.catalog.synthetic import write_demo
from recjob.jobs.offline import FolderSite
from recjob.jobs.training_site import training_data
from recjob.model.backbone import ModelSize
from recjob.monitoring.memory import MemoryMonitor
from recjob.settings import Settings, StudentSettings
from recjob.training.compute import choose_compute

GOAL: Final = 3.0
"""Least times the speed of the straightforward loop in fp32."""
RECIPES: Final[tuple[Recipe, ...]] = ("teacher", "student")
FP32_LOSS: Final = 1e-5
"""Largest relative difference of a loss in fp32: sums are taken in another order."""
FP32_GRADIENT: Final = 1e-4
"""Largest length of the difference of the gradients in fp32, relative to their length."""
BF16_LOSS: Final = 0.03
"""Largest relative difference of a loss in bf16, which has three decimal digits."""


@dataclass(frozen=True)
class TrainWork:
    """What is measured."""

    data: Path | None = None
    """A folder in the import format; None: a drawn catalog as `[demo]` says."""
    size: int | None = None
    """Side of the pictures; None: `images.size`."""
    model_size: ModelSize | None = None
    """Of both recipes; None: each as the settings say."""
    batch_size: int | None = None
    """Of both recipes; None: each as the settings say."""
    steps: int = 3
    """Timed at a time, after one that is not."""
    repeats: int = 2
    """The least counts."""


class WayOfTraining(BaseModel):
    """One of the loops."""

    model_config = ConfigDict(frozen=True)

    loop: Loop
    precision: Precision
    steps_per_second: float
    cpu_seconds_per_step: float
    """Of all threads: what other programs on the machine do not lengthen."""
    pictures_per_step: float
    """That pass the CNN, forward and backward; none where the trunk is frozen."""
    times_straightforward: float
    """Speed relative to the straightforward loop in fp32."""
    loss_difference: float
    """Largest relative difference to the straightforward loop in fp32, from equal weights."""
    gradient_difference: float
    """Likewise of the gradients of what learns: the length of the difference, relative."""


class RecipeBenchmark(BaseModel):
    """The loops of one recipe."""

    model_config = ConfigDict(frozen=True)

    recipe: Recipe
    model_size: str
    batch_size: int
    negatives: int
    equal: bool
    """Whether losses, and in fp32 gradients, are within the tolerances."""
    ways: tuple[WayOfTraining, ...]
    times: float
    """Our best precision relative to the straightforward loop in fp32."""


class TrainBenchmark(BaseModel):
    """Steps per second of both recipes."""

    model_config = ConfigDict(frozen=True)

    machine: Machine
    device: str
    source: str
    items: int
    users: int
    training_positives: int
    picture_side: int
    steps: int
    repeats: int
    goal: float = GOAL
    recipes: tuple[RecipeBenchmark, ...]


def bench_train(settings: Settings, work: TrainWork) -> TrainBenchmark:
    """Measure both recipes, loop by loop in turn.

    Raises DataError where the folder cannot be trained on.
    """
    settings = _as_measured(settings, work)
    with scratch_home(settings) as (scratch, settings), MemoryMonitor() as monitor:
        folder = work.data or scratch / "shop"
        if work.data is None:
            demo = settings.demo.model_copy(update={"image_size": settings.images.size})
            write_demo(folder, scratch / "cold", demo, settings.seed)
        shop = FolderSite(folder, scratch / "out", settings, monitor).read_shop()
        data = training_data(shop, settings)
        recipes = tuple(
            _bench_recipe(StepBuilder(recipe, data, settings), work) for recipe in RECIPES
        )
    return TrainBenchmark(
        machine=this_machine(),
        device=str(choose_compute(settings.compute).device),
        source="drawn garments" if work.data is None else str(work.data),
        items=data.catalog.n_items,
        users=data.users.size,
        training_positives=len(data.training_positives),
        picture_side=settings.images.size,
        steps=work.steps,
        repeats=work.repeats,
        recipes=recipes,
    )


def print_train(result: TrainBenchmark) -> None:
    """A table for each recipe."""
    console = Console()
    for recipe in result.recipes:
        table = Table(
            title=f"{recipe.recipe} ({recipe.model_size}): {recipe.batch_size} positives and "
            f"{recipe.negatives} negatives per step, {result.picture_side} px, "
            f"{result.items} items; {result.device}",
            box=SIMPLE_HEAD,
        )
        table.add_column(no_wrap=True)
        for heading in ("steps/s", "CPU s", "pictures", "times", "loss off", "grad. off"):
            table.add_column(heading, justify="right")
        for way in recipe.ways:
            table.add_row(
                f"{way.loop}, {way.precision}",
                f"{way.steps_per_second:.3f}",
                f"{way.cpu_seconds_per_step:.2f}",
                f"{way.pictures_per_step:.0f}",
                f"{way.times_straightforward:.2f}",
                f"{way.loss_difference:.0e}",
                f"{way.gradient_difference:.0e}",
            )
        console.print(table)
        verdict = "reached" if recipe.times >= result.goal else "missed"
        console.print(
            f"ours takes {recipe.times:.1f} times the steps of the straightforward fp32 loop "
            f"(goal: {result.goal:.0f}, {verdict}); losses and gradients "
            + ("equal" if recipe.equal else "DIFFER")
        )


def _as_measured(settings: Settings, work: TrainWork) -> Settings:
    """Equal draws for everyone: no dropout, no flips; random weights need no download."""
    common: dict[str, object] = {
        "dropout": 0.0,
        "flip": False,
        "weights": "none",
        "backbone": "alexnet",
        "freeze_backbone": False,
    }
    if work.model_size:
        common["size"] = work.model_size
    if work.batch_size:
        common["batch_size"] = work.batch_size
    student: dict[str, object] = {
        "loss": "fnd",
        "alpha_relative": 0.0,  # of an untrained teacher's gap
        "alpha_schedule": "constant",
        "contrastive": "views",
    }
    if settings.student.contrastive_weight == 0:
        student["contrastive_weight"] = StudentSettings().contrastive_weight
    return settings.model_copy(
        update={
            "images": settings.images.model_copy(
                update={"size": work.size or settings.images.size}
            ),
            "teacher": settings.teacher.model_copy(update=common | {"image_size": 0}),
            "student": settings.student.model_copy(update=common | student),
        }
    )


def _bench_recipe(builder: StepBuilder, work: TrainWork) -> RecipeBenchmark:
    ways = list(ways_to_train(builder))
    # One state for all; a way's own modules live only while it is at work.
    start = builder.start()
    compared = compare(ways, start)
    blocks: list[list[Block]] = [[] for _ in ways]
    for repeat in range(work.repeats):
        # In turn, and in turn who is first: what comes second may find a warmer machine.
        for number in range(len(ways)) if repeat % 2 == 0 else reversed(range(len(ways))):
            blocks[number].append(time_steps(ways[number], start, builder, work.steps))
    seconds = [min(block.seconds for block in measured) for measured in blocks]
    results = tuple(
        WayOfTraining(
            loop=way.loop,
            precision=way.precision,
            steps_per_second=work.steps / least,
            cpu_seconds_per_step=min(block.cpu_seconds for block in measured) / work.steps,
            pictures_per_step=measured[0].pictures,
            times_straightforward=seconds[0] / least,
            loss_difference=loss,
            gradient_difference=gradient,
        )
        for way, measured, least, (loss, gradient) in zip(
            ways, blocks, seconds, compared, strict=True
        )
    )
    return RecipeBenchmark(
        recipe=builder.recipe,
        model_size=builder.options.size,
        batch_size=builder.batch_size,
        negatives=builder.negatives,
        equal=all(_is_equal(way) for way in results),
        ways=results,
        times=max(way.times_straightforward for way in results if way.loop == "ours"),
    )


def _is_equal(way: WayOfTraining) -> bool:
    if way.precision == "bf16":
        return way.loss_difference <= BF16_LOSS
    return way.loss_difference <= FP32_LOSS and way.gradient_difference <= FP32_GRADIENT
