"""Set Transformer: from item features to one outfit vector (Sec. 3.1.1, Eq. 1 to 8).

It follows the paper where the Set Transformer authors' own code differs: the residual is the raw
input, the scale is per head, and heads are concatenated before W_M.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional


class MultiHeadAttention(nn.Module):
    """Eq. 1 to 3: W_Q, W_K, W_V, W_M without bias, `heads` maps of width d / heads."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        if dim % heads:
            raise ValueError(f"dim {dim} is not a multiple of heads {heads}")
        self.heads = heads
        self.query = nn.Linear(dim, dim, bias=False)
        self.key = nn.Linear(dim, dim, bias=False)
        self.value = nn.Linear(dim, dim, bias=False)
        self.mix = nn.Linear(dim, dim, bias=False)

    def forward(self, queries: Tensor, items: Tensor, mask: Tensor) -> Tensor:
        """`(B, Q, d)` attends to `(B, M, d)` where `mask (B, M)` is True; returns `(B, Q, d)`."""
        batch, n_queries, dim = queries.shape
        head_dim = dim // self.heads

        def split(x: Tensor) -> Tensor:  # (B, L, d) -> (B, h, L, d / h)
            return x.view(batch, -1, self.heads, head_dim).transpose(1, 2)

        attended = functional.scaled_dot_product_attention(
            split(self.query(queries)),
            split(self.key(items)),
            split(self.value(items)),
            attn_mask=mask[:, None, None, :],
        )
        mixed: Tensor = self.mix(attended.transpose(1, 2).reshape(batch, n_queries, dim))
        return mixed


class AttentionBlock(nn.Module):
    """LayerNorm(x + MultiHead), then LayerNorm(h + sigma(h)): the body of Eq. 4, 5, 7 and 8."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.attention = MultiHeadAttention(dim, heads)
        self.attention_norm = nn.LayerNorm(dim)
        self.feed_forward = nn.Linear(dim, dim)
        self.feed_forward_norm = nn.LayerNorm(dim)

    def forward(self, queries: Tensor, items: Tensor, mask: Tensor) -> Tensor:
        """`(B, Q, d)` and `(B, M, d)` with `mask (B, M)` to `(B, Q, d)`."""
        hidden = self.attention_norm(queries + self.attention(queries, items, mask))
        output: Tensor = self.feed_forward_norm(hidden + functional.relu(self.feed_forward(hidden)))
        return output


class SetTransformer(nn.Module):
    """Two set attention blocks (Eq. 6) and pooling by a learned seed (Eq. 7, 8).

    Order-free, and padding has no influence: masked places are never attended to.
    """

    def __init__(self, dim: int = 128, heads: int = 8, blocks: int = 2) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(AttentionBlock(dim, heads) for _ in range(blocks))
        self.pooling = AttentionBlock(dim, heads)
        self.seed = nn.Parameter(torch.empty(dim))
        nn.init.normal_(self.seed, std=dim**-0.5)

    def forward(self, items: Tensor, mask: Tensor) -> Tensor:
        """Outfit vectors `(B, d)` of item features `(B, M, d)`; `mask (B, M)` True = item.

        Every outfit needs at least one item.
        """
        for block in self.blocks:
            items = block(items, items, mask)
        seed = self.seed.expand(items.shape[0], 1, -1)
        pooled: Tensor = self.pooling(seed, items, mask)
        return pooled.squeeze(1)
