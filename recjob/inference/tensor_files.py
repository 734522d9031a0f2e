"""Writing safetensors files as other files are written: same errors, same permissions."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from safetensors import SafetensorError

READABLE: Final = 0o644
"""safetensors leaves 0600, so that nobody but its writer could import a model."""
_SYSTEM_ERROR = re.compile(r"\(os error (\d+)\)")


@contextmanager
def writing_tensors(path: Path) -> Iterator[None]:
    """Around `save_file` of safetensors to `path`; what the system refuses is an OSError."""
    try:
        yield
    except SafetensorError as error:
        found = _SYSTEM_ERROR.search(str(error))
        if found is None:
            raise
        number = int(found[1])
        raise OSError(number, os.strerror(number), str(path)) from None
    path.chmod(READABLE)
