import math

import pytest
import torch
from torch import Tensor

from recjob.model.set_transformer import AttentionBlock, MultiHeadAttention, SetTransformer


def slow_attention(layer: MultiHeadAttention, queries: Tensor, items: Tensor) -> Tensor:
    """Eq. 1 to 3 head by head for one outfit, queries `(Q, d)`, items `(M, d)`."""
    heads, dim = layer.heads, queries.shape[1]
    width = dim // heads
    maps = []
    for h in range(heads):
        rows = slice(h * width, (h + 1) * width)
        q = queries @ layer.query.weight[rows].T
        k = items @ layer.key.weight[rows].T
        v = items @ layer.value.weight[rows].T
        maps.append(torch.softmax(q @ k.T / math.sqrt(width), dim=1) @ v)
    return torch.cat(maps, dim=1) @ layer.mix.weight.T


@torch.no_grad()
def test_multi_head_attention_is_equations_1_to_3() -> None:
    torch.manual_seed(0)
    layer = MultiHeadAttention(16, 4).double()
    queries, items = torch.randn(3, 16).double(), torch.randn(5, 16).double()
    everything = torch.ones(1, 5, dtype=torch.bool)
    torch.testing.assert_close(
        layer(queries[None], items[None], everything)[0], slow_attention(layer, queries, items)
    )


@torch.no_grad()
def test_blocks_and_pooling_are_equations_4_to_8() -> None:
    torch.manual_seed(1)
    model = SetTransformer(16, 4).double()
    items = torch.randn(5, 16).double()

    def block(layer: AttentionBlock, x: Tensor, y: Tensor) -> Tensor:
        hidden = layer.attention_norm(x + slow_attention(layer.attention, x, y))
        fed = torch.relu(hidden @ layer.feed_forward.weight.T + layer.feed_forward.bias)
        normed: Tensor = layer.feed_forward_norm(hidden + fed)
        return normed

    x = items
    for layer in model.blocks:
        assert isinstance(layer, AttentionBlock)
        x = block(layer, x, x)
    expected = block(model.pooling, model.seed[None], x)[0]
    everything = torch.ones(1, 5, dtype=torch.bool)
    torch.testing.assert_close(model(items[None], everything)[0], expected)


def test_heads_must_divide_the_dimension() -> None:
    with pytest.raises(ValueError, match="multiple"):
        MultiHeadAttention(10, 4)
