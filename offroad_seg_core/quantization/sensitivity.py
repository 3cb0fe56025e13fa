"""Which parts of a network suffer most from int8, measured one by one."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
import onnxruntime

from offroad_seg_core.inference.decode import softmax
from offroad_seg_core.inference.graph_names import IMAGES, LOGITS
from offroad_seg_core.quantization.int8 import Quantizer


def sensitivity(
    quantizer: Quantizer, batches: Sequence[NDArray[np.float32]], folder: Path
) -> dict[str, float]:
    """Return what each block costs when it alone is int8, the most sensitive first.

    The cost is the Kullback-Leibler divergence of the probabilities from the float network's, in
    nats, averaged over pixels. It needs no labels, so it is measured on calibration frames.

    Args:
        quantizer: Of the network.
        batches: Inputs, each float32 ``(1, 3, H, W)``.
        folder: For files in between.
    """
    expected = [_log_probs(logits) for logits in _logits(quantizer.prepared, batches)]
    costs = {}
    for block in quantizer.blocks:
        file = folder / 'one_block.onnx'
        quantizer.write(file, [name for name in quantizer.blocks if name != block])
        found = [_log_probs(logits) for logits in _logits(file, batches)]
        costs[block] = float(
            np.mean([divergence(p, q) for p, q in zip(expected, found, strict=True)])
        )
    return dict(sorted(costs.items(), key=lambda item: -item[1]))


def divergence(log_p: NDArray[np.float32], log_q: NDArray[np.float32]) -> float:
    """Return KL(p || q) in nats, the mean over the pixels of ``(C, h, w)`` log-probabilities."""
    return float((np.exp(log_p) * (log_p - log_q)).sum(axis=0).mean())


def _log_probs(logits: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.log(np.maximum(softmax(logits), 1e-12))


def _logits(file: Path, batches: Sequence[NDArray[np.float32]]) -> list[NDArray[np.float32]]:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(file, options, ['CPUExecutionProvider'])
    return [session.run([LOGITS], {IMAGES: images})[0][0] for images in batches]
