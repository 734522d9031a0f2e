"""The losses of the paper, one per file."""

from recjob.model.losses.bpr import bpr_loss
from recjob.model.losses.fnd import false_negativeness, fnd_loss
from recjob.model.losses.n_pair import n_pair_loss
from recjob.model.losses.nt_xent import nt_xent_loss

__all__ = ["bpr_loss", "false_negativeness", "fnd_loss", "n_pair_loss", "nt_xent_loss"]
