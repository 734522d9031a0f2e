"""The textfile, the HTTP server, and what becomes of a Pushgateway's URL."""

from __future__ import annotations

import os
import socket
import stat
import urllib.request
from pathlib import Path

import pytest
from prometheus_client import Metric

from recjob.errors import SettingsError, TemporaryError
from recjob.monitoring.families import build_families
from recjob.monitoring.sinks import Families, push, serving, write_textfile


def metric(name: str, value: float) -> Metric:
    family = Metric(name, "Help.", "gauge")
    family.add_sample(name, {}, value)
    return family


def test_a_textfile_is_replaced_whole_and_others_may_read_it(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "recjob.prom"
    before = os.umask(0o077)
    try:
        write_textfile(path, [metric("recjob_a", 1), metric("recjob_b", 2)])
        with path.open() as reader:
            write_textfile(path, [metric("recjob_a", 3)])
            assert "recjob_b 2.0" in reader.read()  # whoever reads has the older one, whole
    finally:
        os.umask(before)
    assert path.read_text().splitlines()[-1] == "recjob_a 3.0"
    assert stat.S_IMODE(path.stat().st_mode) == 0o644
    assert list(path.parent.iterdir()) == [path]


def test_a_textfile_that_cannot_be_replaced_leaves_nothing(tmp_path: Path) -> None:
    path = tmp_path / "recjob.prom"
    path.mkdir()
    with pytest.raises(OSError, match=r"recjob\.prom"):
        write_textfile(path, build_families())
    assert list(tmp_path.iterdir()) == [path]


def test_the_server_gives_back_its_port() -> None:
    with serving("127.0.0.1", 0, Families(build_families())) as port:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics") as answer:
            assert b"recjob_build_info{" in answer.read()
            assert answer.headers["Content-Type"].startswith("text/plain; version=")
        with pytest.raises(OSError, match="in use"), serving("127.0.0.1", port, Families([])):
            pass
    socket.create_server(("127.0.0.1", port)).close()


@pytest.mark.parametrize(
    "url", ["gateway:9091", "ftp://gateway", "http://", "http://user:s3cret/x@gateway", ""]
)
def test_what_is_no_url(url: str) -> None:
    with pytest.raises(SettingsError, match=r"metrics\.pushgateway is no URL") as caught:
        push(url, [metric("recjob_a", 1)], 1)
    assert "s3cret" not in str(caught.value)


def test_a_gateway_that_is_away_is_named_without_its_password() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    with pytest.raises(TemporaryError) as caught:
        push(f"http://anna:s3cret@127.0.0.1:{port}/push", [metric("recjob_a", 1)], 1)
    message = str(caught.value)
    assert f"http://127.0.0.1:{port}/push does not take them" in message
    assert "anna" not in message
    assert "s3cret" not in message


def test_a_gateway_that_hangs_is_given_up() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        with pytest.raises(TemporaryError, match="timed out"):
            push(f"http://127.0.0.1:{port}", [metric("recjob_a", 1)], 0.2)
