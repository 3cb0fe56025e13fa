"""Do the engines of this machine compute the same, and how fast: against ONNX Runtime in float32.

Engines round differently, so labels are compared and not bits. The reference is no truth about
the terrain: an IoU of 1 means that both engines say the same.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
import logging
import os
from pathlib import Path
from typing import Any, Literal, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from offroad_seg_core.inference.bundle import Bundle, BundleError
from offroad_seg_core.inference.engines import (
    ENGINES,
    EngineError,
    EngineInfo,
    EngineUnavailableError,
    create_engine,
    precisions_of,
)
from offroad_seg_core.inference.preprocess import Geometry, Preprocessor
from offroad_seg_core.inference.segmenter import Segmenter, SegmenterOptions
from offroad_seg_core.metrics.confusion_matrix import ConfusionMatrix

log = logging.getLogger(__name__)

MIN_AGREEMENT = {'fp32': 0.999, 'fp16': 0.99, 'bf16': 0.97, 'int8': 0.95}
"""Share of pixels with the reference's label, by precision."""
REFERENCE = ('onnxruntime', 'fp32')
_RENDERED_SIZE = (544, 960)


@dataclass(frozen=True)
class EngineResult:
    """What was found about one engine in one precision."""

    engine: str
    precision: str
    status: Literal['agrees', 'disagrees', 'fails', 'unavailable']
    reason: str = ''
    """Why it is not `agrees`."""
    version: str = ''
    device: str = ''
    label_agreement: float | None = None
    """Share of pixels with the reference's label, 0 to 1."""
    max_error: float | None = None
    """Largest difference of a logit over the reference's largest logit; None without logits."""
    iou_drop: dict[str, float] | None = None
    """Class → 1 - IoU with the reference's labels, of classes that occur."""
    p50_ms: float | None = None
    p95_ms: float | None = None
    p99_ms: float | None = None
    """Of the engine's part of a frame."""
    memory_mib: float | None = None
    """What the process grew by; memory of the GPU is not in it."""


@dataclass(frozen=True)
class _Answers:
    labels: list[NDArray[np.uint8]]
    logits: list[NDArray[np.float32] | None]
    times_ms: list[float]


def check_engines(
    bundle: Bundle,
    images: Sequence[NDArray[np.uint8]],
    names: Iterable[str] = tuple(ENGINES),
    num_runs: int = 50,
    cache_folder: Path | None = None,
) -> list[EngineResult]:
    """Run every engine that this machine has, in every precision, on the same frames.

    Args:
        bundle: what they run.
        images: uint8 ``(H, W, 3)`` BGR; at least one.
        names: keys of ENGINES.
        num_runs: timed runs of each.
        cache_folder: see create_engine.

    Raises:
        EngineError: the reference cannot run.
    """
    reference, _, _ = _run(bundle, *REFERENCE, images, 0, cache_folder)
    results = []
    for name in names:
        for precision in _precisions(name, bundle):
            log.info('checking %s %s', name, precision)
            try:
                answers, info, memory_mib = _run(
                    bundle, name, precision, images, num_runs, cache_folder
                )
            except (EngineError, BundleError) as error:
                is_missing = isinstance(error, EngineUnavailableError)
                status: Literal['unavailable', 'fails'] = 'unavailable' if is_missing else 'fails'
                results.append(EngineResult(name, precision, status, str(error)))
                continue
            results.append(
                EngineResult(
                    name,
                    precision,
                    version=info.version,
                    device=info.device,
                    memory_mib=memory_mib,
                    **_compared(answers, reference, bundle, precision),
                    **_latency(answers.times_ms),
                )
            )
    return results


class CheckFrames(NamedTuple):
    """Frames to check engines on."""

    images: list[NDArray[np.uint8]]
    """BGR, ``(H, W, 3)`` each."""
    origin: str
    """Where they are from, for people."""


def check_frames(bundle: Bundle, folder: Path | None = None) -> CheckFrames:
    """Return frames to check engines on.

    Those of the folder; else the bundle's own; else two of the procedural desert.

    Raises:
        ValueError: the folder holds no readable picture.
    """
    if folder is not None:
        paths = [path for path in sorted(folder.iterdir()) if path.is_file()]
    else:
        paths = list(bundle.frames.values())
    read = [cv2.imread(str(path)) for path in paths]
    images: list[NDArray[np.uint8]] = [image for image in read if image is not None]
    if images:
        return CheckFrames(images, 'the bundle' if folder is None else str(folder))
    if folder is not None:
        raise ValueError(
            f'{folder}: got no readable picture among {len(paths)} files, expected JPEG or PNG'
        )
    from offroad_seg_core.world import DEMO_SEED, Drive

    drive = Drive(DEMO_SEED, 2, size=_RENDERED_SIZE)
    frames = [drive.frame(1, camera).frame for camera in drive.cameras]
    rendered = [np.ascontiguousarray(frame.image_rgb[:, :, ::-1]) for frame in frames]
    return CheckFrames(rendered, 'the procedural desert')


def is_good(results: Sequence[EngineResult]) -> bool:
    """Tell whether at least one engine ran and none disagreed or failed."""
    ran = [result for result in results if result.status != 'unavailable']
    return bool(ran) and all(result.status == 'agrees' for result in ran)


def _precisions(name: str, bundle: Bundle) -> list[str]:
    return [
        entry for entry in precisions_of(name) if entry != 'int8' or entry in bundle.precisions
    ]


def _run(
    bundle: Bundle,
    name: str,
    precision: str,
    images: Sequence[NDArray[np.uint8]],
    num_runs: int,
    cache_folder: Path | None,
) -> tuple[_Answers, EngineInfo, float]:
    before_mib = _memory_mib()
    engine = create_engine(bundle, name, precision, cache_folder=cache_folder)
    try:
        # `labels` so that the head in the graph is checked too, whichever is faster.
        segmenter = Segmenter(bundle, engine, SegmenterOptions(output_size='engine'), 'labels')
        labels = [segmenter.segment(image).label_map.copy() for image in images]
        memory_mib = _memory_mib() - before_mib
        times_ms = [
            segmenter.segment(images[turn % len(images)]).timings.engine_ms
            for turn in range(num_runs)
        ]
        spec = bundle.manifest.input
        preprocessor = Preprocessor(spec)
        logits: list[NDArray[np.float32] | None] = []
        for image in images:  # one by one: batches and logits are buffers that are used again
            geometry = Geometry.fit(image.shape[:2], 0, spec)
            found = engine.run(preprocessor.prepare(image, 'bgr', geometry)).logits
            logits.append(None if found is None else found.copy())
        return _Answers(labels, logits, times_ms), engine.info, memory_mib
    finally:
        engine.close()


def _compared(
    answers: _Answers, reference: _Answers, bundle: Bundle, precision: str
) -> dict[str, Any]:
    matrix = ConfusionMatrix(bundle.taxonomy.num_classes)
    for labels, expected in zip(answers.labels, reference.labels, strict=True):
        matrix.update(labels, expected)
    agreement, minimum = matrix.pixel_accuracy, MIN_AGREEMENT[precision]
    drops = 1 - matrix.iou()
    occurring = {
        name: float(drop)
        for name, drop in zip(bundle.taxonomy.names, drops, strict=True)
        if not np.isnan(drop)
    }
    errors = [
        float(np.abs(mine - theirs).max() / np.abs(theirs).max())
        for mine, theirs in zip(answers.logits, reference.logits, strict=True)
        if mine is not None and theirs is not None
    ]
    has_nan = bool(np.isnan(errors).any())
    agrees = agreement >= minimum and not has_nan
    reason = f'got a label agreement of {agreement:.4f}, expected at least {minimum}'
    if has_nan:
        reason = 'got logits that are not numbers; fix: another precision'
    return {
        'status': 'agrees' if agrees else 'disagrees',
        'reason': '' if agrees else reason,
        'label_agreement': agreement,
        'max_error': None if has_nan else max(errors, default=None),
        'iou_drop': occurring,
    }


def _latency(times_ms: list[float]) -> dict[str, Any]:
    if not times_ms:
        return {}
    values = np.percentile(times_ms, (50, 95, 99))
    names = ('p50_ms', 'p95_ms', 'p99_ms')
    return {name: float(value) for name, value in zip(names, values, strict=True)}


def _memory_mib() -> float:
    pages = int(Path('/proc/self/statm').read_text(encoding='ascii').split()[1])
    return pages * os.sysconf('SC_PAGE_SIZE') / 2**20
