"""A folder's pictures: what is read, and what never is."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from recjob.catalog.picture_source import FolderPictures, RefusedPictureError

MANY_BYTES = 1000


def test_files_and_links_inside(tmp_path: Path) -> None:
    shop = tmp_path / "shop"
    (shop / "images").mkdir(parents=True)
    (shop / "images" / "a.jpg").write_bytes(b"picture")
    (shop / "link.jpg").symlink_to(shop / "images" / "a.jpg")
    (tmp_path / "also").symlink_to(shop)
    for root in (shop, tmp_path / "also"):
        source = FolderPictures(root)
        for image in ("images/a.jpg", "link.jpg", "images/../link.jpg"):
            assert source.read(image, MANY_BYTES) == b"picture"
    assert FolderPictures(shop).read("link.jpg", len(b"picture")) == b"picture"


def test_what_is_refused(tmp_path: Path) -> None:
    shop = tmp_path / "shop"
    shop.mkdir()
    (tmp_path / "secret").write_bytes(b"secret")
    (tmp_path / "shop-too").mkdir()
    (tmp_path / "shop-too" / "secret").write_bytes(b"secret")
    (shop / "link").symlink_to(tmp_path / "secret")
    (shop / "round").symlink_to(shop / "round")
    (shop / "large").write_bytes(bytes(7))
    os.mkfifo(shop / "pipe")
    source = FolderPictures(shop)
    for image, reason in {
        "": "no picture is named",
        "../secret": "lies outside the folder",
        "../shop-too/secret": "lies outside the folder",
        str(tmp_path / "secret"): "lies outside the folder",
        "link": "lies outside the folder",
        ".": "lies outside the folder",
        "missing": "no such file",
        "pipe": "not a file",
        "round": "cannot be read (Too many levels of symbolic links)",
        "large": "7 bytes are more than images.max_bytes (6)",
    }.items():
        with pytest.raises(RefusedPictureError) as refused:
            source.read(image, 6)
        assert str(refused.value) == reason
