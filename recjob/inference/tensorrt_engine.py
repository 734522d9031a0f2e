"""Built engines on a GPU; one module for `tensorrt` and `tensorrt_rtx`, whose API is the same."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from recjob.errors import RecjobError
from recjob.inference.engine import BoolArray, Float32Array, UInt8Array
from recjob.inference.tensorrt_build import load_package, logger
from recjob.model.recommender import FEATURE_DIM


class TensorRTEngine:
    """An engine of two plan files. Batches beyond the largest that was built for are cut."""

    def __init__(self, kind: str, item_encoder: Path, set_encoder: Path) -> None:
        """Raises RecjobError where a plan does not fit this machine."""
        package = load_package(kind)
        if package is None or not torch.cuda.is_available():
            raise RecjobError(f"{kind} engines need the package {kind} and a GPU")
        self._kind = kind
        self._items = _Plan(package, item_encoder)
        self._sets = _Plan(package, set_encoder)

    @property
    def name(self) -> str:
        """Package and GPU."""
        return f"{self._kind} {torch.cuda.get_device_name()}"

    def encode_items(self, pixels: UInt8Array) -> Float32Array:
        """Item features `(B, 128)` of pictures `(B, H, W, 3)`, 0 to 255."""
        return self._items.run(pixels=pixels)

    def encode_outfits(self, features: Float32Array, mask: BoolArray) -> Float32Array:
        """Outfit vectors `(B, 128)` of features `(B, M, 128)` and mask `(B, M)`."""
        return self._sets.run(features=features, mask=mask)


class _Plan:
    """One deserialised plan with its execution context and stream."""

    def __init__(self, trt: Any, path: Path) -> None:
        self._log = logger(trt)  # the runtime keeps no reference of its own
        self._runtime = trt.Runtime(self._log)
        self._engine = self._runtime.deserialize_cuda_engine(path.read_bytes())
        if self._engine is None:
            raise RecjobError(f"{path}: does not fit this machine: {self._log.first_error}")
        self._context = self._engine.create_execution_context()
        if self._context is None:
            raise RecjobError(f"{path}: no memory to run it: {self._log.first_error}")
        self._path = path
        self._stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        names = [self._engine.get_tensor_name(i) for i in range(self._engine.num_io_tensors)]
        (self._output,) = [
            name for name in names if self._engine.get_tensor_mode(name) == trt.TensorIOMode.OUTPUT
        ]
        self._largest = {
            name: tuple(self._engine.get_tensor_profile_shape(name, 0)[2])
            for name in names
            if name != self._output
        }

    def run(self, **inputs: Any) -> Float32Array:
        """The output `(B, 128)` for inputs of equal length B, in as many parts as needed."""
        for name, array in inputs.items():
            largest = self._largest[name]
            if any(have > most for have, most in zip(array.shape[1:], largest[1:], strict=True)):
                raise ValueError(f"{name} {array.shape}: the engine takes at most {largest}")
        length = len(next(iter(inputs.values())))
        most = min(shape[0] for shape in self._largest.values())
        output = np.empty((length, FEATURE_DIM), np.float32)
        for start in range(0, length, most):
            part = slice(start, start + most)
            output[part] = self._run_part({name: array[part] for name, array in inputs.items()})
        return output

    def _run_part(self, inputs: dict[str, Any]) -> Float32Array:
        with torch.cuda.stream(self._stream):
            tensors: dict[str, Tensor] = {
                name: torch.from_numpy(np.array(array, order="C")).cuda()
                for name, array in inputs.items()
            }
            for name, tensor in tensors.items():
                self._context.set_input_shape(name, tuple(tensor.shape))
            shape = tuple(self._context.get_tensor_shape(self._output))
            tensors[self._output] = torch.empty(shape, dtype=torch.float32, device="cuda")
            for name, tensor in tensors.items():
                self._context.set_tensor_address(name, tensor.data_ptr())
            if not self._context.execute_async_v3(self._stream.cuda_stream):
                raise RecjobError(f"{self._path}: the engine failed: {self._log.first_error}")
            array: Float32Array = tensors[self._output].cpu().numpy()  # waits for the stream
        return array
