"""What engines share that run the graph of gpu_graph."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from offroad_seg_core.inference.bundle import Bundle
from offroad_seg_core.inference.engines.base import EngineError, EngineInfo, EngineOutput
from offroad_seg_core.inference.graph_names import (
    CAMERA,
    CONFIDENCE,
    LABEL_MAP,
    LOGIT_BIAS,
    LOGITS,
    TEMPERATURE,
)
from offroad_seg_core.inference.head import HeadInputs


class GraphEngine:
    """Feeds images one by one and sorts what comes back; the library's part is `_infer`."""

    def __init__(self, bundle: Bundle, library: str, version: str, precision: str, gpu: str):
        outputs = bundle.manifest.outputs
        self._bundle = bundle
        self._ends_in_labels = outputs.kind == 'labels'
        self._own_outputs = (LABEL_MAP, CONFIDENCE)[: 1 + outputs.has_confidence]
        num_classes = 0 if self._ends_in_labels else outputs.num_classes
        gives_labels = not self._ends_in_labels
        self.info = EngineInfo(library, precision, gpu, version, num_classes, gives_labels)
        self._is_closed = False
        self._neutral: dict[str, NDArray[Any]] = {}
        if not self._ends_in_labels:
            self._neutral[LOGIT_BIAS] = np.zeros(outputs.num_classes, np.float32)
            self._neutral[TEMPERATURE] = np.ones((), np.float32)

    def run(self, images: NDArray[np.uint8]) -> EngineOutput:
        """See Engine.run. A new input size is made ready once, which may take minutes."""
        wanted = self._own_outputs if self._ends_in_labels else (LOGITS,)
        return self._run(images, wanted, self._neutral)

    def run_labels(self, images: NDArray[np.uint8], head: HeadInputs) -> EngineOutput:
        """See LabelEngine.run_labels."""
        if self._ends_in_labels:
            raise EngineError(f'{self._bundle.path}: ends in labels; expected a graph of logits')
        temperature = np.array(head.temperature, np.float32)
        inputs = {LOGIT_BIAS: head.logit_bias, TEMPERATURE: temperature}
        return self._run(images, (LABEL_MAP, CONFIDENCE), inputs)

    def close(self) -> None:
        """See Engine.close."""
        self._is_closed = True

    def _run(
        self, images: NDArray[np.uint8], wanted: tuple[str, ...], inputs: dict[str, NDArray[Any]]
    ) -> EngineOutput:
        if self._is_closed:
            raise EngineError('the engine was closed')
        runs = [self._infer({CAMERA: image[np.newaxis], **inputs}, wanted) for image in images]
        merged = {
            name: parts[0] if len(parts) == 1 else np.concatenate(parts)
            for name, *parts in zip(wanted, *runs, strict=True)
        }
        return EngineOutput(merged.get(LOGITS), merged.get(LABEL_MAP), merged.get(CONFIDENCE))

    def _infer(
        self, inputs: dict[str, NDArray[Any]], wanted: tuple[str, ...]
    ) -> list[NDArray[Any]]:
        """Return the wanted outputs for one image, ``(1, H, W, 3)`` under the name CAMERA."""
        raise NotImplementedError
