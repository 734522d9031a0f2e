"""Cases of the Triton engine beyond the contract; `test_triton_top_k.py` runs them interpreted."""

import itertools
import json

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from recjob.bench import gpu
from recjob.ranking import triton_search, triton_top_k, triton_vectors
from recjob.ranking.exact import pair_scores
from recjob.ranking.triton_search import Plan, Search, Tile
from recjob.ranking.triton_vectors import DeviceOutfits, DeviceUsers
from tests.ranking.test_top_k import Csr, assert_same, csr, naive, vectors

TILES = [Tile(16, 32, 4, 1), Tile(32, 128, 4, 2), Tile(128, 64, 8, 3)]
CPU = torch.device("cpu")


def some_seen(n_users: int, n_outfits: int, most: int) -> Csr:
    rng = np.random.default_rng(1)
    return csr([rng.integers(0, n_outfits, rng.integers(0, most)).tolist() for _ in range(n_users)])


@pytest.mark.parametrize(
    ("tile", "width"),
    [(TILES[0], 1), (TILES[1], 17), (TILES[2], 100), (TILES[0], 130), (TILES[2], 192)],
    ids=str,
)
def test_sizes_that_divide_badly(tile: Tile, width: int) -> None:
    users, outfits = vectors(2, 37, width), vectors(3, 257, width)
    exclude, allowed = some_seen(37, 257, 60), np.arange(257) % 5 != 0
    found = triton_top_k.triton_top_k(users, outfits, 11, exclude, allowed, tile=tile)
    assert_same(found, naive(users, outfits, 11, exclude, allowed))


def test_lists_of_1024() -> None:
    users, outfits = vectors(4, 3, 32), vectors(5, 8500, 32)
    found = triton_top_k.triton_top_k(users, outfits, 1024)
    assert_same(found, naive(users, outfits, 1024))


def test_shards_of_outfits_and_blocks_of_users(monkeypatch: pytest.MonkeyPatch) -> None:
    users, outfits = vectors(6, 30, 24), vectors(7, 1600, 24)
    outfits[800:] = outfits[:800]  # ties between shards
    exclude, allowed = some_seen(30, 1600, 90), np.arange(1600) % 3 != 0
    allowed[500:1100] = False  # a shard without any
    monkeypatch.setattr(triton_top_k, "_outfits_per_shard", lambda *_: 500)
    monkeypatch.setattr(triton_top_k, "WORDS_BYTES", 0)
    monkeypatch.setattr(triton_top_k, "SEEN_PER_BLOCK", 500)
    found = triton_top_k.triton_top_k(users, outfits, 30, exclude, allowed, tile=TILES[0])
    assert_same(found, naive(users, outfits, 30, exclude, allowed))


def scans(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Grows by the number of users at every scan."""
    calls: list[int] = []
    scan = Search._scan

    def counted(self: Search, users: DeviceUsers, *rest: object) -> object:
        calls.append(len(users))
        return scan(self, users, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(Search, "_scan", counted)
    return calls


def test_one_scan_does_for_almost_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(triton_vectors, "SAMPLE", 500)
    calls = scans(monkeypatch)
    users, outfits = vectors(8, 120, 32), vectors(9, 3000, 32)
    exclude = csr([np.argsort(-outfits @ user)[:40].tolist() for user in users])
    found = triton_top_k.triton_top_k(users, outfits, 10, exclude)
    assert_same(found, naive(users, outfits, 10, exclude))
    assert calls[0] == 120
    assert sum(calls[1:]) <= 4


@pytest.mark.parametrize(
    ("line", "alike"), [(-np.inf, 1), (-np.inf, 200), (0.2, 1), (np.inf, 1), (np.inf, 200)]
)
def test_any_first_line_gives_the_same_lists(
    line: float, alike: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Too low, places overflow; too high, candidates are missing: both are noticed."""
    users = vectors(10, 6, 16)
    users[3] = 0
    outfits = np.repeat(vectors(11, 400 // alike, 16), alike, axis=0)
    expected = naive(users, outfits, 7)
    monkeypatch.setattr(triton_vectors, "SAMPLE", 100)
    monkeypatch.setattr(Plan, "per_split", lambda *_: 3)
    monkeypatch.setattr(Search, "_first_lines", lambda _, users: torch.full((len(users),), line))
    calls = scans(monkeypatch)
    assert_same(triton_top_k.triton_top_k(users, outfits, 7, tile=TILES[0]), expected)
    assert len(calls) > 1


def test_scans_end_where_every_outfit_is_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Plan, "per_split", lambda *_: 7)
    calls = scans(monkeypatch)
    users, outfits = vectors(12, 3, 16), np.repeat(vectors(13, 1, 16), 1500, axis=0)
    indices, _ = triton_top_k.triton_top_k(users, outfits, 4, tile=TILES[0])
    np.testing.assert_array_equal(indices, np.tile(np.arange(4), (3, 1)))
    assert triton_search.SCANS < len(calls) < 40


@pytest.mark.parametrize("spread", [0, 4, 30])
def test_the_bound_holds_and_is_not_wide(spread: int) -> None:
    rng = np.random.default_rng(14)

    def draw(rows: int) -> NDArray[np.float32]:
        drawn = rng.normal(size=(rows, 128)) * 10.0 ** rng.uniform(-spread, spread, (rows, 1))
        return drawn.astype(np.float32)

    users, outfits = draw(40), draw(600)
    on_device = DeviceOutfits.of(outfits, None, 32, CPU)
    block = DeviceUsers.of(torch.from_numpy(users), on_device)
    tile_scores = block.halves.double() @ on_device.halves[:600].double().T
    rows, columns = (x.ravel() for x in np.indices((40, 600)))
    products = users[rows].astype(np.float64) * outfits[columns]
    exact = torch.from_numpy(products.sum(1).reshape(40, 600))
    scaled = exact * triton_vectors.powers(-block.exponent)[:, None]
    share = (tile_scores - scaled).abs().amax(1) / block.bound
    assert share.max() <= 1
    assert (block.bound <= 2.0**-10 * block.norm * on_device.norm).all()


@pytest.mark.parametrize("width", [1, 2, 3, 5, 12, 31, 64, 100, 128])
def test_scores_equal_those_of_all_engines_to_the_last_bit(width: int) -> None:
    rng = np.random.default_rng(15)
    scale = 10.0 ** rng.uniform(-6, 6, (2, 50, 1))
    users, outfits = (rng.normal(size=(2, 50, width)) * scale).astype(np.float32)
    on_device = DeviceOutfits.of(outfits, None, 32, CPU)
    block = DeviceUsers.of(torch.from_numpy(users), on_device)
    rows, columns = np.array(list(itertools.product(range(50), repeat=2))).T
    found = Search(on_device, 1)._exact(block, torch.tensor(rows), torch.tensor(columns).int())
    np.testing.assert_array_equal(found.numpy(), pair_scores(users, outfits, rows, columns))


def test_the_bench_checks_itself(capsys: pytest.CaptureFixture[str]) -> None:
    assert gpu.main(["--quick"]) == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert len(lines) == 12
    assert all(line["what"] == "check" and line["wrong_places"] == 0 for line in lines)


def test_the_bench_notices_a_wrong_list(monkeypatch: pytest.MonkeyPatch) -> None:
    def one_wrong(*inputs: object) -> object:
        indices, scores = triton_top_k.triton_top_k(*inputs)  # type: ignore[arg-type]
        indices[-1, -1] += 1
        return indices, scores

    monkeypatch.setattr(gpu, "triton_top_k", one_wrong)
    assert gpu.main(["--quick"]) == 1
