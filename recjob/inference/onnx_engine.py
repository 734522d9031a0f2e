"""The exported files in ONNX Runtime, on the CPU: an export is checked with it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime

from recjob.inference.engine import BoolArray, Float32Array, UInt8Array

_ONLY_ERRORS = 3
"""Severity of ONNX Runtime's log: its warnings tell users nothing they could act on."""


class OnnxNetwork:
    """One ONNX file."""

    def __init__(self, path: Path, threads: int = 0) -> None:
        """`threads`: CPU threads per call; 0: ONNX Runtime's choice."""
        options = onnxruntime.SessionOptions()
        options.log_severity_level = _ONLY_ERRORS
        options.intra_op_num_threads = threads
        self._session = onnxruntime.InferenceSession(
            path.read_bytes(), options, providers=["CPUExecutionProvider"]
        )

    def run(self, **inputs: Any) -> Float32Array:
        """Its one output `(B, d)` for named inputs of equal length B."""
        if len(next(iter(inputs.values()))) == 0:
            return np.zeros((0, self._session.get_outputs()[0].shape[1]), np.float32)
        output: Float32Array = self._session.run(None, inputs)[0]
        return output


class OnnxEngine:
    """An engine made of the two files that `export_student` writes."""

    def __init__(self, item_encoder: Path, set_encoder: Path, threads: int = 0) -> None:
        """`threads`: CPU threads per call; 0: ONNX Runtime's choice."""
        self._items = OnnxNetwork(item_encoder, threads)
        self._sets = OnnxNetwork(set_encoder, threads)

    @property
    def name(self) -> str:
        """Device."""
        return "onnx cpu"

    def encode_items(self, pixels: UInt8Array) -> Float32Array:
        """Item features `(B, 128)` of pictures `(B, H, W, 3)`, 0 to 255."""
        return self._items.run(pixels=pixels)

    def encode_outfits(self, features: Float32Array, mask: BoolArray) -> Float32Array:
        """Outfit vectors `(B, 128)` of features `(B, M, 128)` and mask `(B, M)`."""
        return self._sets.run(features=features, mask=mask)
