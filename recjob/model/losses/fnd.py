"""False Negative Distillation (Sec. 3.2.2, Eq. 11 to 16), the student's objective."""

from __future__ import annotations

from torch import Tensor

from recjob.model.losses.checks import check_scores, check_temperature
from recjob.model.losses.n_pair import positive_cross_entropy


def false_negativeness(user_mean: Tensor, negative: Tensor, alpha: float) -> Tensor:
    """d_ijk = alpha (mean score of the user's positives - score of the negative) (Eq. 11, 12).

    Below zero the teacher holds the negative for a false one, and the student is pulled to it.

    Args:
        user_mean: `(N,)` mean teacher score of the training positives of each row's user (Eq. 11).
        negative: `(N, K)` teacher scores of the negatives.
        alpha: scale, above 0. It has the scale of the teacher's scores: in units of the teacher's
            mean gap between positives and random outfits, 1 makes d average 1.

    Raises:
        ValueError: on other shapes, or an alpha that is not above 0.
    """
    if not alpha > 0:
        raise ValueError(f"alpha must be > 0, got {alpha}")
    check_scores(user_mean, negative)
    return alpha * (user_mean[:, None] - negative)


def fnd_loss(
    positive: Tensor,
    negative: Tensor,
    false_negativeness: Tensor,
    temperature: float,
    valid: Tensor | None = None,
) -> Tensor:
    """N-pair loss whose negatives are scaled by their false-negativeness (Eq. 13, 14).

    The gradient towards a negative's score has the sign of its d (Eq. 16). With d = 1 everywhere
    it is the N-pair loss.

    Args:
        positive: `(N,)` student scores r_ij.
        negative: `(N, K)` student scores r_ijk.
        false_negativeness: `(N, K)` d_ijk from the frozen teacher.
        temperature: tau_FND, above 0.
        valid: `(N, K)` bool; False leaves a negative out, after the factor d was applied.

    Raises:
        ValueError: on other shapes, or a temperature that is not above 0.
    """
    check_temperature(temperature)
    check_scores(positive, negative, valid)
    if false_negativeness.shape != negative.shape:
        raise ValueError(
            f"false_negativeness must be {tuple(negative.shape)} like negative, "
            f"got {tuple(false_negativeness.shape)}"
        )
    scaled = false_negativeness * negative / temperature
    return positive_cross_entropy(positive / temperature, scaled, valid)
