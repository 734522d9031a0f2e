import math

import pytest
import torch

from recjob.model.losses import bpr_loss, n_pair_loss


def test_equals_minus_log_sigmoid_of_the_difference() -> None:
    generator = torch.Generator().manual_seed(6)
    positive = torch.rand(9, generator=generator, dtype=torch.float64)
    negative = torch.rand(9, generator=generator, dtype=torch.float64)
    pairs = zip(positive.tolist(), negative.tolist(), strict=True)
    expected = sum(-math.log(1 / (1 + math.exp(-(p - n) / 0.1))) for p, n in pairs) / 9
    assert bpr_loss(positive, negative, 0.1).item() == pytest.approx(expected, rel=1e-12)


def test_is_the_n_pair_loss_with_one_negative() -> None:
    generator = torch.Generator().manual_seed(7)
    positive = torch.rand(9, generator=generator, dtype=torch.float64)
    negative = torch.rand(9, generator=generator, dtype=torch.float64)
    torch.testing.assert_close(
        bpr_loss(positive, negative, 0.2), n_pair_loss(positive, negative[:, None], 0.2)
    )


def test_closed_form_and_extremes() -> None:
    assert bpr_loss(torch.zeros(3), torch.zeros(3), 0.1).item() == pytest.approx(math.log(2))
    positive = torch.tensor([1e30, -1e30], requires_grad=True)
    loss = bpr_loss(positive, torch.zeros(2), 1.0)
    loss.backward()  # type: ignore[no-untyped-call]
    assert torch.isfinite(loss)
    assert positive.grad is not None
    assert torch.isfinite(positive.grad).all()


def test_bad_arguments_are_refused() -> None:
    with pytest.raises(ValueError, match="temperature"):
        bpr_loss(torch.zeros(2), torch.zeros(2), 0)
    with pytest.raises(ValueError, match="must be"):
        bpr_loss(torch.zeros(2), torch.zeros(2, 2), 0.1)
