import math

import pytest
import torch

from recjob.model.losses import n_pair_loss


def naive(
    positive: torch.Tensor,
    negative: torch.Tensor,
    temperature: float,
    valid: torch.Tensor | None = None,
) -> float:
    """Eq. 10 as it is written, in Python floats."""
    total = 0.0
    for i, p in enumerate(positive.tolist()):
        top = math.exp(p / temperature)
        bottom = top
        for k, n in enumerate(negative[i].tolist()):
            if valid is None or valid[i, k]:
                bottom += math.exp(n / temperature)
        total -= math.log(top / bottom)
    return total / len(positive)


def test_equals_the_equation_written_naively() -> None:
    generator = torch.Generator().manual_seed(1)
    positive = torch.rand(7, generator=generator, dtype=torch.float64) * 2 - 1
    negative = torch.rand(7, 5, generator=generator, dtype=torch.float64) * 2 - 1
    valid = torch.rand(7, 5, generator=generator) < 0.6
    assert n_pair_loss(positive, negative, 0.1).item() == pytest.approx(
        naive(positive, negative, 0.1), rel=1e-12
    )
    assert n_pair_loss(positive, negative, 0.1, valid).item() == pytest.approx(
        naive(positive, negative, 0.1, valid), rel=1e-12
    )


def test_equal_scores_cost_the_log_of_their_number() -> None:
    loss = n_pair_loss(torch.full((3,), 0.4), torch.full((3, 4), 0.4), 0.1)
    assert loss.item() == pytest.approx(math.log(5))


def test_a_row_without_valid_negatives_costs_nothing_and_has_no_gradient() -> None:
    positive = torch.tensor([0.3, 0.1], requires_grad=True)
    negative = torch.tensor([[0.9], [0.2]], requires_grad=True)
    loss = n_pair_loss(positive, negative, 0.1, torch.tensor([[False], [True]]))
    loss.backward()  # type: ignore[no-untyped-call]
    assert loss.item() == pytest.approx(math.log(1 + math.exp(1.0)) / 2)
    assert positive.grad is not None
    assert negative.grad is not None
    assert positive.grad[0] == 0
    assert negative.grad[0, 0] == 0
    assert negative.grad[1, 0] > 0


@pytest.mark.parametrize("scale", [1e4, 1e30])
def test_extreme_scores_stay_finite(scale: float) -> None:
    positive = torch.tensor([-scale, scale], requires_grad=True)
    negative = torch.tensor([[scale, 0.0], [-scale, 0.0]], requires_grad=True)
    loss = n_pair_loss(positive, negative, 0.1)
    loss.backward()  # type: ignore[no-untyped-call]
    assert torch.isfinite(loss)
    assert positive.grad is not None
    assert torch.isfinite(positive.grad).all()
    assert negative.grad is not None
    assert torch.isfinite(negative.grad).all()


@pytest.mark.parametrize(
    ("positive", "negative", "temperature", "valid"),
    [
        (torch.zeros(2), torch.zeros(2, 3), 0.0, None),
        (torch.zeros(2), torch.zeros(2, 3), -1.0, None),
        (torch.zeros(2, 1), torch.zeros(2, 3), 0.1, None),
        (torch.zeros(2), torch.zeros(3, 3), 0.1, None),
        (torch.zeros(0), torch.zeros(0, 3), 0.1, None),
        (torch.zeros(2), torch.zeros(2, 3), 0.1, torch.ones(2, 2, dtype=torch.bool)),
    ],
)
def test_bad_arguments_are_refused(positive, negative, temperature, valid) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(ValueError, match="must be"):
        n_pair_loss(positive, negative, temperature, valid)
