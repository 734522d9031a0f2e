"""Exit code 0 where the scheduler's `/metrics` answers on this machine, else 1.

Run by the container engine, so from the standard library alone: it starts in milliseconds.
"""

from __future__ import annotations

import os
import sys
import urllib.error
import urllib.request
from typing import Final

DEFAULT_PORT: Final = "9464"
"""Of `metrics.port`; a port from recjob.toml is not seen, so set another in the environment."""
TIMEOUT_SECONDS: Final = 8
"""Below the 10 s after which the engine gives up, so that the reason is told."""


def main() -> int:
    """Ask once; the reason of a failure goes to standard error."""
    port = os.environ.get("RECJOB_METRICS__PORT", DEFAULT_PORT)
    url = f"http://127.0.0.1:{port}/metrics"
    try:
        with urllib.request.urlopen(url, timeout=TIMEOUT_SECONDS) as answer:
            answer.read()
    except (urllib.error.URLError, TimeoutError, OSError) as error:
        sys.stderr.write(f"{url}: {error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
