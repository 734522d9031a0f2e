"""How long a model takes to recommend to every user: `python -m recjob.paper.timing REQUEST`.

In a process of its own, so that the peak of its memory is that of one model. Weights are random:
they cost no less time than trained ones.
"""

from __future__ import annotations

import json
import platform
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

import numpy as np
import torch
from safetensors.numpy import load_file, save_file

from recjob.catalog.catalog import PADDING
from recjob.errors import RecjobError
from recjob.inference.embedding import embed_items, embed_outfits, user_unit_vectors
from recjob.inference.torch_engine import TorchEngine
from recjob.model.backbone import ModelSize
from recjob.model.recommender import OutfitRecommender
from recjob.paper.study import Study
from recjob.paper.workers import module_environment
from recjob.settings import Settings
from recjob.training.compute import choose_compute

KIB: Final = 1024
"""What /proc counts memory in."""
USERS_PER_BLOCK: Final = 1024
"""Users scored at once against every outfit."""
ARRAYS_FILE: Final = "arrays.safetensors"
REQUEST_FILE: Final = "request.json"


@dataclass(frozen=True)
class Timing:
    """What one model takes."""

    seconds: list[float]
    """Of each repeat."""
    memory_bytes: int
    """Peak: of torch's memory on the GPU, else resident memory of the process."""
    on_gpu: bool
    device: str


def time_model(study: Study, size: ModelSize, image_size: int) -> Timing:
    """Time a model of a size in a process of its own on the study's catalog.

    Raises RecjobError where the process fails.
    """
    data = study.teacher_data if image_size != study.settings.images.size else study.data
    catalog, settings = data.catalog, study.settings
    usable = catalog.outfit_items[catalog.outfit_usable]
    items, places = np.unique(usable, return_inverse=True)
    places = places.reshape(usable.shape) - int(items[0] == PADDING)
    items = items[items != PADDING]
    with tempfile.TemporaryDirectory(dir=study.out, prefix=".timing-") as scratch:
        folder = Path(scratch)
        arrays = {
            "pixels": np.ascontiguousarray(data.pixels[data.picture_rows[items]]),
            "outfits": places.astype(np.int32),
        }
        save_file(arrays, folder / ARRAYS_FILE)
        request = {
            "size": size,
            "users": int(data.users.size),
            "batch_size": settings.embed.batch_size,
            "repeats": settings.paper.timing_repeats,
            "settings": settings.model_dump(mode="json", exclude={"database_url"}),
        }
        (folder / REQUEST_FILE).write_text(json.dumps(request), encoding="utf-8")
        ended = subprocess.run(  # noqa: S603
            [sys.executable, "-m", "recjob.paper.timing", scratch],
            env=module_environment(),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
    if ended.returncode:
        last = (ended.stderr.strip().splitlines() or ["no message"])[-1]
        raise RecjobError(f"timing of size {size} failed: {last}")
    return Timing(**json.loads(ended.stdout))


def measure(folder: Path) -> Timing:
    """Pictures in memory to scores of every user for every outfit, as often as asked."""
    request = json.loads((folder / REQUEST_FILE).read_text(encoding="utf-8"))
    settings = Settings.model_validate(request["settings"])
    compute = choose_compute(settings.compute)
    arrays = load_file(folder / ARRAYS_FILE)
    pixels, outfits = arrays["pixels"], arrays["outfits"]
    torch.manual_seed(settings.seed)
    model = OutfitRecommender(request["size"], request["users"])
    model.to(memory_format=torch.channels_last)
    engine = TorchEngine(model, compute.device, compute.bf16)
    batch_size = request["batch_size"]
    rows = np.arange(len(pixels))

    def recommend() -> None:
        features = embed_items(engine, pixels, rows, batch_size)
        vectors = torch.from_numpy(embed_outfits(engine, features, outfits, batch_size))
        users = torch.from_numpy(user_unit_vectors(model))
        vectors, users = vectors.to(compute.device), users.to(compute.device)
        for start in range(0, len(users), USERS_PER_BLOCK):
            scores = users[start : start + USERS_PER_BLOCK] @ vectors.T
        if compute.device.type == "cuda":
            torch.cuda.synchronize()
        del scores

    recommend()  # once before: memory is allocated and kernels are chosen
    seconds = []
    for _ in range(request["repeats"]):
        begin = time.monotonic()
        recommend()
        seconds.append(time.monotonic() - begin)
    on_gpu = compute.device.type == "cuda"
    memory = torch.cuda.max_memory_reserved() if on_gpu else _peak_resident()
    name = torch.cuda.get_device_name() if on_gpu else f"{platform.machine()} CPU"
    return Timing(seconds, memory, on_gpu, f"{name}, {compute}")


def _peak_resident() -> int:
    """Peak of the resident memory in bytes.

    Not from getrusage, which counts what the process was before it became this program.
    """
    status = Path("/proc/self/status").read_text(encoding="ascii", errors="replace")
    [line] = [line for line in status.splitlines() if line.startswith("VmHWM:")]
    return int(line.split()[1]) * KIB


if __name__ == "__main__":
    sys.stdout.write(json.dumps(asdict(measure(Path(sys.argv[1])))))
