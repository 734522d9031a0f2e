"""Whether the GPU engine gives the right answers on this machine: tried once per process."""

from __future__ import annotations

import logging
from functools import cache
from typing import Final

import numpy as np

from recjob.ranking.blocks import Exclusions
from recjob.ranking.torch_top_k import torch_top_k

TRIAL_SHAPE: Final = (64, 4096, 128)
"""Users, outfits and width of the trial: several tiles, and milliseconds."""
TRIAL_K: Final = 20

log = logging.getLogger(__name__)


@cache
def gpu_engine_works() -> bool:
    """True where the Triton engine compiles here and agrees with the CPU to the last bit.

    A driver, a GPU or a version of Triton that it does not get on with costs speed, not the night.
    """
    n_users, n_outfits, width = TRIAL_SHAPE
    rng = np.random.default_rng(0)
    users = rng.normal(size=(n_users, width)).astype(np.float32)
    outfits = rng.normal(size=(n_outfits, width)).astype(np.float32)
    outfits[1::7] = outfits[0]  # ties
    allowed = rng.random(n_outfits) < 0.9
    indptr = np.arange(n_users + 1)
    seen = rng.integers(0, n_outfits, n_users)
    try:
        from recjob.ranking.triton_top_k import triton_top_k

        found = triton_top_k(users, outfits, TRIAL_K, (indptr, seen), allowed)
    except Exception as error:  # noqa: BLE001 (whatever a compiler or driver raises)
        lines = str(error).splitlines() or [type(error).__name__]
        log.warning("the GPU's top-K engine does not run here (%s); the CPU scores", lines[0])
        return False
    expected = torch_top_k(users, outfits, TRIAL_K, Exclusions(indptr, seen), allowed)
    if np.array_equal(found[0], expected[0]) and np.array_equal(found[1], expected[1]):
        return True
    log.warning("the GPU's top-K engine gives other lists than the CPU's here; the CPU scores")
    return False
