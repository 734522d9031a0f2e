"""The losses of the paper, and the one that its Sec. 5 proposes, one per file."""

from recjob.model.losses.bpr import bpr_loss
from recjob.model.losses.fnd import false_negativeness, fnd_loss
from recjob.model.losses.n_pair import n_pair_loss
from recjob.model.losses.nt_xent import nt_xent_loss
from recjob.model.losses.user_contrastive import user_contrastive_loss

__all__ = [
    "bpr_loss",
    "false_negativeness",
    "fnd_loss",
    "n_pair_loss",
    "nt_xent_loss",
    "user_contrastive_loss",
]
