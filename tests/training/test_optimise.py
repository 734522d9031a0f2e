"""Groups, rates, schedules and the step that refuses what is not finite."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from recjob.errors import RecjobError
from recjob.model.recommender import ContrastiveProjection, OutfitRecommender
from recjob.settings import TrainingSettings
from recjob.training.optimise import OneCycle, guarded_step, make_optimizer


def names_of(group: dict[str, list[Tensor]], *models: nn.Module) -> set[str]:
    ids = {id(parameter) for parameter in group["params"]}
    return {
        name
        for model in models
        for name, parameter in model.named_parameters()
        if id(parameter) in ids
    }


def optimizer_of(
    parameter: nn.Parameter, **options: object
) -> tuple[torch.optim.Optimizer, TrainingSettings]:
    settings = TrainingSettings.model_validate(options)
    model = nn.Module()
    model.register_parameter("weight", parameter)
    return make_optimizer([model], settings, 100)[0], settings


@pytest.mark.parametrize("kind", ["adamw", "sgd"])
def test_groups(kind: str) -> None:
    settings = TrainingSettings.model_validate(
        {"optimizer": kind, "learning_rate": 1e-3, "user_rate_factor": 7, "weight_decay": 0.3}
    )
    model, projection = OutfitRecommender("xs", 3), ContrastiveProjection()
    optimizer, _ = make_optimizer([model, projection], settings, 1000)
    matrices, vectors, users = optimizer.param_groups
    assert names_of(users, model, projection) == {"users.weight"}
    assert {"set_transformer.seed", "head.0.bias", "layers.0.bias"} <= names_of(
        vectors, model, projection
    )
    assert all(
        "norm" in name or "bias" in name or "seed" in name
        for name in names_of(vectors, model, projection)
    )
    assert {"head.0.weight", "backbone.trunk.0.weight", "layers.2.weight"} <= names_of(
        matrices, model, projection
    )
    counted = sum(len(group["params"]) for group in optimizer.param_groups)
    assert counted == len([*model.parameters(), *projection.parameters()])
    rates = [group["lr"] for group in optimizer.param_groups]
    assert rates[0] == rates[1]
    assert rates[2] == pytest.approx(7 * rates[0])
    spared = 0.3 if kind == "sgd" else 0.0
    assert [group["weight_decay"] for group in optimizer.param_groups] == [0.3, spared, spared]


def test_one_cycle_rises_to_the_rate_and_falls() -> None:
    parameter = nn.Parameter(torch.zeros(2, 2))
    settings = TrainingSettings(learning_rate=0.5, warmup=0.25)
    model = nn.Module()
    model.register_parameter("weight", parameter)
    optimizer, schedule = make_optimizer([model], settings, 40)
    rates = []
    for _ in range(40):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.after_step()
        schedule.after_epoch(0.5)
    top = rates.index(max(rates))
    assert max(rates) == pytest.approx(0.5)
    assert top == 9  # a quarter of the steps
    assert rates[: top + 1] == sorted(rates[: top + 1])
    assert rates[top:] == sorted(rates[top:], reverse=True)
    assert rates[-1] < 1e-4


@pytest.mark.parametrize("warmup", [0.01, 0.1, 0.5, 0.9])
def test_a_cycle_of_any_length(warmup: float) -> None:
    """Ten steps with a tenth of them rising once divided by zero."""
    for steps in range(1, 25):
        optimizer = torch.optim.AdamW([nn.Parameter(torch.zeros(1))])
        schedule = OneCycle(optimizer, [1.0], steps, warmup)
        rates = []
        for _ in range(steps):
            rates.append(optimizer.param_groups[0]["lr"])
            optimizer.step()
            schedule.after_step()
        assert all(0 < rate <= 1 for rate in rates)
        assert steps == 1 or max(rates) > 0.6  # the top may lie between two steps


def test_plateau_lowers_the_rate_after_its_patience() -> None:
    settings = TrainingSettings(
        optimizer="sgd", learning_rate=0.8, plateau_factor=0.5, plateau_patience=2
    )
    model = nn.Linear(2, 2)
    optimizer, schedule = make_optimizer([model], settings, 10)
    rates = []
    for auc in (0.6, 0.7, 0.7, 0.65, 0.7, 0.7, 0.8):
        schedule.after_step()
        schedule.after_epoch(auc)
        rates.append(optimizer.param_groups[0]["lr"])
    assert rates == [0.8, 0.8, 0.8, 0.8, 0.4, 0.4, 0.4]


def test_sgd_steps_as_it_is_written() -> None:
    """v = m v + g; w = w - rate v."""
    parameter = nn.Parameter(torch.tensor([[1.0]]))
    optimizer, _ = optimizer_of(
        parameter, optimizer="sgd", learning_rate=0.1, momentum=0.5, weight_decay=0.0
    )
    _, schedule = make_optimizer([nn.Linear(1, 1)], TrainingSettings(optimizer="sgd"), 1)
    w, v = 1.0, 0.0
    for step in range(3):
        guarded_step((2 * parameter).sum(), optimizer, schedule, 100, f"step {step}")
        v = 0.5 * v + 2
        w -= 0.1 * v
    assert float(parameter.detach()) == pytest.approx(w)


@pytest.mark.parametrize(("clip", "expected"), [(1.0, (0.6, 0.8)), (50.0, (3.0, 4.0))])
def test_long_gradients_are_scaled(clip: float, expected: tuple[float, float]) -> None:
    parameter = nn.Parameter(torch.zeros(1, 2))
    optimizer, settings = optimizer_of(
        parameter, optimizer="sgd", learning_rate=1.0, momentum=0.0, weight_decay=0.0
    )
    _, schedule = make_optimizer([nn.Linear(1, 1)], settings, 1)
    loss = (parameter * torch.tensor([3.0, 4.0])).sum() + 9
    assert guarded_step(loss, optimizer, schedule, clip, "") == 9
    assert (-parameter.detach())[0].tolist() == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_loss_that_is_not_finite_stops(value: float) -> None:
    parameter = nn.Parameter(torch.ones(1, 2))
    optimizer, settings = optimizer_of(parameter)
    _, schedule = make_optimizer([nn.Linear(1, 1)], settings, 1)
    with pytest.raises(RecjobError, match=r"epoch 3, step 7: the loss is .*lower the learning"):
        guarded_step(parameter.sum() + value, optimizer, schedule, 1, "epoch 3, step 7")
    assert parameter.detach().tolist() == [[1, 1]]


def test_a_gradient_that_is_not_finite_stops() -> None:
    """The square root of zero is fine, its slope is not."""
    parameter = nn.Parameter(torch.zeros(1, 2))
    optimizer, settings = optimizer_of(parameter)
    _, schedule = make_optimizer([nn.Linear(1, 1)], settings, 1)
    with pytest.raises(RecjobError, match="epoch 1, step 2: the gradient is not finite"):
        guarded_step(parameter.sqrt().sum(), optimizer, schedule, 1, "epoch 1, step 2")
    assert parameter.detach().tolist() == [[0, 0]]
