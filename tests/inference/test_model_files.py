"""What is written is read back; what is damaged is one clear line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from recjob.errors import DataError
from recjob.inference.model_files import (
    AUTOENCODER_FILES,
    RECOMMENDER_FILES,
    load_autoencoder,
    load_recommender,
    read_user_ids,
    save_autoencoder,
    save_recommender,
    write_without_users,
)
from recjob.model.autoencoder import Autoencoder
from recjob.model.recommender import OutfitRecommender
from tests.inference.students import student

IDS = ("anna", "b/ö", "日本")


@pytest.fixture
def stored(tmp_path: Path) -> Path:
    save_recommender(tmp_path, student(), IDS, 64)
    return tmp_path


def test_a_recommender_comes_back(stored: Path) -> None:
    found = load_recommender(stored)
    assert (found.user_ids, found.image_size) == (IDS, 64)
    assert not found.model.training
    expected, read = student().state_dict(), found.model.state_dict()
    assert expected.keys() == read.keys()
    assert all(torch.equal(expected[name], read[name]) for name in expected)
    assert {path.name for path in stored.iterdir()} == set(RECOMMENDER_FILES)


def test_a_larger_recommender_in_another_layout(tmp_path: Path) -> None:
    """Training keeps weights channels last; the file does not care."""
    torch.manual_seed(0)
    model = OutfitRecommender("s", 2).to(memory_format=torch.channels_last)
    save_recommender(tmp_path, model, ("a", "b"), 96)
    found = load_recommender(tmp_path)
    assert found.model.size == "s"
    pixels = torch.randint(0, 256, (2, 3, 64, 64), dtype=torch.uint8)
    with torch.no_grad():
        torch.testing.assert_close(
            found.model.encode_items(pixels), model.eval().encode_items(pixels)
        )


def test_another_backbone_comes_back(tmp_path: Path) -> None:
    torch.manual_seed(1)
    model = OutfitRecommender("xs", 2, backbone="shufflenet_v2_x0_5").eval()
    save_recommender(tmp_path, model, ("a", "b"), 64)
    assert json.loads((tmp_path / "model.json").read_text())["backbone"] == "shufflenet_v2_x0_5"
    state = torch.get_rng_state()
    found = load_recommender(tmp_path).model
    assert torch.equal(torch.get_rng_state(), state)
    assert found.backbone.name == "shufflenet_v2_x0_5"
    expected, read = model.state_dict(), found.state_dict()
    assert all(torch.equal(expected[name], read[name]) for name in expected)


def test_a_folder_from_before_there_was_a_choice_of_backbones(stored: Path) -> None:
    (stored / "model.json").write_text(json.dumps({"size": "xs", "image_size": 64}))
    assert load_recommender(stored).model.backbone.name == "alexnet"


def test_user_vectors_lie_apart(stored: Path) -> None:
    """So that one can be deleted without touching the model."""
    weights, users = (
        load_file(stored / name) for name in ("model.safetensors", "users.safetensors")
    )
    assert list(users) == ["users.weight"]
    assert not any("user" in name for name in weights)
    without = users["users.weight"][[0, 2]].clone()
    save_file({"users.weight": without}, stored / "users.safetensors")
    (stored / "users.json").write_text(json.dumps([IDS[0], IDS[2]]))
    found = load_recommender(stored)
    assert found.user_ids == (IDS[0], IDS[2])
    assert torch.equal(found.model.users.weight, without)


def test_an_autoencoder_comes_back(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = Autoencoder(64, 12)
    save_autoencoder(tmp_path, model, 64, 12)
    found = load_autoencoder(tmp_path)
    assert (found.image_size, found.latent_dim, found.training) == (64, 12, False)
    expected, read = model.state_dict(), found.state_dict()
    assert all(torch.equal(expected[name], read[name]) for name in expected)
    assert {path.name for path in tmp_path.iterdir()} == set(AUTOENCODER_FILES)


def refused(folder: Path) -> str:
    """The one line that says why a recommender cannot be read."""
    with pytest.raises(DataError) as caught:
        load_recommender(folder)
    message = str(caught.value)
    assert str(folder) in message
    assert "\n" not in message
    return message


@pytest.mark.parametrize("name", RECOMMENDER_FILES)
def test_a_file_is_missing(stored: Path, name: str) -> None:
    (stored / name).unlink()
    assert name.split(".")[0] in refused(stored)


@pytest.mark.parametrize("name", RECOMMENDER_FILES)
@pytest.mark.parametrize("content", ["cut short", "other bytes", "nothing"])
def test_a_file_is_damaged(stored: Path, name: str, content: str) -> None:
    path = stored / name
    whole = path.read_bytes()
    path.write_bytes(
        {
            "cut short": whole[: len(whole) // 2],
            "other bytes": b"\x93" * 64,
            "nothing": b"",
        }[content]
    )
    refused(stored)


@pytest.mark.parametrize(
    "description",
    [
        {"size": "s", "image_size": 64},
        {"size": "huge", "image_size": 64},
        {"size": "xs", "image_size": 64, "backbone": "resnet5"},
        {"size": "xs", "image_size": 64, "backbone": "shufflenet_v2_x0_5"},
        {"size": "xs", "image_size": 64, "backbone": ["alexnet"]},
        {"size": ["xs"], "image_size": 64},
        {"size": "xs"},
        {"image_size": 64},
        {"size": "xs", "image_size": "large"},
        {"size": "xs", "image_size": None},
        ["xs", 64],
        "xs",
        None,
    ],
)
def test_a_description_that_does_not_fit(stored: Path, description: object) -> None:
    (stored / "model.json").write_text(json.dumps(description))
    refused(stored)


@pytest.mark.parametrize("ids", [["anna"], [*IDS, "one more"], {}, 3, None, [1, 2, 3]])
def test_users_that_do_not_fit(stored: Path, ids: object) -> None:
    (stored / "users.json").write_text(json.dumps(ids))
    refused(stored)


def test_one_model_is_not_the_other(stored: Path, tmp_path: Path) -> None:
    other = tmp_path / "autoencoder"
    other.mkdir()
    save_autoencoder(other, Autoencoder(64, 8), 64, 8)
    refused(other)
    with pytest.raises(DataError, match="holds no autoencoder"):
        load_autoencoder(stored)


@pytest.mark.parametrize(
    "description",
    [
        {"image_size": 64, "latent_dim": 9},
        {"image_size": 50, "latent_dim": 8},
        {"image_size": 64},
        {"image_size": "64 px", "latent_dim": 8},
        [],
    ],
)
def test_an_autoencoder_that_does_not_fit(tmp_path: Path, description: object) -> None:
    save_autoencoder(tmp_path, Autoencoder(64, 8), 64, 8)
    (tmp_path / "model.json").write_text(json.dumps(description))
    with pytest.raises(DataError, match=str(tmp_path)):
        load_autoencoder(tmp_path)


def test_no_folder(tmp_path: Path) -> None:
    assert "this is no model folder" in refused(tmp_path / "nowhere")


def test_without_some_users_the_others_are_the_same(stored: Path, tmp_path: Path) -> None:
    less = tmp_path / "less"
    less.mkdir()
    write_without_users(stored, less, {"b/ö", "nobody"})
    assert {path.name for path in less.iterdir()} == {"users.json", "users.safetensors"}
    assert read_user_ids(less) == ["anna", "日本"]
    whole, left = (load_file(folder / "users.safetensors") for folder in (stored, less))
    assert torch.equal(left["users.weight"], whole["users.weight"][[0, 2]])
    assert (less / "users.safetensors").stat().st_mode & 0o777 == 0o644


def test_a_model_may_lose_its_last_user(stored: Path) -> None:
    write_without_users(stored, stored, set(IDS))
    found = load_recommender(stored)
    assert found.user_ids == ()
    assert found.model.users.weight.shape == (0, 128)
