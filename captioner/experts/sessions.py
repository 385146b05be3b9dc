"""How weights become a session: one thread, in order, so that equal pixels give equal numbers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Pixels = NDArray[np.uint8]  # (height, width, 3) RGB


class Network:
    """One ONNX model on the CPU; call it with its input, get all of its outputs."""

    def __init__(self, path: Path) -> None:
        options = ort.SessionOptions()
        options.intra_op_num_threads = 1  # several worker processes share a machine
        options.inter_op_num_threads = 1
        options.execution_mode = ort.ExecutionMode.ORT_SEQUENTIAL
        options.log_severity_level = 3
        self._session = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        self._input = self._session.get_inputs()[0].name

    def __call__(self, batch: Floats) -> list[Floats]:
        """batch: (1, 3, height, width); the outputs in the model's own order."""
        return list(self._session.run(None, {self._input: batch}))
