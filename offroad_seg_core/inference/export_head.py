"""Put the argmax and the confidence into a bundle's graphs, and check what they compute.

What a fused graph takes and gives stands in inference/label_head.py.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
import tempfile
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
import onnx

from offroad_seg_core.inference.bundle import Bundle, write_bundle
from offroad_seg_core.inference.decode import softmax
from offroad_seg_core.inference.export import ExportError, sample_images
from offroad_seg_core.inference.graph_names import (
    CONFIDENCE,
    IMAGES,
    LABEL_MAP,
    LOGIT_BIAS,
    LOGITS,
    TEMPERATURE,
)
from offroad_seg_core.inference.head import HeadInputs
from offroad_seg_core.inference.label_head import add_head, logits_only

MIN_LABEL_AGREEMENT = 0.9999
MAX_CONFIDENCE_ERROR = 1e-3


@dataclass(frozen=True)
class HeadParity:
    """How far a fused graph is from its own logits, decoded outside of it.

    Attributes:
        label_agreement: Share of pixels with the same label, in the worst case.
        max_confidence_error: Largest difference of a probability.
        max_logit_error: Largest difference to the logits of the graph without a head.
    """

    label_agreement: float
    max_confidence_error: float
    max_logit_error: float


def fuse_bundle(
    bundle: Bundle, output: str | Path, label_stride: int, report: Mapping[str, Any]
) -> Bundle:
    """Write a bundle whose graphs give labels and confidence beside the logits.

    Args:
        bundle: Of kind logits, or a fused one whose labels are to have another stride.
        output: Folder of the new bundle; may be that of the old one.
        label_stride: Input pixels a label stands for; divides the stride of the logits.
        report: What that costs, for the manifest's metrics.

    Raises:
        ExportError: The bundle ends in labels alone, or a graph does not compute what its logits
            say.
        BundleError: See write_bundle.
    """
    outputs = bundle.manifest.outputs
    if outputs.kind == 'labels':
        raise ExportError(f'{bundle.path}: ends in labels; expected a bundle that gives logits')
    manifest = bundle.manifest.model_dump(mode='json', exclude={'files', 'format_version'})
    manifest['name'] = Path(output).name
    manifest['outputs'].update(kind='fused', label_stride=label_stride)
    parities = {}
    with tempfile.TemporaryDirectory() as folder:
        files = dict(bundle.frames)
        for model in bundle.manifest.models:
            plain = logits_only(onnx.load(bundle.path / model.file))
            file = files[model.file] = Path(folder) / model.file
            file.parent.mkdir(parents=True, exist_ok=True)
            onnx.save(add_head(plain, outputs.stride, label_stride), file)
            parity = check_head(plain, file, bundle.manifest.input.stride)
            parities[model.precision] = asdict(parity)
        manifest['metrics']['fused_head'] = {**report, 'parity': parities}
        return write_bundle(output, manifest, files)


def check_head(plain: onnx.ModelProto, fused: Path, multiple: int) -> HeadParity:
    """Hold a fused file against the logits of the graph that it was made from.

    Args:
        plain: The graph without the head.
        fused: The file with it.
        multiple: Heights and widths are multiples of this.

    Raises:
        ExportError: Labels, probabilities or logits differ by more than the tolerance.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    sessions = [
        onnxruntime.InferenceSession(model, options, ['CPUExecutionProvider'])
        for model in (plain.SerializeToString(), str(fused))
    ]
    agreements, sure_errors, logit_errors = [], [], []
    for index, size in enumerate([(4 * multiple, 6 * multiple), (7 * multiple, 5 * multiple)]):
        images = sample_images(size, seed=index).numpy()
        (expected,) = sessions[0].run([LOGITS], {IMAGES: images})
        for head in _test_heads(expected.shape[1]):
            feeds = {IMAGES: images, LOGIT_BIAS: head.logit_bias}
            feeds[TEMPERATURE] = np.array(head.temperature, np.float32)
            names = [LOGITS, LABEL_MAP, CONFIDENCE]
            logits, label_map, confidence = sessions[1].run(names, feeds)
            labels, sure = decoded(expected, head, label_map.shape[1:])
            agreements.append(np.mean(label_map == labels))
            sure_errors.append(np.abs(confidence - sure).max())
            logit_errors.append(np.abs(logits - expected).max())
    parity = HeadParity(float(min(agreements)), float(max(sure_errors)), float(max(logit_errors)))
    is_near = parity.max_confidence_error <= MAX_CONFIDENCE_ERROR
    if not is_near or parity.label_agreement < MIN_LABEL_AGREEMENT:
        raise ExportError(
            f'{fused}: the head differs from its logits: {parity}; expected a label agreement '
            f'>= {MIN_LABEL_AGREEMENT} and a confidence error <= {MAX_CONFIDENCE_ERROR}'
        )
    return parity


def decoded(
    logits: NDArray[np.float32], head: HeadInputs, label_size: tuple[int, ...]
) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    """Return labels ``(N, *label_size)`` and confidences ``(N, h, w)`` of ``(N, C, h, w)``."""
    scores = logits / np.float32(head.temperature) + head.logit_bias[:, None, None]
    labels = [
        np.stack([cv2.resize(plane, label_size[::-1]) for plane in image]).argmax(axis=0)
        for image in scores
    ]
    confidence = [softmax(image).max(axis=0) for image in scores]
    return np.stack(labels).astype(np.uint8), np.stack(confidence)


def _test_heads(num_classes: int) -> list[HeadInputs]:
    """Return a neutral head, one with a prior and a temperature, and one with absent classes."""
    rng = np.random.default_rng(0)
    prior = HeadInputs(rng.normal(size=num_classes).astype(np.float32), 1.7)
    everything = range(num_classes)
    heads = [HeadInputs.of_classes(num_classes, ids) for ids in (everything, everything[::2])]
    return [*heads, prior]
