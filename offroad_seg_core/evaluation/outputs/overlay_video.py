"""One video a camera: its pictures with the traversability overlay, ``overlay_<camera>.mp4``."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from offroad_seg_core.evaluation.outputs.sink import Labelled, safe_name
from offroad_seg_core.legend import LegendEntry, draw_legend
from offroad_seg_core.lookup import lookup
from offroad_seg_core.video import VideoWriter, join_videos, open_video
from offroad_seg_core.visualization import DEFAULT_ALPHA, fit_inside, overlay

_MAX_WIDTH_PX = 1280


def draw_overlay(
    labelled: Labelled, cost_table: np.ndarray, alpha: float, max_width_px: int
) -> np.ndarray:
    """Return a frame with its traversability overlay, BGR ``(H, W, 3)`` uint8.

    Args:
        labelled: The frame.
        cost_table: ``(256,)`` uint8, class id -> cost.
        alpha: Share of the colour.
        max_width_px: Larger frames are reduced first.
    """
    image = labelled.image.bgr()
    height, width = image.shape[:2]
    if width > max_width_px:
        height, width = round(height * max_width_px / width), max_width_px
        image = cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA)
    costs = lookup(labelled.prediction.label_map, cost_table)
    if costs.shape != (height, width):
        costs = cv2.resize(costs, (width, height), interpolation=cv2.INTER_NEAREST_EXACT)
    return overlay(image, costs, alpha=alpha)


class OverlayVideo:
    """Writes the videos, each frame at its time of recording after the camera's first one.

    Args:
        cost_table: ``(256,)`` uint8, class id -> cost.
        legend: What the colours mean.
        alpha: Share of the colour.
    """

    def __init__(
        self,
        cost_table: np.ndarray,
        legend: tuple[LegendEntry, ...],
        alpha: float = DEFAULT_ALPHA,
    ) -> None:
        self._costs, self._legend, self._alpha = cost_table, legend, alpha
        self._stack = ExitStack()
        self._videos: dict[str, tuple[VideoWriter, int, tuple[int, int]]] = {}

    def identity(self) -> Any:
        """Return what it draws."""
        return ['video', self._alpha]

    def begin(self, folder: Path, part: Path) -> None:
        """Start a part, see Sink."""
        del folder
        self._part = part
        self._videos = {}

    def prepare(self, labelled: Labelled) -> np.ndarray:
        """Draw a frame, see Sink."""
        drawn = draw_overlay(labelled, self._costs, self._alpha, _MAX_WIDTH_PX)
        draw_legend(drawn, self._legend, 'bottom_left', max(8, drawn.shape[0] // 55))
        return drawn

    def add(self, labelled: Labelled, prepared: np.ndarray) -> None:
        """Encode a frame, see Sink."""
        camera = safe_name(labelled.frame.camera)
        if camera not in self._videos:
            size = prepared.shape[0], prepared.shape[1]
            first_ms = labelled.frame.time_ns // 1_000_000
            # The part's place in time is in the name, since a video begins at zero.
            path = self._part / f'{camera}.{first_ms:020d}.mp4'
            self._videos[camera] = (
                self._stack.enter_context(open_video(path, size)),
                first_ms,
                size,
            )
        video, first_ms, size = self._videos[camera]
        if prepared.shape[:2] != size:  # the camera changed its size
            prepared = fit_inside(prepared, size)
        video.write(prepared, (labelled.frame.time_ns - first_ms * 1_000_000) / 1e9)

    def commit(self) -> None:
        """Complete the part's videos."""
        self._stack.close()

    def close(self) -> None:
        """Close what is open, see Sink."""
        self._stack.close()

    def finish(self, folder: Path, parts: list[Path]) -> None:
        """Join the parts, see Sink."""
        pieces: dict[str, list[tuple[int, Path]]] = {}
        for part in parts:
            for path in sorted(part.glob('*.mp4')):
                camera, first_ms, _ = path.name.rsplit('.', 2)
                pieces.setdefault(camera, []).append((int(first_ms), path))
        for camera, files in pieces.items():
            begin_ms = files[0][0]
            timed = [((first_ms - begin_ms) / 1e3, path) for first_ms, path in files]
            join_videos(folder / f'overlay_{camera}.mp4', timed)
