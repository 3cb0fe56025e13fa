"""Read every file of a data set once, in parallel, and hand on what was measured.

Threads, not processes: decoding and counting release Python's lock, and nothing has to be sent.
Only a few frames are in flight, so memory does not grow with the number of files.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
import os
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np

from offroad_seg_core.datasets.analysis.facts import (
    ImageFacts,
    LabelFacts,
    measure_image,
    measure_label,
)
from offroad_seg_core.datasets.analysis.scan_cache import ScanCache, fingerprint
from offroad_seg_core.datasets.frames import FrameFiles, FrameSet
from offroad_seg_core.datasets.masks import MaskReader
from offroad_seg_core.taxonomy import IGNORE_INDEX

_FRAMES_PER_LOOKUP = 256
_IN_FLIGHT_PER_WORKER = 8
_FACTS: dict[str, type[ImageFacts] | type[LabelFacts]] = {'image': ImageFacts, 'label': LabelFacts}


@dataclass(frozen=True)
class ScanOptions:
    """How to scan.

    Attributes:
        workers: Threads; 0 for one for each processor that this process may use.
        cache: File of earlier measurements, see ScanCache; None for none.
        images: Whether to read the pictures too, or the labels alone.
    """

    workers: int = 0
    cache: Path | None = None
    images: bool = True

    @property
    def num_workers(self) -> int:
        """The number of threads."""
        return self.workers or len(os.sched_getaffinity(0))


class Problem(NamedTuple):
    """Something to be looked at.

    Attributes:
        kind: ``unreadable``, ``size``, ``unknown values``, ``no labels``, ``duplicate``, ``leak``.
        text: What, with the files.
    """

    kind: str
    text: str


class FrameRecord(NamedTuple):
    """What is known of a frame.

    Attributes:
        position: Its place in the frame set.
        files: Its files.
        image: What was measured on the picture; None if it is broken or was not asked for.
        label: What was counted in the label file; None if it is broken or there is none.
        labels: Class id of each of ``label.values``, ``(K,)`` int16: 255 ignored, -1 unknown.
        problems: What is wrong with it.
    """

    position: int
    files: FrameFiles
    image: ImageFacts | None
    label: LabelFacts | None
    labels: np.ndarray | None
    problems: tuple[Problem, ...]


@dataclass
class _Part:
    """One file to measure (a label file goes with its mask of instances)."""

    key: str
    fingerprint: str | None
    facts: ImageFacts | LabelFacts | None = None
    problem: Problem | None = None
    is_new: bool = False


_Parts = dict[str, _Part]


def scan(
    frames: FrameSet, options: ScanOptions, progress: Callable[[], object] = lambda: None
) -> Iterator[FrameRecord]:
    """Yield a record for each frame, in order.

    A file that cannot be read is a problem of its record; the scan goes on. What was measured is
    cached even if the caller stops half-way. OpenCV's own threads are off meanwhile.

    Args:
        frames: What to scan.
        options: See ScanOptions.
        progress: Called after each frame.

    Raises:
        DatasetError: The cache cannot be used.
    """
    limit = _IN_FLIGHT_PER_WORKER * options.num_workers
    pending: deque[tuple[int, _Parts, Future[None] | None]] = deque()
    with (
        ScanCache(options.cache) as cache,
        _one_opencv_thread(),
        ThreadPoolExecutor(options.num_workers, 'scan') as pool,
    ):
        try:
            for index, parts in _look_up(frames, options, cache):
                is_known = all(part.facts is not None for part in parts.values())
                future = None if is_known else pool.submit(_measure, frames, index, parts)
                pending.append((index, parts, future))
                if len(pending) >= limit:
                    yield _finish(frames, cache, *pending.popleft())
                    progress()
            while pending:
                yield _finish(frames, cache, *pending.popleft())
                progress()
        finally:
            for _, _, future in pending:
                if future is not None:
                    future.cancel()


def _look_up(
    frames: FrameSet, options: ScanOptions, cache: ScanCache
) -> Iterator[tuple[int, _Parts]]:
    """Yield the parts of each frame, with the facts that the cache still knows."""
    for start in range(0, len(frames), _FRAMES_PER_LOOKUP):
        indices = range(start, min(start + _FRAMES_PER_LOOKUP, len(frames)))
        batch = [_parts(frames, index, options) for index in indices]
        every = [part for parts in batch for part in parts.values()]
        known = cache.look_up({part.key: part.fingerprint for part in every if part.fingerprint})
        for index, parts in zip(indices, batch, strict=True):
            for name, part in parts.items():
                if part.key in known:
                    part.facts = _FACTS[name].unpack(known[part.key])
            yield index, parts


def _parts(frames: FrameSet, index: int, options: ScanOptions) -> _Parts:
    files = frames.files[index]
    parts: _Parts = {}
    if options.images:
        parts['image'] = _part('image', files.image)
    if files.label is not None:
        instances = () if files.instances is None else (files.instances,)
        kind = f'label {frames.reader_of(index).format}'
        parts['label'] = _part(kind, files.label, *instances)
    return parts


def _part(kind: str, *paths: Path) -> _Part:
    key = '\n'.join((kind, *map(os.path.abspath, paths)))
    return _Part(key, fingerprint(*paths))


def _measure(frames: FrameSet, index: int, parts: _Parts) -> None:
    """Fill in what is missing; runs in a thread."""
    files = frames.files[index]
    for name, part in parts.items():
        if part.facts is not None:
            continue
        try:
            if name == 'image':
                part.facts = measure_image(files.image)
            else:
                assert files.label is not None  # else it would not be a part
                reader = frames.reader_of(index)
                part.facts = measure_label(files.label, reader, files.instances)
            part.is_new = True
        except (ValueError, OSError, cv2.error) as error:
            part.problem = Problem('unreadable', str(error))


def _finish(
    frames: FrameSet, cache: ScanCache, index: int, parts: _Parts, future: Future[None] | None
) -> FrameRecord:
    """Wait for the measuring, cache it and make the record."""
    if future is not None:
        future.result()
    for part in parts.values():
        if part.is_new and part.fingerprint is not None and part.facts is not None:
            cache.store(part.key, part.fingerprint, part.facts.pack())
    facts = {name: part.facts for name, part in parts.items()}
    image, label = facts.get('image'), facts.get('label')
    assert image is None or isinstance(image, ImageFacts)
    assert label is None or isinstance(label, LabelFacts)
    reader = frames.reader_of(index)
    files = frames.files[index]
    labels = None if label is None else reader.labels_of(label.values)
    problems = [part.problem for part in parts.values() if part.problem is not None]
    if label is not None and labels is not None:
        problems += _problems_of(files, image, label, labels, reader)
    return FrameRecord(index, files, image, label, labels, tuple(problems))


def _problems_of(
    files: FrameFiles,
    image: ImageFacts | None,
    label: LabelFacts,
    labels: np.ndarray,
    reader: MaskReader,
) -> Iterator[Problem]:
    if image is not None and image.size != label.size:
        yield Problem(
            'size',
            f'{files.label}: got {label.size}, expected {image.size} as of {files.image.name}',
        )
    if reader.unknown == 'error' and labels.size and labels.min() < 0:
        unknown = zip(label.values[labels < 0], label.counts[labels < 0], strict=True)
        found = ', '.join(f'{format_value(v, reader)} ({count} px)' for v, count in unknown)
        known = reader.source.name
        yield Problem('unknown values', f'{files.label}: {found} mean nothing in {known}')
    elif not ((labels >= 0) & (labels != IGNORE_INDEX)).any():
        yield Problem('no labels', f'{files.label}: every pixel is ignored')


def format_value(value: int, reader: MaskReader) -> str:
    """Return a stored value as it is written in taxonomies: a colour, or a number."""
    return f'#{value:06x}' if reader.format == 'colors' else str(value)


@contextmanager
def _one_opencv_thread() -> Iterator[None]:
    before = cv2.getNumThreads()
    cv2.setNumThreads(1)
    try:
        yield
    finally:
        cv2.setNumThreads(before)
