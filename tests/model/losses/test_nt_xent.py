import math

import pytest
import torch

from recjob.model.losses import nt_xent_loss


def naive(first: torch.Tensor, second: torch.Tensor, temperature: float) -> float:
    """Eq. 17 and 18 as they are written: views 2n - 1 and 2n belong together."""
    views = [v for pair in zip(first, second, strict=True) for v in pair]
    s = [
        [float(torch.dot(a, b) / (a.norm() * b.norm())) / temperature for b in views] for a in views
    ]

    def term(n: int, m: int) -> float:
        bottom = sum(math.exp(s[n][t]) for t in range(len(views)) if t != n)
        return -math.log(math.exp(s[n][m]) / bottom)

    pairs = range(0, len(views), 2)
    return sum(term(n, n + 1) + term(n + 1, n) for n in pairs) / len(views)


def test_equals_the_equations_written_naively() -> None:
    generator = torch.Generator().manual_seed(4)
    first = torch.randn(5, 8, generator=generator, dtype=torch.float64)
    second = torch.randn(5, 8, generator=generator, dtype=torch.float64)
    assert nt_xent_loss(first, second, 0.1).item() == pytest.approx(
        naive(first, second, 0.1), rel=1e-12
    )


def test_is_symmetric_and_ignores_length_and_order() -> None:
    generator = torch.Generator().manual_seed(5)
    first = torch.randn(6, 4, generator=generator, dtype=torch.float64)
    second = torch.randn(6, 4, generator=generator, dtype=torch.float64)
    loss = nt_xent_loss(first, second, 0.3)
    torch.testing.assert_close(nt_xent_loss(second, first, 0.3), loss)
    torch.testing.assert_close(nt_xent_loss(7 * first, second / 3, 0.3), loss)
    shuffle = torch.randperm(6, generator=generator)
    torch.testing.assert_close(nt_xent_loss(first[shuffle], second[shuffle], 0.3), loss)


def test_closed_forms() -> None:
    same = torch.ones(4, 3)
    assert nt_xent_loss(same, same, 0.1).item() == pytest.approx(math.log(7))
    # Orthogonal outfits whose views agree: one right answer at 1 and 2N - 2 others at 0.
    axes = torch.eye(4)
    expected = math.log(1 + 6 * math.exp(-1 / 0.5))
    assert nt_xent_loss(axes, axes, 0.5).item() == pytest.approx(expected, rel=1e-6)
    assert nt_xent_loss(axes[:1], axes[:1], 0.5).item() == pytest.approx(0.0, abs=1e-6)


def test_zero_and_huge_vectors_stay_finite() -> None:
    first = torch.tensor([[0.0, 0.0], [1e18, 1e18]], requires_grad=True)
    second = torch.tensor([[1.0, 0.0], [-1e-18, 1e-18]], requires_grad=True)
    loss = nt_xent_loss(first, second, 0.01)
    loss.backward()  # type: ignore[no-untyped-call]
    for tensor in (loss, first.grad, second.grad):
        assert tensor is not None
        assert torch.isfinite(tensor).all()


@pytest.mark.parametrize(
    ("first", "second", "temperature"),
    [
        (torch.ones(2, 3), torch.ones(2, 3), 0.0),
        (torch.ones(2, 3), torch.ones(3, 3), 0.1),
        (torch.ones(0, 3), torch.ones(0, 3), 0.1),
        (torch.ones(3), torch.ones(3), 0.1),
    ],
)
def test_bad_arguments_are_refused(
    first: torch.Tensor, second: torch.Tensor, temperature: float
) -> None:
    with pytest.raises(ValueError, match="must be"):
        nt_xent_loss(first, second, temperature)
