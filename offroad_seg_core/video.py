"""Write H.264 videos that browsers play; OpenCV's own writer cannot."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np

from offroad_seg_core.files import atomic_path

_MILLISECOND = Fraction(1, 1000)
# A size:quality trade that keeps fine ground texture; x264's scale is 0 (lossless) to 51. Without
# frames that lean on later ones, videos can be joined at any time.
_QUALITY = {'crf': '22', 'preset': 'veryfast', 'bf': '0'}


class VideoWriter:
    """Frames with their times, in an open video. Make one with open_video."""

    def __init__(self, container: Any, size: tuple[int, int]) -> None:
        self._container, self._size = container, size
        self._stream = container.add_stream('libx264', rate=30, options=_QUALITY)
        self._stream.height, self._stream.width = size[0] // 2 * 2, size[1] // 2 * 2
        self._stream.pix_fmt = 'yuv420p'
        self._stream.codec_context.time_base = _MILLISECOND
        self._last_ms = -1
        self.num_frames = 0

    def write(self, image_bgr: np.ndarray, time_s: float) -> None:
        """Add a frame.

        Args:
            image_bgr: (H, W, 3) uint8 of the video's size; an odd last row or column is cut.
            time_s: when it is shown, from the start of the video; at least 1 ms later than the
                frame before, or it is moved there.

        Raises:
            ValueError: another size.
        """
        if image_bgr.shape != (*self._size, 3) or image_bgr.dtype != np.uint8:
            got = f'{image_bgr.shape} {image_bgr.dtype}'
            raise ValueError(f'frame: got {got}; expected {(*self._size, 3)} uint8; resize it')
        even = image_bgr[: self._stream.height, : self._stream.width]
        frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(even), format='bgr24')
        self._last_ms = max(round(time_s * 1000), self._last_ms + 1)
        frame.pts, frame.time_base = self._last_ms, _MILLISECOND
        self._container.mux(self._stream.encode(frame))
        self.num_frames += 1

    def finish(self) -> None:
        """Flush the frames that the encoder still holds."""
        self._container.mux(self._stream.encode(None))


@contextmanager
def open_video(path: str | Path, size: tuple[int, int]) -> Iterator[VideoWriter]:
    """Write an mp4 that appears when the block ends well; an older file stays otherwise.

    Args:
        path: the file, ``.mp4``.
        size: (height, width) of the frames, px, 2 or more.
    """
    if min(size) < 2:
        raise ValueError(f'video size: got {size}; expected 2 px or more each way')
    with (
        atomic_path(path) as temporary,
        av.open(
            str(temporary), 'w', format='mp4', options={'movflags': '+faststart'}
        ) as container,
    ):
        writer = VideoWriter(container, size)
        yield writer
        writer.finish()


def join_videos(path: str | Path, pieces: Sequence[tuple[float, Path]]) -> None:
    """Put videos of open_video behind one another without encoding them again.

    Args:
        path: The file to make, ``.mp4``.
        pieces: (when it begins in the whole, s; file), in the order of time. Of another size than
            the first one, players show as they like.
    """
    with (
        atomic_path(path) as temporary,
        av.open(
            str(temporary), 'w', format='mp4', options={'movflags': '+faststart'}
        ) as container,
    ):
        output: Any = None
        last = -1
        for begin_s, piece in pieces:
            with av.open(str(piece)) as source:
                stream = source.streams.video[0]
                if output is None:
                    output = container.add_stream_from_template(stream)
                for packet in source.demux(stream):
                    if packet.pts is None:  # the end
                        continue
                    shift = round(begin_s / packet.time_base)
                    last = packet.pts = packet.dts = max(packet.pts + shift, last + 1)
                    packet.stream = output
                    container.mux(packet)
