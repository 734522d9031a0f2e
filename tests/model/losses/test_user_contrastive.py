import math

import pytest
import torch

from recjob.model.losses import nt_xent_loss, user_contrastive_loss


def naive(first: torch.Tensor, second: torch.Tensor, users: list[int], temperature: float) -> float:
    """L_out of Khosla et al. as it is written, one anchor after the other."""
    views = [*first, *second]
    owner = users + users
    s = [
        [float(torch.dot(a, b) / (a.norm() * b.norm())) / temperature for b in views] for a in views
    ]
    total = 0.0
    for i in range(len(views)):
        others = [a for a in range(len(views)) if a != i]
        positives = [p for p in others if owner[p] == owner[i]]
        bottom = sum(math.exp(s[i][a]) for a in others)
        total += -sum(math.log(math.exp(s[i][p]) / bottom) for p in positives) / len(positives)
    return total / len(views)


def two_views(n: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    first = torch.randn(n, 5, generator=generator, dtype=torch.float64)
    return first, first + 0.5 * torch.randn(n, 5, generator=generator, dtype=torch.float64)


@pytest.mark.parametrize("users", [[3, 1, 3, 3, 0, 1], [7] * 6, [0, 1, 2, 3, 4, 5]])
def test_equals_the_equation_written_naively(users: list[int]) -> None:
    first, second = two_views(6, 1)
    found = user_contrastive_loss(first, second, torch.tensor(users), 0.2)
    assert found.item() == pytest.approx(naive(first, second, users, 0.2), rel=1e-12)


def test_is_nt_xent_where_all_users_differ() -> None:
    first, second = two_views(7, 2)
    first.requires_grad_()
    users = torch.randperm(7)
    found, other = (
        user_contrastive_loss(first, second, users, 0.1),
        nt_xent_loss(first, second, 0.1),
    )
    torch.testing.assert_close(found, other)
    gradients = [torch.autograd.grad(loss, first)[0] for loss in (found, other)]
    torch.testing.assert_close(gradients[0], gradients[1])


def test_is_symmetric_and_ignores_length_order_and_the_users_names() -> None:
    first, second = two_views(6, 3)
    users = torch.tensor([0, 1, 0, 2, 2, 0])
    loss = user_contrastive_loss(first, second, users, 0.3)
    torch.testing.assert_close(user_contrastive_loss(second, first, users, 0.3), loss)
    torch.testing.assert_close(user_contrastive_loss(4 * first, second / 9, users, 0.3), loss)
    torch.testing.assert_close(user_contrastive_loss(first, second, 100 - users, 0.3), loss)
    order = torch.randperm(6)
    shuffled = user_contrastive_loss(first[order], second[order], users[order], 0.3)
    torch.testing.assert_close(shuffled, loss)


def test_pulls_a_users_outfits_together() -> None:
    """Two users, two outfits each: one direction per user is better than one per outfit."""
    users = torch.tensor([0, 0, 1, 1])
    by_user, by_outfit = torch.eye(4)[users], torch.eye(4)
    together = user_contrastive_loss(by_user, by_user, users, 0.5).item()
    apart = user_contrastive_loss(by_outfit, by_outfit, users, 0.5).item()
    # Of seven others three are at 1 and four at 0.
    assert together == pytest.approx(math.log(3 + 4 * math.exp(-2)), rel=1e-6)
    assert together < apart
    assert nt_xent_loss(by_outfit, by_outfit, 0.5) < nt_xent_loss(by_user, by_user, 0.5)


@pytest.mark.parametrize(
    ("first", "second", "users", "temperature"),
    [
        (torch.ones(2, 3), torch.ones(2, 3), torch.zeros(2), 0.0),
        (torch.ones(2, 3), torch.ones(3, 3), torch.zeros(2), 0.1),
        (torch.ones(0, 3), torch.ones(0, 3), torch.zeros(0), 0.1),
        (torch.ones(2, 3), torch.ones(2, 3), torch.zeros(3), 0.1),
        (torch.ones(2, 3), torch.ones(2, 3), torch.zeros(2, 1), 0.1),
    ],
)
def test_bad_arguments_are_refused(
    first: torch.Tensor, second: torch.Tensor, users: torch.Tensor, temperature: float
) -> None:
    with pytest.raises(ValueError, match="must be"):
        user_contrastive_loss(first, second, users, temperature)
