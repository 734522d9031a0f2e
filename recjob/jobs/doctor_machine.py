"""`doctor` on this machine: Python, packages, folders, disks, GPU."""

from __future__ import annotations

import importlib
import importlib.metadata
import os
import platform
import re
import shutil
import tempfile
from pathlib import Path
from typing import Any, Final

from recjob.errors import SettingsError
from recjob.inference.tensorrt_build import TENSORRT, TENSORRT_RTX, load_package
from recjob.jobs.diagnosis import Finding, failure, warning, well
from recjob.jobs.schedule_entries import schedule_entries
from recjob.monitoring.gpu_memory import nvidia_driver
from recjob.settings import Settings
from recjob.training.compute import choose_compute

GIGABYTE: Final = 1e9
REQUIREMENT: Final = re.compile(r"^([\w.-]+)(?:\[[\w,-]+\])?==([^\s;\\]+)")
LOCK: Final = Path(__file__).resolve().parents[2] / "requirements.lock"
LEAST_SCRATCH_GIGABYTES: Final = 1.0
"""Of the folder for temporary files: `compile` writes engines there (230 MB each)."""
INSTALL: Final = "run `make install`"


def python_packages() -> Finding:
    """Python, and the packages beside the lock file."""
    here = f"Python {platform.python_version()}"
    if not LOCK.is_file():
        return warning(f"{here}; {LOCK.name} is missing", "restore it from the checkout")
    differ, missing = [], []
    for name, wanted in _locked():
        try:
            found = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            missing.append(name)
            continue
        if found != wanted:
            differ.append(f"{name} {found} instead of {wanted}")
    if differ:
        return warning(f"{here}; {len(differ)} differ from the lock: {_few(differ)}", INSTALL)
    if missing:
        return well(f"{here}; packages as locked, without {_few(missing)}")
    return well(f"{here}; packages as locked")


def _locked() -> list[tuple[str, str]]:
    """Name and version of each line of the lock that is for every machine."""
    lines = LOCK.read_text(encoding="utf-8").splitlines()
    found = [REQUIREMENT.match(line) for line in lines if ";" not in line]
    return [(match[1], match[2]) for match in found if match]


def _few(names: list[str], most: int = 3) -> str:
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def home_folder(settings: Settings) -> Finding:
    """Whether files can be made in the home folder."""
    home = settings.home.absolute()
    if not home.exists():
        above = next(parent for parent in home.parents if parent.exists())
        if os.access(above, os.W_OK | os.X_OK):
            return well(f"{home}: not there yet; the first job makes it")
        return failure(
            f"{home}: cannot be made, {above} is not ours to write to",
            "set RECJOB_HOME to a folder of your own",
        )
    owner = home.stat().st_uid
    try:
        with tempfile.TemporaryFile(dir=home):
            pass
    except OSError as error:
        return failure(
            f"{home}: {error.strerror}; its owner is user {owner}, this is {os.geteuid()}",
            "run as its owner, or set RECJOB_HOME to a folder of your own",
        )
    if owner != os.geteuid():
        return warning(
            f"{home}: belongs to user {owner}, this is {os.geteuid()}", "run as its owner"
        )
    return well(f"{home}: writable, ours")


def disk_space(settings: Settings) -> Finding:
    """Room where files are written; the embedded database lies in the home folder too."""
    home = settings.home.absolute()
    there = next(place for place in (home, *home.parents) if place.exists())
    found, short = [], []
    for what, folder, least in (
        ("home", there, settings.status.min_free_gigabytes),
        ("temporary files", Path(tempfile.gettempdir()), LEAST_SCRATCH_GIGABYTES),
    ):
        free = shutil.disk_usage(folder).free / GIGABYTE
        found.append(f"{what} {free:.1f} GB free ({folder})")
        if free < least:
            short.append(f"{what} needs {least:g} GB")
    if short:
        return failure("; ".join(found), f"make room: {', '.join(short)}")
    return well("; ".join(found))


def gpu(settings: Settings) -> Finding:
    """The GPU as the driver and as torch see it."""
    import torch

    driver = nvidia_driver()
    if not torch.cuda.is_available():
        if driver is not None and driver.devices:
            return failure(
                f"the driver {driver.version} has {driver.devices} GPUs, and torch "
                f"{torch.__version__} sees none",
                f"install a driver for CUDA {torch.version.cuda}, or look at CUDA_VISIBLE_DEVICES",
            )
        if settings.compute.device == "cuda":
            return failure(
                'there is no GPU, and compute.device is "cuda"', 'set compute.device = "auto"'
            )
        return well(f"none; torch {torch.__version__} computes on the CPU")
    parts = []
    for number in range(torch.cuda.device_count()):
        properties = torch.cuda.get_device_properties(number)
        parts.append(
            f"{properties.name}, {properties.total_memory / GIGABYTE:.0f} GB, capability "
            f"{properties.major}.{properties.minor}"
        )
    value = torch.ones(2, device="cuda").sum().item()
    if value != 2:
        return failure(f"{parts[0]}: 1 + 1 is {value} there", "look at the driver and the hardware")
    version = "" if driver is None else f", driver {driver.version}"
    return well(f"{'; '.join(parts)}{version}, CUDA {torch.version.cuda}")


def precision(settings: Settings) -> Finding:
    """Where and in what precision jobs compute."""
    compute = choose_compute(settings.compute)
    return well(f"{compute.device} in {'bf16' if compute.bf16 else 'fp32'}")


def tensorrt() -> Finding:
    """The TensorRT packages that can be imported."""
    found = [
        f"{kind} {package.__version__}"
        for kind in (TENSORRT, TENSORRT_RTX)
        if (package := load_package(kind)) is not None
    ]
    if not found:
        return warning(
            "none is installed: embed and nightly-recommend run in torch",
            "install the extra tensorrt-rtx, or tensorrt where a GPU is",
        )
    return well(", ".join(found))


def faiss() -> Finding:
    """FAISS, which indexes need."""
    library: Any = importlib.import_module("faiss")
    return well(f"{library.__version__}, {library.get_num_gpus()} GPUs")


def onnx_runtime() -> Finding:
    """ONNX Runtime, which checks what `compile` exports."""
    library: Any = importlib.import_module("onnxruntime")
    return well(f"{library.__version__}, {', '.join(library.get_available_providers())}")


def ray(settings: Settings) -> Finding | None:
    """Ray, where nights run on it."""
    if settings.nightly.engine != "ray":
        return None
    try:
        version = importlib.metadata.version("ray")
    except importlib.metadata.PackageNotFoundError:
        return failure(
            'nightly.engine is "ray", and Ray is not installed',
            'install recjob[ray], or set nightly.engine = "local"',
        )
    from recjob.jobs.ray_cluster import check_address

    check_address(settings.ray.address)
    return well(f"{version}, cluster {settings.ray.address or 'of this machine'}")


def schedule_settings(settings: Settings) -> Finding:
    """The time zone and the cron expressions."""
    try:
        entries = schedule_entries(settings)
    except SettingsError as error:
        return failure(str(error), "correct [schedule]")
    planned = sum(entry.cron is not None for entry in entries)
    return well(
        f"zone {settings.schedule.timezone}, {planned} of {len(entries)} entries have a time"
    )
