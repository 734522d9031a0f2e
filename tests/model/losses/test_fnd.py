import math

import pytest
import torch

from recjob.model.losses import false_negativeness, fnd_loss, n_pair_loss


def random_case(n: int = 6, k: int = 5) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(2)
    positive = torch.rand(n, generator=generator, dtype=torch.float64) * 2 - 1
    negative = torch.rand(n, k, generator=generator, dtype=torch.float64) * 2 - 1
    d = torch.randn(n, k, generator=generator, dtype=torch.float64)
    return positive, negative, d


def naive(
    positive: torch.Tensor,
    negative: torch.Tensor,
    d: torch.Tensor,
    temperature: float,
    valid: torch.Tensor,
) -> float:
    """Eq. 13 and 14 as they are written."""
    losses = []
    for i in range(len(positive)):
        top = math.exp(float(positive[i]) / temperature)
        bottom = top + sum(
            math.exp(float(d[i, k]) * float(negative[i, k]) / temperature)
            for k in range(negative.shape[1])
            if valid[i, k]
        )
        losses.append(-math.log(top / bottom))
    return sum(losses) / len(losses)


def test_equals_the_equations_written_naively() -> None:
    positive, negative, d = random_case()
    valid = torch.rand(d.shape, generator=torch.Generator().manual_seed(3)) < 0.7
    everything = torch.ones_like(valid)
    assert fnd_loss(positive, negative, d, 0.1).item() == pytest.approx(
        naive(positive, negative, d, 0.1, everything), rel=1e-12
    )
    assert fnd_loss(positive, negative, d, 0.1, valid).item() == pytest.approx(
        naive(positive, negative, d, 0.1, valid), rel=1e-12
    )


def test_with_d_of_one_it_is_the_n_pair_loss() -> None:
    positive, negative, d = random_case()
    torch.testing.assert_close(
        fnd_loss(positive, negative, torch.ones_like(d), 0.2), n_pair_loss(positive, negative, 0.2)
    )


def test_the_gradient_has_the_sign_and_the_size_of_equation_16() -> None:
    positive, negative, d = random_case(n=1)
    negative.requires_grad_()
    fnd_loss(positive, negative, d, 0.1).backward()  # type: ignore[no-untyped-call]
    scaled = torch.exp(d * negative.detach() / 0.1)
    share = scaled / (torch.exp(positive / 0.1) + scaled.sum())  # Eq. 15
    assert negative.grad is not None
    torch.testing.assert_close(negative.grad, d / 0.1 * share)  # Eq. 16
    assert (torch.sign(negative.grad) == torch.sign(d)).all()


def test_false_negativeness_is_scaled_distance_to_the_users_mean() -> None:
    d = false_negativeness(torch.tensor([0.5, 0.0]), torch.tensor([[0.1, 0.9], [0.0, -1.0]]), 2.0)
    torch.testing.assert_close(d, torch.tensor([[0.8, -0.8], [0.0, 2.0]]))


def test_masked_negatives_do_not_count_whatever_their_d() -> None:
    positive, negative, d = random_case()
    valid = torch.ones_like(d, dtype=torch.bool)
    valid[:, 0] = False
    d[:, 0] = -1e6
    torch.testing.assert_close(
        fnd_loss(positive, negative, d, 0.1, valid),
        fnd_loss(positive, negative[:, 1:], d[:, 1:], 0.1),
    )


def test_extreme_values_stay_finite() -> None:
    positive = torch.tensor([1.0, -1.0], requires_grad=True)
    negative = torch.tensor([[1.0, -1.0], [0.0, 1.0]], requires_grad=True)
    d = torch.tensor([[1e6, 1e6], [-1e6, -1e6]])
    loss = fnd_loss(positive, negative, d, 1e-3)
    loss.backward()  # type: ignore[no-untyped-call]
    for tensor in (loss, positive.grad, negative.grad):
        assert tensor is not None
        assert torch.isfinite(tensor).all()


def test_bad_arguments_are_refused() -> None:
    positive, negative, d = random_case()
    with pytest.raises(ValueError, match="alpha"):
        false_negativeness(positive, negative, 0.0)
    with pytest.raises(ValueError, match="must be"):
        false_negativeness(positive[:2], negative, 1.0)
    with pytest.raises(ValueError, match="temperature"):
        fnd_loss(positive, negative, d, 0.0)
    with pytest.raises(ValueError, match="false_negativeness"):
        fnd_loss(positive, negative, d[:, :2], 0.1)
