"""The user-outfit space of the teacher (Fig. 1 and 8): who is shown, what is judged, and where."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from recjob.catalog.catalog import BoolArray, Float32Array, Int32Array, Int64Array
from recjob.catalog.negatives import KnownPositives, RandomNegatives
from recjob.catalog.split import Part
from recjob.errors import DataError
from recjob.paper.plots import missing_package
from recjob.training.data import TrainingData

CANDIDATES: Final = 2000
"""Random negatives drawn for each user: their nearest are shown, and all are counted."""
HELD_OUT_SHARE: Final = 1 / 3
"""Of the nearest negatives shown of a user, at most so many are test positives: they are few among
what training draws, and the picture should not be theirs alone."""
CLEAR_SHARE: Final = 0.5
"""Users are chosen from the half whose positives lie nearest to them."""
PERPLEXITY: Final = 30.0
"""Of t-SNE, its authors' middle of the road; less where there are few points."""

Encode = Callable[[Int32Array], Float32Array]
"""Unit vectors `(n, 128)` of outfits `(n, M)` of items."""


@dataclass(frozen=True)
class JudgedNegatives:
    """Negatives, and what the teacher says of each for each shown user (K users, n outfits)."""

    items: Int32Array
    """(n, M) padded."""
    vectors: Float32Array
    """(n, 128)"""
    scores: Float32Array
    """(K, n) r_hat_ijk, cosines."""
    d: Float32Array
    """(K, n) of Eq. 12: below 0, the teacher takes the negative for a false one."""
    in_test: BoolArray
    """(K, n) whether the outfit is a positive of the user's test part."""

    def take(self, rows: Int64Array) -> JudgedNegatives:
        """Only the outfits of `rows`."""
        return JudgedNegatives(
            self.items[rows],
            self.vectors[rows],
            self.scores[:, rows],
            self.d[:, rows],
            self.in_test[:, rows],
        )


@dataclass(frozen=True)
class Space:
    """Everything that Figure 8 shows, with places in the plane."""

    users: Int32Array
    """(K,) catalog users."""
    user_xy: NDArray[np.float64]
    """(K, 2)"""
    positives: Int32Array
    """(p, M) items of training positives."""
    owner: Int64Array
    """(p,) place in `users` of the one who likes it."""
    positive_xy: NDArray[np.float64]
    """(p, 2)"""
    negatives: JudgedNegatives
    """What is shown."""
    negative_xy: NDArray[np.float64]
    """(n, 2)"""
    candidates: JudgedNegatives
    """All random negatives and test positives that were judged."""
    mean_score: Float32Array
    """(K,) r_hat_i of Eq. 11."""
    alpha: float
    """Of Eq. 12."""


def user_outfit_space(
    data: TrainingData,
    encode: Encode,
    user_vectors: Float32Array,
    n_users: int,
    n_outfits: int,
    n_nearest: int,
    alpha_relative: float,
    seed: int,
) -> Space:
    """The space around a few users.

    Args:
        data: whose training positives and held-out test positives are shown.
        encode: the teacher's outfit vectors.
        user_vectors: `(n_warm, 128)` the teacher's unit vectors of `data.users`.
        n_users: users shown.
        n_outfits: positives, and as many negatives, of each user.
        n_nearest: so many of the negatives are the nearest of many; the others are random ones.
        alpha_relative: alpha of Eq. 12 in units of the gap between the shown users' positives and
            random outfits.
        seed: of the draws and of t-SNE.

    Raises DataError where fewer than `n_users` users are to be had, UserError where scikit-learn is
    missing.
    """
    catalog = data.catalog
    all_positives = data.training_positives
    rows = data.model_row[all_positives[:, 0]].astype(np.int64)
    all_vectors = encode(catalog.outfit_items[all_positives[:, 1]])
    means = positive_means(user_vectors, all_vectors, rows)
    counts = np.bincount(rows, minlength=len(user_vectors)).astype(np.int64)
    chosen = separated_users(user_vectors, means, counts, n_users, n_outfits)
    rng = np.random.default_rng([seed, 8])
    owned = [np.flatnonzero(rows == row) for row in chosen]
    shown = np.concatenate([rng.permutation(own)[:n_outfits] for own in owned])
    place = np.full(len(user_vectors), -1, np.int64)
    place[chosen] = np.arange(chosen.size)

    like = np.concatenate([rng.choice(own, CANDIDATES) for own in owned])
    draws = RandomNegatives(catalog, all_positives[:, 1])
    random = draws.draw(all_positives[like, 1], rng)
    held_out = data.positives_of(Part.TEST)
    held_out = held_out[np.isin(held_out[:, 0], data.users[chosen])]
    items = np.concatenate([random, catalog.outfit_items[held_out[:, 1]]])
    vectors = encode(items)
    scores = user_vectors[chosen] @ vectors.T
    gap = float(means[chosen].mean() - scores[:, : len(random)].mean())
    alpha = alpha_relative / gap if gap > 0 else alpha_relative
    tested = KnownPositives(replace(catalog, positives=held_out))
    candidates = JudgedNegatives(
        items,
        vectors,
        scores,
        false_negativeness(means[chosen], scores, alpha),
        tested.contains_all(data.users[chosen], items),
    )
    negatives = candidates.take(
        shown_negatives(candidates, len(random), n_nearest, max(n_outfits - n_nearest, 0))
    )
    xy = plane(np.concatenate([user_vectors[chosen], all_vectors[shown], negatives.vectors]), seed)
    first = chosen.size + shown.size
    return Space(
        users=data.users[chosen],
        user_xy=xy[: chosen.size],
        positives=catalog.outfit_items[all_positives[shown, 1]],
        owner=place[rows[shown]],
        positive_xy=xy[chosen.size : first],
        negatives=negatives,
        negative_xy=xy[first:],
        candidates=candidates,
        mean_score=means[chosen],
        alpha=alpha,
    )


def positive_means(
    user_vectors: Float32Array, outfit_vectors: Float32Array, owner: Int64Array
) -> Float32Array:
    """`(n_users,)` each user's mean score of their own outfits (Eq. 11); 0 where they have none.

    `owner (n,)` is the user of each of `outfit_vectors (n, d)`.
    """
    own = np.einsum("nd,nd->n", user_vectors[owner], outfit_vectors)  # n: outfit, d: dimension
    n_users = len(user_vectors)
    counts = np.maximum(np.bincount(owner, minlength=n_users), 1)
    return (np.bincount(owner, own, minlength=n_users) / counts).astype(np.float32)


def false_negativeness(mean: Float32Array, scores: Float32Array, alpha: float) -> Float32Array:
    """d of Eq. 12, `(K, n)`, of negatives with `scores (K, n)` for users with `mean (K,)`."""
    return (alpha * (mean[:, None] - scores)).astype(np.float32)


def separated_users(
    vectors: Float32Array, means: Float32Array, counts: Int64Array, wanted: int, least: int
) -> Int64Array:
    """`(wanted,)` users who lie far from each other, the same for the same vectors.

    Candidates are the users with `least` positives or more (or, where these are fewer than wanted,
    those with the most), and of them the half with the largest mean score of their positives: users
    whom the teacher knows. The first two are the pair with the smallest cosine, each next one has
    the smallest largest cosine to those before.

    Args:
        vectors: `(n, d)` unit user vectors.
        means: `(n,)` mean scores of the users' positives (Eq. 11).
        counts: `(n,)` the users' positives.
        wanted: users to choose.
        least: positives that a user should have.

    Raises DataError where fewer than `wanted` users have positives.
    """
    some = np.flatnonzero(counts > 0)
    if some.size < wanted:
        raise DataError(
            f"figure 8 shows {wanted} users, and the data have {some.size} with training positives;"
            " lower paper.figure8_users"
        )
    enough = some[counts[some] >= least]
    if enough.size < wanted:
        enough = some[np.argsort(-counts[some], kind="stable")[:wanted]]
    keep = max(wanted, round(CLEAR_SHARE * enough.size))
    known = np.sort(enough[np.argsort(-means[enough], kind="stable")[:keep]])
    cosines = vectors[known] @ vectors[known].T
    if wanted == 1:
        return known[[int(means[known].argmax())]]
    np.fill_diagonal(cosines, np.inf)
    chosen = list(np.unravel_index(int(cosines.argmin()), cosines.shape))
    while len(chosen) < wanted:
        nearest = cosines[:, chosen].max(axis=1)
        chosen.append(np.intp(nearest.argmin()))
    return known[np.sort(chosen)]


def shown_negatives(
    judged: JudgedNegatives, n_random: int, n_nearest: int, n_others: int
) -> Int64Array:
    """Rows of the negatives to show: for each user the nearest, then random ones.

    Args:
        judged: the candidates: `n_random` random negatives, the same number for each user, then
            test positives.
        n_random: see above.
        n_nearest: nearest negatives of each user. At most `HELD_OUT_SHARE` of them are outfits of
            the user's own test part, with d < 0.
        n_others: further random negatives of each user.
    """
    n_users = len(judged.d)
    per_user = n_random // n_users
    is_random = np.arange(judged.d.shape[1]) < n_random
    taken: list[Int64Array] = []
    for user in range(n_users):
        order = np.argsort(judged.d[user], kind="stable")
        false = judged.in_test[user, order] & (judged.d[user, order] < 0)
        held_out = order[false][: int(HELD_OUT_SHARE * n_nearest)]
        nearest = order[is_random[order] & ~judged.in_test[user, order]]
        first = user * per_user
        taken += [
            held_out,
            nearest[: n_nearest - held_out.size],
            np.arange(first, min(first + n_others, first + per_user)),
        ]
    return np.unique(np.concatenate(taken))


def plane(vectors: Float32Array, seed: int) -> NDArray[np.float64]:
    """`(n, 2)` places by t-SNE over cosine distances; the wider direction lies on the first axis.

    The exact method: the faster one sums in an order that depends on the threads. Raises UserError
    where scikit-learn is missing.
    """
    try:
        from sklearn.manifold import TSNE
    except ModuleNotFoundError as error:
        raise missing_package(error) from None
    found = TSNE(
        n_components=2,
        perplexity=min(PERPLEXITY, (len(vectors) - 1) / 3),
        metric="cosine",
        init="pca",
        method="exact",
        random_state=seed,
    ).fit_transform(vectors.astype(np.float64))
    centred = found - found.mean(axis=0)
    _, _, axes = np.linalg.svd(centred, full_matrices=False)
    axes *= np.sign(axes[np.arange(2), np.abs(axes).argmax(axis=1)])[:, None]
    return np.asarray(centred @ axes.T)
