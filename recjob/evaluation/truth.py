"""Does d < 0 point at outfits that a user truly likes? The paper's central claim, measured.

d (Eq. 12) says how far a random outfit is, in the teacher's eyes, from what the user likes. Where
the true liking is known (simulated users), the outfits with d < 0 are held against it. Where it is
not, what users posted later stands in for it: by Bayes,

    P(liked | d < 0) / P(liked) = P(d < 0 | liked) / P(d < 0),

and the right side needs only held-out positives and random outfits, as far as what users post is a
fair sample of what they like.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from recjob.catalog.catalog import PADDING, BoolArray, Catalog, Float32Array, Int32Array
from recjob.catalog.negatives import RandomNegatives
from recjob.evaluation.bootstrap import Bootstrap, Interval
from recjob.inference.embedding import embed_outfits
from recjob.inference.engine import Engine

NEGATIVES_PER_USER: Final = 1_000
"""Random outfits judged for each user: with d < 0 for a few of a hundred, a hundred users give
thousands of outfits to hold against the truth."""
MOST_NEGATIVES: Final = 2**20
"""Of all users together (one each at least), so that shops of any size take minutes."""
OUTFITS_PER_BLOCK: Final = 65_536
"""Outfit vectors held at once (32 MiB)."""
DECILES: Final = 10


@dataclass(frozen=True)
class TeacherView:
    """A teacher that has seen every picture."""

    engine: Engine
    features: Float32Array
    """(n_items, 128) item features."""
    user_vectors: Float32Array
    """(n, 128) unit vectors."""
    row: Int32Array
    """(n_users,) row of `user_vectors` of each catalog user, -1 for users without a vector."""


@dataclass(frozen=True)
class Judged:
    """Outfits in the teacher's eyes."""

    users: Int32Array
    """(n,) catalog users."""
    items: Int32Array
    """(n, max_items) padded."""
    score: Float32Array
    """(n,) r_hat_ijk, the teacher's score."""
    margin: Float32Array
    """(n,) r_hat_i - r_hat_ijk: d of Eq. 12 for alpha = 1."""

    @property
    def gap(self) -> float:
        """Mean margin; of random outfits it is what `student.alpha_relative` counts in."""
        return float(self.margin.mean())


@dataclass(frozen=True)
class Decile:
    """A tenth of the outfits, by d."""

    lowest_d: float
    highest_d: float
    liked: float
    """Share that their users truly like."""


@dataclass(frozen=True)
class Hits:
    """d < 0 held against the truth. What has no answer (no d < 0, nothing liked) is None."""

    users: int
    negatives: int
    base_rate: float
    """Share of all random outfits that their users truly like."""
    below_zero: float
    """Share with d < 0."""
    hit_rate: float | None
    """Share of those with d < 0 that their users truly like."""
    lift: float | None
    """hit_rate / base_rate."""
    lift_interval: Interval | None
    """By resampling users."""
    recall: float | None
    """Share of the truly liked that have d < 0."""
    deciles: tuple[Decile, ...]
    """From the lowest d (most like the user's taste) up."""


@dataclass(frozen=True)
class HeldOutLift:
    """The same lift, estimated without the truth from held-out positives."""

    positives: int
    held_out_below_zero: float
    """Share of the held-out positives with d < 0."""
    random_below_zero: float
    """Share of the random outfits with d < 0."""
    lift: float | None
    lift_interval: Interval | None


def judge_random_outfits(
    teacher: TeacherView, catalog: Catalog, training: Int32Array, seed: int, batch_size: int
) -> Judged:
    """Random outfits for every user of `training`, drawn as distillation draws its negatives.

    Args:
        teacher: whose d is asked.
        catalog: of the features' items.
        training: `(n, 2)` training positives (catalog user, outfit); users without a vector are
            left out.
        seed: of the draws.
        batch_size: outfits per call of the engine.
    """
    training = training[teacher.row[training[:, 0]] >= 0]
    users = np.unique(training[:, 0])
    each = min(NEGATIVES_PER_USER, max(1, MOST_NEGATIVES // max(users.size, 1)))
    rng = np.random.default_rng([seed, 37])
    owners = np.repeat(users, each)
    like = training[rng.integers(0, len(training), owners.size), 1]
    items = RandomNegatives(catalog, training[:, 1]).draw(like, rng)
    return judge(teacher, catalog, training, owners, items, batch_size)


def judge(
    teacher: TeacherView,
    catalog: Catalog,
    training: Int32Array,
    users: Int32Array,
    items: Int32Array,
    batch_size: int,
) -> Judged:
    """Scores of outfits `items (n, M)` for catalog users `users (n,)`, who all train (Eq. 11, 12).

    Raises ValueError for a user without a vector or without training positives.
    """
    training = training[teacher.row[training[:, 0]] >= 0]
    own = _scores(teacher, training[:, 0], catalog.outfit_items[training[:, 1]], batch_size)
    count = np.bincount(training[:, 0], minlength=catalog.n_users)
    total = np.bincount(training[:, 0], weights=own, minlength=catalog.n_users)
    if (count[users] == 0).any():
        raise ValueError("a user without a vector or without training positives has no d")
    mean = (total / np.maximum(count, 1)).astype(np.float32)
    score = _scores(teacher, users, items, batch_size)
    return Judged(users, items, score, mean[users] - score)


def hits(judged: Judged, liked: BoolArray, alpha: float, bootstrap: Bootstrap) -> Hits:
    """Hold d < 0 against what each outfit's user truly likes.

    Args:
        judged: random outfits.
        liked: `(n,)` the truth.
        alpha: of Eq. 12 (> 0); only the deciles show d itself.
        bootstrap: of the interval.

    Raises ValueError where nothing was judged.
    """
    if not judged.users.size:
        raise ValueError("no outfit to judge")
    below = judged.margin < 0
    users, owner = np.unique(judged.users, return_inverse=True)
    columns = (np.ones_like(liked), liked, below, below & liked)
    n, n_liked, n_below, n_both = sums = _sums(owner, users.size, columns).T
    base_rate = float(n_liked.sum() / n.sum())
    hit_rate = _ratio(n_both.sum(), n_below.sum())
    resampled = bootstrap.means(sums.T)
    with np.errstate(divide="ignore", invalid="ignore"):
        of_all, of_liked, of_below, of_both = resampled.T
        lifts = (of_both / of_below) / (of_liked / of_all)
    order = np.argsort(judged.margin, kind="stable")
    return Hits(
        users=users.size,
        negatives=judged.users.size,
        base_rate=base_rate,
        below_zero=float(below.mean()),
        hit_rate=hit_rate,
        lift=None if hit_rate is None else _ratio(hit_rate, base_rate),
        lift_interval=bootstrap.interval(lifts),
        recall=_ratio(n_both.sum(), n_liked.sum()),
        deciles=tuple(
            Decile(
                lowest_d=alpha * float(judged.margin[part[0]]),
                highest_d=alpha * float(judged.margin[part[-1]]),
                liked=float(liked[part].mean()),
            )
            for part in np.array_split(order, DECILES)
            if part.size
        ),
    )


def held_out_lift(random: Judged, held_out: Judged, bootstrap: Bootstrap) -> HeldOutLift:
    """The lift of d < 0 by Bayes, from held-out positives and random outfits of the same users.

    Raises ValueError where one of the two is empty.
    """
    if not (random.users.size and held_out.users.size):
        raise ValueError("held-out positives and random outfits are needed")
    users = np.unique(np.concatenate([random.users, held_out.users]))
    sums = []
    for judged in (held_out, random):
        below = judged.margin < 0
        owner = np.searchsorted(users, judged.users)
        sums.append(_sums(owner, users.size, (np.ones_like(below), below)))
    resampled = bootstrap.means(np.concatenate(sums, axis=1))
    with np.errstate(divide="ignore", invalid="ignore"):
        held, held_below, drawn, drawn_below = resampled.T
        lifts = (held_below / held) / (drawn_below / drawn)
    of_held_out = float((held_out.margin < 0).mean())
    of_random = float((random.margin < 0).mean())
    return HeldOutLift(
        positives=held_out.users.size,
        held_out_below_zero=of_held_out,
        random_below_zero=of_random,
        lift=_ratio(of_held_out, of_random),
        lift_interval=bootstrap.interval(lifts),
    )


def _scores(
    teacher: TeacherView, users: Int32Array, items: Int32Array, batch_size: int
) -> Float32Array:
    """Scores `(n,)` of catalog users `(n,)` for outfits `(n, M)` (Eq. 9)."""
    scores = np.empty(len(users), np.float32)
    for start in range(0, len(users), OUTFITS_PER_BLOCK):
        block = slice(start, start + OUTFITS_PER_BLOCK)
        rows = teacher.row[users[block]]
        if (rows == PADDING).any():
            raise ValueError("a user without a vector or without training positives has no d")
        outfits = embed_outfits(teacher.engine, teacher.features, items[block], batch_size)
        scores[block] = np.einsum("nd,nd->n", teacher.user_vectors[rows], outfits)
    return scores


def _sums(
    owner: NDArray[np.int64], n_users: int, columns: tuple[BoolArray, ...]
) -> NDArray[np.float64]:
    """(U, M) how often each of M flags `(n,)` holds for each of the users `owner (n,)`."""
    return np.stack([np.bincount(owner, column, n_users) for column in columns], axis=1)


def _ratio(part: float, whole: float) -> float | None:
    return float(part / whole) if whole > 0 else None
