"""From pixels to vectors: engines, export, embedding."""

import os

# From its import on, ONNX Runtime's package for Linux keeps a database in the user's home and tells
# its maker of sessions and models. It reads this once, so it is set before anything imports it.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
