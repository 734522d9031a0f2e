"""The contract of exact top-K, against a naive float64 version, to the last bit.

Every engine passes every test.
"""

import itertools
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from recjob.ranking import blocks, compiled_top_k, torch_top_k
from recjob.ranking import top_k as facade
from recjob.ranking.exact import tree_sum
from recjob.ranking.top_k import top_k

Csr = tuple[NDArray[np.int64], NDArray[np.int64]]
Result = tuple[NDArray[np.int64], NDArray[np.float32]]

ENGINES = ("torch", "fp32", "bf16")
"""torch: the engine fp32 where nothing is compiled."""
engines = pytest.mark.parametrize("engine", ENGINES)


def run(engine: str, users: NDArray[Any], outfits: NDArray[Any], k: int, **options: Any) -> Result:
    """`top_k` by one engine, compiled or not whatever the size."""
    least_pairs = sys.maxsize if engine == "torch" else 0
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(facade, "PAIRS_WORTH_COMPILING", least_pairs)
        patch.setattr(facade, "PAIRS_WORTH_CALLING", least_pairs)
        name: Any = "fp32" if engine == "torch" else engine
        return top_k(users, outfits, k, engine=name, **options)


def naive(
    users: NDArray[np.float32],
    outfits: NDArray[np.float32],
    k: int,
    exclude: Csr | None = None,
    allowed: NDArray[np.bool_] | None = None,
) -> Result:
    """One user at a time, one sort of all outfits, Python's own exact comparison."""
    indices = np.full((len(users), k), -1, np.int64)
    scores = np.full((len(users), k), -np.inf, np.float32)
    for row, user in enumerate(users):
        products = user.astype(np.float64) * outfits.astype(np.float64)
        with np.errstate(over="ignore"):
            exact = tree_sum(products).astype(np.float32)
        barred = (
            set() if exclude is None else set(exclude[1][exclude[0][row] : exclude[0][row + 1]])
        )
        order = sorted(
            (
                outfit
                for outfit in range(len(outfits))
                if outfit not in barred and (allowed is None or allowed[outfit])
            ),
            key=lambda outfit: (-float(exact[outfit]), outfit),
        )[:k]
        indices[row, : len(order)] = order
        scores[row, : len(order)] = exact[order]
    return indices, scores


def csr(lists: list[list[int]]) -> Csr:
    indptr = np.cumsum([0, *map(len, lists)], dtype=np.int64)
    return indptr, np.array([x for row in lists for x in row], np.int64)


def assert_same(found: Result, expected: Result) -> None:
    np.testing.assert_array_equal(found[0], expected[0])
    np.testing.assert_array_equal(found[1], expected[1])
    assert found[0].dtype == np.int64
    assert found[1].dtype == np.float32


def vectors(seed: int, *shape: int) -> NDArray[np.float32]:
    drawn = np.random.default_rng(seed).normal(size=shape)
    unit: NDArray[np.float32] = (drawn / np.linalg.norm(drawn, axis=-1, keepdims=True)).astype("f")
    return unit


@engines
def test_known_answer_on_a_grid(engine: str) -> None:
    # Outfits stand on a line at 0 .. 9; the user (1, 0) likes the largest, (-1, 0) the smallest.
    outfits = np.stack([np.arange(10), np.zeros(10)], axis=1).astype(np.float32)
    users = np.array([[1, 0], [-1, 0], [2, 5]], np.float32)
    indices, scores = run(engine, users, outfits, 3)
    np.testing.assert_array_equal(indices, [[9, 8, 7], [0, 1, 2], [9, 8, 7]])
    np.testing.assert_array_equal(scores, [[9, 8, 7], [0, -1, -2], [18, 16, 14]])


@engines
def test_ties_go_to_the_lower_index_however_many(engine: str) -> None:
    outfits = np.ones((5000, 4), np.float32)
    outfits[[7, 4000]] = 2
    indices, scores = run(engine, np.ones((3, 4), np.float32), outfits, 6)
    np.testing.assert_array_equal(indices, np.tile([7, 4000, 0, 1, 2, 3], (3, 1)))
    np.testing.assert_array_equal(scores, np.tile([8, 8, 4, 4, 4, 4], (3, 1)))


@engines
def test_near_ties_that_float32_products_cannot_order(engine: str) -> None:
    # All outfits differ from one another in the last bits only: the first pass is of no use.
    base = vectors(0, 1, 128)
    noise = np.random.default_rng(1).integers(-2, 3, (3000, 128)) * 2.0**-26
    outfits = (base + noise).astype(np.float32)
    users = vectors(2, 4, 128)
    assert_same(run(engine, users, outfits, 10), naive(users, outfits, 10))


@engines
def test_duplicated_outfits(engine: str) -> None:
    outfits = np.repeat(vectors(3, 40, 16), 50, axis=0)
    users = vectors(4, 9, 16)
    assert_same(run(engine, users, outfits, 70), naive(users, outfits, 70))


@engines
def test_zero_users_and_zero_outfits(engine: str) -> None:
    users, outfits = vectors(5, 6, 8), vectors(6, 400, 8)
    users[[0, 3]] = 0
    outfits[100:300] = 0
    outfits[:50] = -np.abs(outfits[:50])
    assert_same(run(engine, users, outfits, 250), naive(users, outfits, 250))
    np.testing.assert_array_equal(run(engine, users, outfits, 4)[0][0], [0, 1, 2, 3])
    assert_same(
        run(engine, users, np.zeros_like(outfits), 5), naive(users, np.zeros_like(outfits), 5)
    )


@pytest.mark.parametrize(("user_scale", "outfit_scale"), [(1e30, 1e30), (1e-30, 1e-30), (1e37, 1)])
@engines
def test_vectors_of_any_norm(engine: str, user_scale: float, outfit_scale: float) -> None:
    users = vectors(7, 5, 16) * np.float32(user_scale)
    outfits = vectors(8, 300, 16) * np.float32(outfit_scale)
    outfits[::7] *= np.float32(1e-6)
    assert_same(run(engine, users, outfits, 12), naive(users, outfits, 12))


@engines
def test_extreme_exponents_side_by_side(engine: str) -> None:
    users = vectors(9, 6, 8)
    users[1] *= np.float32(3e38)
    users[2] = np.float32(1e-45)
    outfits = vectors(10, 200, 8)
    outfits[5] *= np.float32(3e38)
    outfits[6:100] *= np.float32(1e-40)
    assert_same(run(engine, users, outfits, 30), naive(users, outfits, 30))


@engines
def test_everything_excluded_leaves_empty_places(engine: str) -> None:
    users, outfits = vectors(11, 3, 8), vectors(12, 20, 8)
    exclude = csr([list(range(20)), [], list(range(1, 20))])
    indices, scores = run(engine, users, outfits, 4, exclude=exclude)
    assert_same((indices, scores), naive(users, outfits, 4, exclude))
    np.testing.assert_array_equal(indices[0], [-1] * 4)
    np.testing.assert_array_equal(indices[2], [0, -1, -1, -1])
    nothing = run(engine, users, outfits, 4, allowed=np.zeros(20, np.bool_))
    np.testing.assert_array_equal(nothing[0], np.full((3, 4), -1))
    assert np.isneginf(nothing[1]).all()


@engines
def test_excluded_and_disallowed_with_repeats_in_any_order(engine: str) -> None:
    users, outfits = vectors(13, 50, 16), vectors(14, 3000, 16)
    rng = np.random.default_rng(15)
    exclude = csr([rng.integers(0, 3000, rng.integers(0, 900)).tolist() for _ in users])
    allowed = rng.random(3000) < 0.5
    found = run(engine, users, outfits, 25, exclude=exclude, allowed=allowed)
    assert_same(found, naive(users, outfits, 25, exclude, allowed))


@engines
def test_more_asked_than_there_are(engine: str) -> None:
    users, outfits = vectors(16, 4, 8), vectors(17, 6, 8)
    assert_same(run(engine, users, outfits, 9), naive(users, outfits, 9))
    assert run(engine, users[:0], outfits, 3)[0].shape == (0, 3)
    indices, scores = run(engine, users, outfits[:0], 3)
    assert (indices == -1).all()
    assert np.isneginf(scores).all()


@engines
def test_a_batch_equals_single_users(engine: str, monkeypatch: pytest.MonkeyPatch) -> None:
    users, outfits = vectors(18, 40, 128), vectors(19, 5000, 128)
    outfits[2500:] = outfits[:2500]
    exclude = csr([[x, x + 1, 4999 - x] for x in range(40)])
    whole = run(engine, users, outfits, 20, exclude=exclude)
    for row in range(0, 40, 13):
        mine = csr([exclude[1][exclude[0][row] : exclude[0][row + 1]].tolist()])
        single = run(engine, users[row : row + 1], outfits, 20, exclude=mine)
        assert_same(single, (whole[0][row : row + 1], whole[1][row : row + 1]))
    # Nor does the size of blocks matter, of users, of outfits, or of what is seen.
    monkeypatch.setattr(torch_top_k, "USERS_PER_BLOCK", 7)
    monkeypatch.setattr(compiled_top_k, "USERS_PER_BLOCK", 7)
    monkeypatch.setattr(compiled_top_k, "OUTFITS_PER_TILE", 96)
    monkeypatch.setattr(compiled_top_k, "OUTFITS_PER_CHUNK", 1000)
    monkeypatch.setattr(compiled_top_k, "MIN_ROOM", 100)
    monkeypatch.setattr(blocks, "SEEN_PER_BLOCK", 10)
    monkeypatch.setattr("recjob.ranking.scan.TILE_BYTES", 7 * 4 * 333)
    monkeypatch.setattr("recjob.ranking.exact.PAIR_BYTES", 4 * 8 * 128 * 11)
    assert_same(run(engine, users, outfits, 20, exclude=exclude), whole)


@engines
def test_a_process_that_allows_bf16_products_changes_nothing(engine: str) -> None:
    users, outfits = vectors(20, 30, 128), vectors(21, 4000, 128)
    expected = run(engine, users, outfits, 10)
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("medium")
    try:
        assert_same(run(engine, users, outfits, 10), expected)
        assert torch.get_float32_matmul_precision() == "medium"
    finally:
        torch.set_float32_matmul_precision(before)
    assert_same(expected, naive(users, outfits, 10))


@engines
def test_inputs_are_read_only_strided_or_of_another_type(engine: str) -> None:
    users, outfits = vectors(22, 5, 8), vectors(23, 300, 8)
    expected = naive(users, outfits, 7)
    outfits.setflags(write=False)
    assert_same(run(engine, users, outfits, 7), expected)
    assert_same(run(engine, users, np.asfortranarray(outfits), 7), expected)
    assert_same(run(engine, users.astype(np.float64), outfits, 7), expected)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"users": np.full((2, 4), np.nan, np.float32)}, "users: row 0 has NaN"),
        ({"outfits": np.full((3, 4), np.inf, np.float32)}, "outfits: row 0 has NaN or infinity"),
        ({"users": np.ones((2, 3), np.float32)}, "do not fit"),
        ({"users": np.ones((2, 0), np.float32), "outfits": np.ones((3, 0), np.float32)}, "width 0"),
        ({"k": 0}, "at least 1"),
        ({"allowed": np.ones(2, np.bool_)}, "allowed"),
        ({"exclude": csr([[0]])}, "does not fit 2 users"),
        ({"exclude": csr([[0], [3]])}, "outside of the 3 outfits"),
        ({"exclude": csr([[0], [-1]])}, "outside of the 3 outfits"),
        ({"exclude": (np.array([0, 2, 1]), np.array([0]))}, "decreases"),
    ],
)
@engines
def test_wrong_input_is_refused(engine: str, change: dict[str, object], message: str) -> None:
    given_ = {"users": np.ones((2, 4), np.float32), "outfits": np.ones((3, 4), np.float32), "k": 2}
    with pytest.raises(ValueError, match=message):
        run(engine, **(given_ | change))  # type: ignore[arg-type]


@engines
@settings(max_examples=100, deadline=None)
@given(st.data())
def test_any_small_case(engine: str, data: st.DataObject) -> None:
    n_users, n_outfits = data.draw(st.integers(0, 5)), data.draw(st.integers(0, 60))
    width, k = data.draw(st.integers(1, 9)), data.draw(st.integers(1, 70))
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32)))
    # Few distinct values give ties, wide exponents give cancellation, overflow and underflow.
    levels = data.draw(st.sampled_from([2, 5, 1000]))
    spread = data.draw(st.sampled_from([0, 3, 20, 38]))

    def draw(rows: int) -> NDArray[np.float32]:
        values = rng.integers(-levels, levels + 1, (rows, width)) / levels
        return (values * 10.0 ** rng.uniform(-spread, spread, (rows, 1))).astype(np.float32)

    users, outfits = draw(n_users), draw(n_outfits)
    allowed = rng.random(n_outfits) < 0.7 if data.draw(st.booleans()) else None
    exclude = None
    if data.draw(st.booleans()) and n_outfits:
        exclude = csr([rng.integers(0, n_outfits, rng.integers(0, 40)).tolist() for _ in users])
    found = run(engine, users, outfits, k, exclude=exclude, allowed=allowed)
    assert_same(found, naive(users, outfits, k, exclude, allowed))


@engines
def test_any_small_case_with_lists_that_run_full(engine: str) -> None:
    """The same with room for little more than k, so that candidates are judged all the time."""
    rng = np.random.default_rng(24)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(compiled_top_k, "MIN_ROOM", 70)
        patch.setattr(compiled_top_k, "OUTFITS_PER_TILE", 64)
        for levels, spread in itertools.product([1, 3, 1000], [0, 1, 30]):
            users, outfits = (
                (
                    rng.integers(-levels, levels + 1, (rows, 6))
                    / levels
                    * 10.0 ** rng.uniform(-spread, spread, (rows, 1))
                ).astype(np.float32)
                for rows in (3, 900)
            )
            exclude = csr([rng.integers(0, 900, 40).tolist() for _ in users])
            found = run(engine, users, outfits, 5, exclude=exclude)
            assert_same(found, naive(users, outfits, 5, exclude))


@engines
def test_the_order_of_the_catalog_changes_nothing(engine: str) -> None:
    users, outfits = vectors(25, 3, 32), vectors(26, 6000, 32)
    outfits = outfits[np.argsort(outfits @ users[0])]  # every outfit is better than all before
    assert_same(run(engine, users, outfits, 9), naive(users, outfits, 9))
    assert_same(run(engine, users, outfits[::-1], 9), naive(users, outfits[::-1], 9))


@engines
def test_clusters_of_all_but_equal_outfits(engine: str) -> None:
    rng = np.random.default_rng(27)
    outfits = np.repeat(vectors(28, 10, 64), 700, axis=0)
    outfits += (1e-4 * rng.normal(size=outfits.shape)).astype(np.float32)
    outfits[3::5] = outfits[0]
    users = vectors(29, 8, 64)
    assert_same(run(engine, users, outfits, 60), naive(users, outfits, 60))


@engines
def test_working_memory_is_bounded(engine: str) -> None:
    """500 users times 200,000 outfits would be 400 MB of scores; the peak grows by < 256 MiB."""
    program = """
import resource, sys, numpy as np
from recjob.ranking import top_k as facade
if sys.argv[1] == "torch":
    facade.PAIRS_WORTH_COMPILING = facade.PAIRS_WORTH_CALLING = sys.maxsize
else:
    facade.PAIRS_WORTH_COMPILING = 0
engine = "fp32" if sys.argv[1] == "torch" else sys.argv[1]
rng = np.random.default_rng(0)
users = rng.random((500, 16), np.float32)
outfits = rng.random((200_000, 16), np.float32)
exclude = (np.arange(501) * 2000, rng.integers(0, 200_000, 1_000_000))
facade.top_k(users[:1], outfits[:10], 1, engine=engine)  # loads and compiles
peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
before = peak()
output = facade.top_k(users, outfits, 200, exclude=exclude, engine=engine)
print(peak() - before - sum(x.nbytes for x in output) / 2**20)
"""
    grown = subprocess.run(
        [sys.executable, "-c", program, engine], capture_output=True, text=True, check=True
    )
    assert float(grown.stdout) < 256


def test_auto_compiles_only_where_it_pays() -> None:
    """A small first call must not wait seconds for a compiler, nor load it."""
    program = """
import sys, numpy as np
from recjob.ranking.top_k import top_k
top_k(np.ones((2, 4), np.float32), np.ones((9, 4), np.float32), 3)
print("numba" in sys.modules)
"""
    loaded = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert loaded.stdout.strip() == "False"


def test_threads_of_the_process_are_given_back() -> None:
    before = torch.get_num_threads()
    run("bf16", vectors(30, 9, 8), vectors(31, 90, 8), 3)
    assert torch.get_num_threads() == before
