# mypy: disable-error-code="untyped-decorator, no-untyped-def, import-untyped"
"""The four Triton kernels of the exact top-K; `triton_top_k` says how they fit together.

In the interpreter (TRITON_INTERPRET=1) they run on the CPU, one program after the other. What
they are given is padded, so that no kernel masks a load of vectors: rows of users to a multiple of
`block_rows`, outfits to a multiple of `block_columns`, both with zeros.
"""

import triton
import triton.language as tl

WORD_BITS = tl.constexpr(32)
"""Outfits per word: a tile's hits leave the registers as bit words, 32 places in one number."""


@triton.jit(do_not_specialize=["n_outfits", "first_tile", "last_tile", "n_tiles", "capacity"])
def scan_tiles(
    users,
    outfits,
    lines,
    barred,
    words,
    counts,
    n_outfits,
    first_tile,
    last_tile,
    n_tiles,
    capacity,
    width: tl.constexpr,
    chunk: tl.constexpr,
    block_rows: tl.constexpr,
    block_columns: tl.constexpr,
    has_barred: tl.constexpr,
):
    """Product, mask and selection of a block of users and every `splits`-th tile of outfits.

    A score stays in registers: compared with its user's line it becomes one bit, and only words
    with a bit set are written, `(word << 32) | bits`, in ascending order, to the user's places
    `(rows, splits, capacity)`. `counts (rows, splits)` goes on counting where the places are full.

    Args:
        users: `(rows, width)` float16; `outfits`: `(tiles * block_columns, width)` float16.
        lines: `(rows,)` float32, the least score that is a hit.
        barred: what a user must not get, laid out as `bar_pairs` writes it.
        n_outfits: real outfits, without padding.
    """
    block = tl.program_id(0)
    split = tl.program_id(1)
    splits = tl.num_programs(1)
    tile_words: tl.constexpr = block_columns // WORD_BITS
    row = tl.arange(0, block_rows)
    column = tl.arange(0, block_columns)
    dimension = tl.arange(0, chunk)
    word = tl.arange(0, tile_words)
    bit = tl.full((block_columns,), 1, tl.int32) << (column % WORD_BITS)
    rows = block * block_rows + row
    line = tl.load(lines + rows)
    user_places = users + rows[:, None] * width + dimension[None, :]
    # Read transposed, as the right operand of the product.
    outfit_places = outfits + column[None, :] * width + dimension[:, None]
    own_words = words + (rows.to(tl.int64) * splits + split) * capacity
    count = tl.zeros((block_rows,), tl.int32)
    if width == chunk:
        user_vectors = tl.load(user_places)
    for tile in range(first_tile + split, last_tile, splits):
        places = outfit_places + tl.cast(tile, tl.int64) * (block_columns * width)
        if width == chunk:
            scores = tl.dot(user_vectors, tl.load(places))
        else:
            scores = tl.zeros((block_rows, block_columns), tl.float32)
            for start in range(0, width, chunk):
                scores = tl.dot(tl.load(user_places + start), tl.load(places + start), scores)
        hits = tl.where(scores >= line[:, None], bit[None, :], 0)
        # The bits of a word differ, so their sum, modulo 2 ** 32, is their union.
        found = tl.sum(tl.reshape(hits, (block_rows, tile_words, WORD_BITS)), axis=2)
        left = n_outfits - tile * block_columns - word * WORD_BITS
        real = tl.where(left >= WORD_BITS, -1, (1 << tl.minimum(tl.maximum(left, 0), 31)) - 1)
        found = found & real[None, :]
        if has_barred:
            bars = barred + (tl.cast(block, tl.int64) * n_tiles + tile) * (block_rows * tile_words)
            found = found & ~tl.load(bars + row[:, None] * tile_words + word[None, :])
        filled = (found != 0).to(tl.int32)
        slot = count[:, None] + tl.cumsum(filled, axis=1) - filled
        number = word.to(tl.int64) + tl.cast(tile, tl.int64) * tile_words
        entry = (number << WORD_BITS)[None, :] | (found.to(tl.int64) & 0xFFFFFFFF)
        tl.store(own_words[:, None] + slot, entry, mask=(found != 0) & (slot < capacity))
        count += tl.sum(filled, axis=1)
    tl.store(counts + rows * splits + split, count)


@triton.jit(do_not_specialize=["n_pairs", "n_tiles"])
def bar_pairs(
    barred,
    rows,
    columns,
    n_pairs,
    n_tiles,
    block_rows: tl.constexpr,
    block_columns: tl.constexpr,
    block: tl.constexpr,
):
    """Set the bits of the pairs `rows, columns (n_pairs,)` in `barred`, repeated pairs too.

    `barred (rows / block_rows, n_tiles, block_rows, block_columns / 32)` int32: what one program
    of `scan_tiles` needs for a tile lies in one piece.
    """
    pair = tl.program_id(0).to(tl.int64) * block + tl.arange(0, block)
    there = pair < n_pairs
    row = tl.load(rows + pair, mask=there, other=0)
    column = tl.load(columns + pair, mask=there, other=0)
    piece = (row // block_rows).to(tl.int64) * n_tiles + column // block_columns
    place = piece * block_rows + row % block_rows
    place = place * (block_columns // WORD_BITS) + column % block_columns // WORD_BITS
    bit = tl.full((block,), 1, tl.int32) << (column % WORD_BITS).to(tl.int32)
    tl.atomic_or(barred + place, bit, mask=there, sem="relaxed")


@triton.jit(do_not_specialize=["n_words"])
def list_bits(words, starts, columns, n_words, block: tl.constexpr):
    """Write the outfits of each of `words (n_words,)`, ascending, from `starts (n_words,)` on."""
    number = tl.program_id(0).to(tl.int64) * block + tl.arange(0, block)
    there = number < n_words
    entry = tl.load(words + number, mask=there, other=0)
    place = tl.load(starts + number, mask=there, other=0)
    first = (entry >> WORD_BITS) * WORD_BITS
    for bit in range(WORD_BITS):
        hit = (entry >> bit) & 1
        tl.store(columns + place, (first + bit).to(tl.int32), mask=hit != 0)
        place += hit


@triton.jit(do_not_specialize=["n_pairs"])
def score_pairs(
    users,
    outfits,
    rows,
    columns,
    scores,
    n_pairs,
    leaves: tl.constexpr,
    levels: tl.constexpr,
    block: tl.constexpr,
):
    """Scores `(n_pairs,)` float64 of pairs, summed as a fixed tree.

    `users (R, leaves)` and `outfits (N, leaves)` float32 lie in the order of `leaf_order`: each
    level of the tree adds the second half of what is left to the first. The product of two float32
    numbers is exact in float64, so that a fused multiplication and addition changes nothing.
    """
    pair = tl.program_id(0).to(tl.int64) * block + tl.arange(0, block)
    there = pair < n_pairs
    row = tl.load(rows + pair, mask=there, other=0).to(tl.int64)
    column = tl.load(columns + pair, mask=there, other=0).to(tl.int64)
    leaf = tl.arange(0, leaves)
    left = tl.load(users + row[:, None] * leaves + leaf[None, :])
    right = tl.load(outfits + column[:, None] * leaves + leaf[None, :])
    sums = left.to(tl.float64) * right.to(tl.float64)
    for level in tl.static_range(levels):
        halves = tl.reshape(sums, (block, 2, leaves >> (level + 1)))
        first, second = tl.split(tl.permute(halves, (0, 2, 1)))
        sums = first + second
    tl.store(scores + pair, tl.reshape(sums, (block,)), mask=there)
