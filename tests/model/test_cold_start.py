import math

import pytest
import torch
from torch import Tensor

from recjob.model import cold_start
from recjob.model.cold_start import cold_start_vectors


def cosine(a: Tensor, b: Tensor) -> float:
    return float(a @ b / (a.norm() * b.norm()))


def paper_score(
    users: Tensor, own: Tensor, outfit: Tensor, strategy: str, threshold: float, temperature: float
) -> float:
    """Eq. 20 to 24 for one newcomer and one outfit, as they are written."""
    s = [sum(cosine(u, o) for o in own) / len(own) for u in users]  # Eq. 20
    best = max(range(len(users)), key=lambda i: s[i])
    near = [i for i in range(len(users)) if s[i] > threshold or i == best]  # Eq. 21
    r = [cosine(u, outfit) for u in users]
    if strategy == "avg":
        return sum(r[i] for i in near) / len(near)  # Eq. 22
    total = sum(math.exp(s[i] / temperature) for i in near)
    return sum(math.exp(s[i] / temperature) / total * r[i] for i in near)  # Eq. 23, 24


@pytest.fixture
def case() -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    users = torch.randn(50, 8, generator=generator, dtype=torch.float64)
    outfits = torch.randn(9, 8, generator=generator, dtype=torch.float64)
    return users, outfits, torch.tensor([0, 1, 1, 2, 2, 2, 3, 3, 0])


@pytest.mark.parametrize("strategy", ["avg", "w-avg"])
@pytest.mark.parametrize("threshold", [-1.0, 0.0, 0.35, 2.0])
@pytest.mark.parametrize("block", [7, 1000])
def test_scores_are_the_papers(
    case: tuple[Tensor, Tensor, Tensor],
    strategy: str,
    threshold: float,
    block: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(cold_start, "USER_BLOCK", block)
    monkeypatch.setattr(cold_start, "COLD_BLOCK", 3)
    users, outfits, owner = case
    vectors = cold_start_vectors(users, outfits, owner, 4, strategy, threshold, 0.2)  # type: ignore[arg-type]
    candidates = torch.randn(5, 8, generator=torch.Generator().manual_seed(1)).double()
    for newcomer in range(4):
        own = outfits[owner == newcomer]
        for outfit in candidates:
            expected = paper_score(users, own, outfit, strategy, threshold, 0.2)
            got = float(vectors[newcomer] @ (outfit / outfit.norm()))
            assert got == pytest.approx(expected, abs=1e-12)


def test_vectors_are_not_normalised_and_no_longer_than_one(
    case: tuple[Tensor, Tensor, Tensor],
) -> None:
    users, outfits, owner = case
    lengths = cold_start_vectors(users, outfits, owner, 4).norm(dim=1)
    assert (lengths < 0.99).all()
    alone = cold_start_vectors(users, outfits, owner, 4, threshold=2.0).norm(dim=1)
    torch.testing.assert_close(alone, torch.ones(4).double())


def test_a_tiny_temperature_follows_the_most_similar_user_without_nan(
    case: tuple[Tensor, Tensor, Tensor],
) -> None:
    users, outfits, owner = (x.float() if x.is_floating_point() else x for x in case)
    sharp = cold_start_vectors(users, outfits, owner, 4, temperature=1e-5)
    nearest = cold_start_vectors(users, outfits, owner, 4, threshold=2.0)
    torch.testing.assert_close(sharp, nearest)


def test_memory_does_not_grow_with_the_number_of_users(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[int] = []
    original = torch.nn.functional.normalize

    def watch(x: Tensor, *args: object, **kwargs: object) -> Tensor:
        seen.append(len(x))
        return original(x, *args, **kwargs)  # type: ignore[arg-type]

    monkeypatch.setattr(cold_start, "USER_BLOCK", 100)
    monkeypatch.setattr(torch.nn.functional, "normalize", watch)
    cold_start_vectors(torch.randn(1000, 4), torch.randn(2, 4), torch.tensor([0, 1]), 2)
    assert max(seen) <= 100


@pytest.mark.parametrize(
    ("users", "outfits", "owner", "n_cold", "message"),
    [
        (torch.ones(2, 4), torch.ones(2, 4), torch.tensor([0, 0]), 2, "newcomer 1 has no outfits"),
        (torch.ones(2, 4), torch.ones(0, 4), torch.zeros(0), 1, "newcomer 0 has no outfits"),
        (torch.ones(2, 4), torch.ones(1, 4), torch.tensor([1]), 1, "owner"),
        (torch.ones(2, 4), torch.ones(1, 4), torch.tensor([0, 0]), 1, "owner"),
        (torch.ones(0, 4), torch.ones(1, 4), torch.tensor([0]), 1, "user_vectors"),
        (torch.ones(2, 4), torch.ones(1, 5), torch.tensor([0]), 1, "outfit_vectors"),
    ],
)
def test_bad_arguments_are_refused(
    users: Tensor, outfits: Tensor, owner: Tensor, n_cold: int, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        cold_start_vectors(users, outfits, owner, n_cold)


def test_inputs_of_two_precisions_meet_in_the_finer_one(
    case: tuple[Tensor, Tensor, Tensor],
) -> None:
    users, outfits, owner = case
    mixed = cold_start_vectors(users.float(), outfits, owner, 4)
    assert mixed.dtype == torch.float64
    torch.testing.assert_close(
        mixed, cold_start_vectors(users, outfits, owner, 4), atol=1e-6, rtol=0
    )
