"""Frames of a video file, as one camera's drive."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import av
from av.error import FFmpegError
import numpy as np
from numpy.typing import NDArray

from offroad_seg_core.bags.camera_images import CameraImage
from offroad_seg_core.evaluation.sources.frame import (
    FRAMES_A_PART,
    Frame,
    SourceError,
    UniqueNames,
    file_identity,
)

CAMERA = 'video'


class VideoFrames:
    """The frames of a video's first picture stream, at the times that it shows them.

    Args:
        path: Any file that FFmpeg reads.

    Raises:
        SourceError: It is no video.
    """

    can_seek = False

    def __init__(self, path: str | Path) -> None:
        self._path = Path(path)
        self.notes: list[str] = []
        if not self._path.is_file():
            raise SourceError(f'{path}: no such file; fix: give a video')
        try:
            with av.open(str(path)) as container:
                stream = container.streams.video[0]
                duration_s = float((container.duration or 0) / av.time_base)
                self.num_frames = stream.frames or round(
                    duration_s * float(stream.average_rate or 0)
                )
        except (FFmpegError, IndexError) as error:
            fix = 'give a file that FFmpeg plays'
            raise SourceError(f'{path}: got {error}; expected a video; {fix}') from error
        self._duration_s = duration_s
        self.num_parts = max(1, -(-self.num_frames // FRAMES_A_PART))

    def frames(self, first_part: int, names: UniqueNames) -> Iterator[tuple[int, Frame]]:
        """Yield (part, frame), see ``Source``; frames of earlier parts are decoded and left."""
        del names  # frames have their numbers
        with av.open(str(self._path)) as container:
            for index, picture in enumerate(self._pictures(container)):
                # The number of frames may have been an estimate: the last part takes the rest.
                part = min(index // FRAMES_A_PART, self.num_parts - 1)
                if part >= first_part:
                    yield part, _frame(index, picture)

    def _pictures(self, container: Any) -> Iterator[av.VideoFrame]:
        """Yield every picture that can be decoded."""
        stream = container.streams.video[0]
        stream.thread_type = 'AUTO'
        packets = container.demux(stream)
        while True:
            try:
                packet = next(packets, None)
                # Without a packet the decoder gives what it still holds.
                yield from stream.codec_context.decode(packet)
                if packet is None:
                    return
            except EOFError:  # it held nothing more
                return
            except FFmpegError as error:
                note = f'{self._path}: damaged, a part was not read: {error}'
                self.notes += [note] if note not in self.notes else []

    def identity(self) -> dict[str, Any]:
        """Return what the frames depend on."""
        return {'kind': 'video', 'files': file_identity(self._path)}

    def description(self) -> dict[str, Any]:
        """Return what people want to know of the video."""
        return {
            'kind': 'video',
            'path': str(self._path),
            'start_ns': None,
            'duration_s': self._duration_s,
            'cameras': {CAMERA: {'topic': '', 'num_messages': self.num_frames}},
        }


def _frame(index: int, picture: av.VideoFrame) -> Frame:
    stamp_ns = round((picture.time or 0.0) * 1e9)

    def load() -> CameraImage:
        pixels = np.asarray(picture.to_ndarray(format='bgr24'), np.uint8)
        side_data: Any = picture.side_data  # PyAV's types know no more than motion vectors
        if 'DISPLAYMATRIX' in side_data:
            pixels = _as_shown(pixels, bytes(side_data['DISPLAYMATRIX']))
        return CameraImage(pixels, 'bgr')

    return Frame(CAMERA, f'{index:06d}', stamp_ns, stamp_ns, load, environment=CAMERA)


def _as_shown(pixels: NDArray[np.uint8], matrix: bytes) -> NDArray[np.uint8]:
    """Return stored pixels ``(H, W, 3)`` turned and mirrored as players show them.

    PyAV's angle alone takes a mirrored picture for one that is upside down.

    Args:
        pixels: As stored.
        matrix: 3x3 int32, which the row (x, y, 1) of a stored place is multiplied by.
    """
    turn = np.frombuffer(matrix, np.int32).reshape(3, 3)[:2, :2]
    if abs(turn[0, 0]) < abs(turn[0, 1]):  # a phone held upright
        pixels, turn = pixels.swapaxes(0, 1), turn[::-1]
    x_step, y_step = (-1 if factor < 0 else 1 for factor in turn.diagonal())
    return np.ascontiguousarray(pixels[::y_step, ::x_step])
