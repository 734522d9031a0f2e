"""The loops that `bench train` compares: made, held against each other, and timed."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice
from typing import Any, Final, Literal

import torch
from torch import Tensor, nn

from recjob.bench.train_steps import StepBuilder
from recjob.training.optimise import guarded_step, make_optimizer

Loop = Literal["straightforward", "ours", "ours, trunk frozen"]
Precision = Literal["fp32", "bf16"]

COMPARED: Final = 2
"""Batches whose losses and gradients are compared."""


@dataclass(frozen=True)
class Way:
    """A loop in a precision: its loss as a module, and what that is called with."""

    loop: Loop
    precision: Precision
    make: Callable[[], nn.Module]
    inputs: Callable[[], Generator[Any]]


@dataclass(frozen=True)
class Block:
    """What some steps in a row took."""

    seconds: float
    cpu_seconds: float
    """Of all threads."""
    pictures: float
    """Per step, that passed the CNN."""


def ways_to_train(builder: StepBuilder) -> Iterator[Way]:
    """The straightforward loop in fp32 first; bf16 where the machine is asked for it and has it."""
    best = builder.compute
    precisions: list[Precision] = ["fp32", "bf16"] if best.bf16 else ["fp32"]
    computes = [replace(best, bf16=precision == "bf16") for precision in precisions]
    for precision, compute in zip(precisions, computes, strict=True):
        make = partial(builder.straightforward, compute)
        yield Way("straightforward", precision, make, builder.batches)
    for precision, compute in zip(precisions, computes, strict=True):
        yield Way("ours", precision, partial(builder.ours, compute), builder.inputs)
    frozen = partial(builder.ours, computes[-1], frozen=True)
    inputs = partial(builder.inputs, frozen=True)
    yield Way("ours, trunk frozen", precisions[-1], frozen, inputs)


def compare(ways: list[Way], start: dict[str, Tensor]) -> list[tuple[float, float]]:
    """Largest relative difference of losses and of gradients to the first way."""
    reference = gradients_of(ways[0], start)
    found = [(0.0, 0.0)]
    for way in ways[1:]:
        losses, gradients = [], []
        for (loss, own), (wanted, right) in zip(gradients_of(way, start), reference, strict=True):
            losses.append(abs(loss - wanted) / abs(wanted))
            off = sum(float((own[name] - right[name]).square().sum()) for name in own)
            length = sum(float(right[name].square().sum()) for name in own)
            gradients.append((off / length) ** 0.5)
        found.append((max(losses), max(gradients)))
    return found


def gradients_of(way: Way, start: dict[str, Tensor]) -> list[tuple[float, dict[str, Tensor]]]:
    """Loss, and gradients by learning parameter, of the first batches from `start`."""
    module = _begin(way, start)
    found = []
    with closing(way.inputs()) as batches:
        for inputs in islice(batches, COMPARED):
            module.zero_grad(set_to_none=True)
            loss = module(inputs)
            torch.autograd.backward(loss)
            gradients = {
                name: torch.zeros_like(parameter)
                if parameter.grad is None
                else parameter.grad.clone()
                for name, parameter in module.named_parameters()
                if parameter.requires_grad
            }
            found.append((float(loss.detach()), gradients))
    return found


def time_steps(way: Way, start: dict[str, Tensor], builder: StepBuilder, steps: int) -> Block:
    """Time `steps` whole steps from the weights `start`, after one step that is not timed."""
    module = _begin(way, start)
    options = builder.options
    optimizer, schedule = make_optimizer([module], options, steps + 1)
    pictures: list[int] = []
    backbone = module.get_submodule("model.backbone")
    backbone.register_forward_pre_hook(lambda _, given: pictures.append(len(given[0])))
    with closing(way.inputs()) as batches:

        def step() -> None:
            loss = module(next(batches))
            guarded_step(loss, optimizer, schedule, options.clip_norm, "bench train")

        step()
        _synchronize(builder.compute.device)
        pictures.clear()
        begin, cpu_begin = time.perf_counter(), time.process_time()
        for _ in range(steps):
            step()
        _synchronize(builder.compute.device)
        seconds, cpu_seconds = time.perf_counter() - begin, time.process_time() - cpu_begin
    return Block(seconds, cpu_seconds, sum(pictures) / steps)


def _begin(way: Way, start: dict[str, Tensor]) -> nn.Module:
    module = way.make()
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            parameter.copy_(start[name])
    return module.train()


def _synchronize(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
