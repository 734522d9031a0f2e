"""The program as its container runs it: from what the image holds, as a user who may write nothing.

The whole file system is read-only but for RECJOB_HOME and a /tmp of its own, as the container's is;
the code is a copy of what the Dockerfile copies, and nothing else of the checkout.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from recjob.catalog.synthetic import write_demo
from recjob.settings import load_settings
from tests.deploy.dockerfile import instructions
from tests.deploy.manifests import DEPLOY, ROOT
from tests.fixtures_database import scratch_folder
from tests.fixtures_shop import SETTINGS

USER = 10001
ISOLATE = """
set -e
mount --make-rprivate /
mount --bind "$HOME_FOLDER" "$HOME_FOLDER"
mount --bind -o ro "$CODE" "$CODE"
mount --bind -o ro "$PASSWD" /etc/passwd
mount -o remount,bind,ro /
mount --rbind /tmp /mnt
mount -t tmpfs tmpfs /tmp
for kept in "$CHECKOUT" "$IMAGE"; do
    case "$kept" in
    /tmp/*)
        mkdir -p "$kept"
        mount --rbind "/mnt/${{kept#/tmp/}}" "$kept"
        mount -o remount,bind,ro "$kept"
        ;;
    esac
done
cd /
exec setpriv --reuid {user} --regid {user} --clear-groups --no-new-privs \
    --inh-caps=-all,+dac_read_search --ambient-caps=-all,+dac_read_search \
    --bounding-set=-all,+dac_read_search -- "$@"
"""
"""A checkout in /tmp, whose Python this is, is put back there. The one capability lets the user
read an interpreter that lies in another one's home folder; it allows no writing."""

Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder with `app`, what the Dockerfile copies there, `home`, which the user owns, and
    `passwd`, where the user has a name, as in the image: Postgres asks for it."""
    # A developer need not be root. `.ci/run` is, where a skip fails.
    if os.geteuid() != 0 or not sys.platform.startswith("linux"):
        pytest.skip("only root on Linux can make the file system read-only")
    with scratch_folder() as folder:
        folder.chmod(0o755)
        app = folder / "app"
        for one in instructions(DEPLOY / "container" / "Dockerfile"):
            if (one.name, one.stage) == ("COPY", 1) and one.words[-1].startswith("/app"):
                source, target = one.words
                path = folder / target.lstrip("/")
                if target.endswith("/"):
                    path.mkdir(parents=True, exist_ok=True)
                    path = path / Path(source).name
                if (ROOT / source).is_dir():
                    shutil.copytree(ROOT / source, path, ignore=shutil.ignore_patterns("*.pyc"))
                else:
                    shutil.copyfile(ROOT / source, path)
        assert (app / "cli.py").is_file()
        home = folder / "home"
        home.mkdir()
        os.chown(home, USER, USER)
        users = Path("/etc/passwd").read_text(encoding="utf-8")
        (folder / "passwd").write_text(f"{users}recjob:x:{USER}:{USER}::{home}:/bin/false\n")
        yield folder


@pytest.fixture
def run(image: Path) -> Run:
    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        home = image / "home"
        script = ISOLATE.format(user=USER)
        return subprocess.run(
            ["unshare", "--mount", "sh", "-c", script, "sh", sys.executable, *arguments],
            env={
                "PATH": os.environ["PATH"],
                "HOME": str(home),
                "HOME_FOLDER": str(home),
                "CODE": str(image / "app"),
                "CHECKOUT": str(ROOT),
                "IMAGE": str(image),
                "PASSWD": str(image / "passwd"),
                "RECJOB_HOME": str(home),
                "PYTHONDONTWRITEBYTECODE": "1",
            },
            capture_output=True,
            text=True,
            check=False,
        )

    return run


@pytest.mark.system
def test_the_file_system_is_read_only(run: Run, image: Path) -> None:
    """Otherwise the tests below would prove nothing."""
    attempt = (
        "import os, pathlib, sys; print(os.getuid()); pathlib.Path(sys.argv[1]).write_text('x')"
    )
    for folder in (image / "app", ROOT, Path("/var/tmp")):
        done = run("-c", attempt, str(folder / "written"))
        assert done.stdout == f"{USER}\n", done.stderr
        assert "Read-only file system" in done.stderr, folder
    for folder in (image / "home", Path("/tmp")):
        assert run("-c", attempt, str(folder / "written")).returncode == 0
    (image / "home" / "written").unlink()


@pytest.mark.system
def test_help_needs_nothing(run: Run, image: Path) -> None:
    done = run(str(image / "app" / "cli.py"), "--help")
    assert done.returncode == 0, done.stderr
    assert "nightly-recommend" in done.stdout


@pytest.mark.system
def test_the_database_and_a_settings_file_serve(run: Run, image: Path) -> None:
    """The migrations are among what is copied, and Postgres itself runs in the home."""
    program = str(image / "app" / "cli.py")
    done = run(program, "db", "upgrade", "--json")
    assert done.returncode == 0, done.stderr
    example = str(image / "app" / "examples" / "wardrobe-cpu.toml")
    listed = run(program, "models", "list", "--json", "--settings", example)
    assert (listed.returncode, listed.stdout.split()) == (0, ['{"models":', "[]}"]), listed.stderr
    assert {one.name for one in (image / "home").iterdir()} >= {"postgres"}
    assert all(one.lstat().st_uid == USER for one in (image / "home").rglob("*"))


@pytest.mark.system
def test_a_night_and_the_next_start_from_what_is_in_the_home(run: Run, image: Path) -> None:
    """Trained, compiled, embedded and published; libraries write nothing beside it."""
    program, settings = str(image / "app" / "cli.py"), image / "recjob.toml"
    settings.write_text(SETTINGS)
    wanted = load_settings(settings, {})
    write_demo(image / "shop", image / "newcomers", wanted.demo, wanted.seed)
    for words in (
        ("import", "tables", str(image / "shop")),
        ("pipeline",),
        ("embed",),
        ("nightly-recommend",),
    ):
        done = run(program, *words, "--settings", str(settings), "--json")
        assert done.returncode == 0, (words, done.stderr)
    night = json.loads(done.stdout)
    assert (night["new_items"], night["lists"]) == (0, wanted.demo.users + wanted.demo.strangers)
    found = {one.name for one in (image / "home").iterdir()}
    locks = {"postgres.users.lock", "postgres.transition.lock"}
    assert found == {"postgres", "images", "artifacts", "report"} | locks
