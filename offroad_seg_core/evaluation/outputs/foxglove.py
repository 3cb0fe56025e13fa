"""One mcap file for Foxglove: pictures, overlays, outlines of obstacles, figures to plot."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
import json
from pathlib import Path
from typing import Any

import cv2
from mcap.reader import make_reader
from mcap.writer import Writer
import numpy as np

from offroad_seg_core.bags.camera_topics import COMPRESSED_TYPE
from offroad_seg_core.bags.definitions import Definitions
from offroad_seg_core.evaluation.outputs.overlay_video import draw_overlay
from offroad_seg_core.evaluation.outputs.sink import Labelled, safe_name
from offroad_seg_core.files import atomic_path
from offroad_seg_core.lookup import lookup
from offroad_seg_core.metrics.segmentation import DEFAULT_COSTLY_FROM
from offroad_seg_core.taxonomy import UNKNOWN_COST
from offroad_seg_core.visualization import DEFAULT_ALPHA

ANNOTATIONS, FIGURES = 'foxglove.ImageAnnotations', 'offroad_seg.Figures'
_MAX_WIDTH_PX = 1280
_MAX_OUTLINES = 40
_MIN_OUTLINE_SHARE = 2e-4
"""Of the picture: smaller regions are left without an outline."""
_LINE_LOOP = 2
_RED = {'r': 0.78, 'g': 0.0, 'b': 0.24, 'a': 1.0}
_JPEG = [cv2.IMWRITE_JPEG_QUALITY, 85]
_FILE = 'foxglove.mcap'
_PLOTTED = ('miou_present', 'false_safe_rate', 'mean_confidence')


class FoxgloveFile:
    """Writes the file, and a layout for it beside it.

    Args:
        path: The file, ``.mcap``; the layout is ``.layout.json``.
        cost_table: ``(256,)`` uint8, class id -> cost.
        alpha: Share of the colour in overlays.
        output: Where the result will be: what is named inside it grows with it.
    """

    def __init__(
        self,
        path: Path,
        cost_table: np.ndarray,
        alpha: float = DEFAULT_ALPHA,
        output: Path | None = None,
    ) -> None:
        if path.suffix != '.mcap' or path.is_dir():
            raise ValueError(
                f'--mcap: got {path}; expected a name that ends with .mcap, of no folder'
            )
        self._path, self._output = path.resolve(), output and output.resolve()
        self._costs, self._alpha = cost_table, alpha
        self._file: _Channels | None = None

    def identity(self) -> Any:
        """Return what it writes."""
        return ['foxglove', str(self._path), self._alpha]

    def begin(self, folder: Path, part: Path) -> None:
        """Start a part, see Sink."""
        del folder
        self._file = _Channels(part / _FILE)

    def prepare(self, labelled: Labelled) -> dict[str, Any]:
        """Draw and compress, see Sink."""
        plain = draw_overlay(labelled, self._costs, 0.0, _MAX_WIDTH_PX)
        drawn = draw_overlay(labelled, self._costs, self._alpha, _MAX_WIDTH_PX)
        outlines = _outlines(labelled.prediction.label_map, self._costs, drawn.shape[:2])
        return {
            'image': cv2.imencode('.jpg', plain, _JPEG)[1],
            'overlay': cv2.imencode('.jpg', drawn, _JPEG)[1],
            'outlines': outlines,
        }

    def add(self, labelled: Labelled, prepared: Mapping[str, Any]) -> None:
        """Write a frame's messages, see Sink."""
        assert self._file is not None  # begin comes first
        frame, base = labelled.frame, f'/{safe_name(labelled.frame.camera)}'
        for name in ('image', 'overlay'):
            data = _compressed_image(frame.stamp_ns, frame.frame_id, prepared[name])
            self._file.write(f'{base}/{name}', COMPRESSED_TYPE, frame.time_ns, data)
        stamp = dict(zip(('sec', 'nsec'), divmod(frame.stamp_ns, 1_000_000_000), strict=True))
        annotations = _annotations(stamp, labelled.row, prepared['outlines'])
        figures = {name: v for name, v in labelled.row.items() if isinstance(v, (int, float))}
        for name, kind, content in (
            ('annotations', ANNOTATIONS, annotations),
            ('figures', FIGURES, {'timestamp': stamp, **figures}),
        ):
            data = json.dumps(content).encode()
            self._file.write(f'{base}/{name}', kind, frame.time_ns, data)

    def commit(self) -> None:
        """Complete the part's file."""
        file, self._file = self._file, None
        if file is not None:
            file.close()

    def close(self) -> None:
        """Close the part's file, which is lost, see Sink."""
        self.commit()

    def finish(self, folder: Path, parts: list[Path]) -> None:
        """Put the parts into one file, see Sink."""
        place, cameras = self._place(folder), dict[str, None]()
        with atomic_path(place) as path:
            joined = _Channels(path)
            for part in parts:
                with (part / _FILE).open('rb') as stream:
                    for schema, channel, message in make_reader(stream).iter_messages():
                        assert schema is not None  # each channel here has one
                        joined.write(channel.topic, schema.name, message.log_time, message.data)
                        cameras[channel.topic.split('/')[1]] = None
            joined.close()
        # Only now all cameras are known: those of a drive behind a URL were not before.
        with atomic_path(place.with_suffix('.layout.json')) as path:
            path.write_text(json.dumps(foxglove_layout(tuple(cameras)), indent=1) + '\n', 'utf-8')

    def _place(self, folder: Path) -> Path:
        """Return where the file goes now: the result takes the place of what is there."""
        if self._output and self._path.is_relative_to(self._output):
            return folder / self._path.relative_to(self._output)
        return self._path


class _Channels:
    """An mcap file with a channel for each topic."""

    def __init__(self, path: Path) -> None:
        self._stream = path.open('wb')
        self._writer = Writer(self._stream)
        self._writer.start(profile='', library='offroad_seg')
        self._channels: dict[str, int] = {}
        self._schemas: dict[str, int] = {}

    def write(self, topic: str, kind: str, time_ns: int, data: bytes) -> None:
        is_ros = kind == COMPRESSED_TYPE
        if kind not in self._schemas:
            encoding = 'ros2msg' if is_ros else 'jsonschema'
            self._schemas[kind] = self._writer.register_schema(kind, encoding, _schema(kind))
        if topic not in self._channels:
            encoding = 'cdr' if is_ros else 'json'
            channel = self._writer.register_channel(topic, encoding, self._schemas[kind])
            self._channels[topic] = channel
        self._writer.add_message(self._channels[topic], time_ns, data, time_ns)

    def close(self) -> None:
        self._writer.finish()
        self._stream.close()


@cache
def _definitions() -> Definitions:
    return Definitions()


@cache
def _schema(kind: str) -> bytes:
    if kind == COMPRESSED_TYPE:
        return _definitions().store.generate_msgdef(kind, ros_version=2)[0].encode()
    return json.dumps({'title': kind, 'type': 'object'}).encode()


def _compressed_image(stamp_ns: int, frame_id: str, data: np.ndarray) -> bytes:
    types, serialize = _definitions().store.types, _definitions().store.serialize_cdr
    stamp = types['builtin_interfaces/msg/Time'](*divmod(stamp_ns, 1_000_000_000))
    header = types['std_msgs/msg/Header'](stamp, frame_id)
    message = types[COMPRESSED_TYPE](header, 'jpeg', data.reshape(-1))
    return bytes(serialize(message, COMPRESSED_TYPE))


def _outlines(
    label_map: np.ndarray, cost_table: np.ndarray, size: tuple[int, int]
) -> list[list[dict[str, float]]]:
    """Return the outlines of costly regions, largest first, in pixels of a picture of ``size``."""
    costs = lookup(label_map, cost_table)
    costly = cv2.inRange(costs, DEFAULT_COSTLY_FROM, UNKNOWN_COST - 1)
    small = cv2.resize(costly, size[::-1], interpolation=cv2.INTER_NEAREST_EXACT)
    found, _ = cv2.findContours(small, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
    smallest = _MIN_OUTLINE_SHARE * small.size
    large = sorted((c for c in found if cv2.contourArea(c) >= smallest), key=cv2.contourArea)
    return [
        [{'x': float(x), 'y': float(y)} for x, y in cv2.approxPolyDP(contour, 1.5, True)[:, 0]]
        for contour in large[::-1][:_MAX_OUTLINES]
    ]


def _annotations(
    stamp: Mapping[str, int], row: Mapping[str, Any], outlines: Sequence[Any]
) -> dict[str, Any]:
    told = [
        f'{title} {row[name]:.3f}'
        for name, title in (('miou_present', 'mIoU'), ('mean_confidence', 'confidence'))
        if row.get(name) is not None
    ]
    return {
        'circles': [],
        'points': [
            {
                'timestamp': stamp,
                'type': _LINE_LOOP,
                'points': points,
                'outline_color': _RED,
                'outline_colors': [],
                'fill_color': {**_RED, 'a': 0.0},
                'thickness': 2.0,
            }
            for points in outlines
        ],
        'texts': [
            {
                'timestamp': stamp,
                'position': {'x': 8.0, 'y': 24.0},
                'text': ', '.join(told),
                'font_size': 18.0,
                'text_color': {'r': 1.0, 'g': 1.0, 'b': 1.0, 'a': 1.0},
                'background_color': {'r': 0.0, 'g': 0.0, 'b': 0.0, 'a': 0.6},
            }
        ]
        if told
        else [],
    }


def foxglove_layout(cameras: Sequence[str]) -> dict[str, Any]:
    """Return a layout: picture and overlay of each camera above one plot of their figures."""
    panels: dict[str, Any] = {}
    rows: list[Any] = []
    for camera in cameras:
        names = []
        for output in ('image', 'overlay'):
            names.append(f'Image!{camera}_{output}')
            shown = {f'/{camera}/annotations': {'visible': output == 'overlay'}}
            mode = {'imageTopic': f'/{camera}/{output}', 'annotations': shown}
            panels[names[-1]] = {'imageMode': mode}
        rows.append({'direction': 'row', 'first': names[0], 'second': names[1]})
    panels['Plot!figures'] = {
        'paths': [
            {'value': f'/{camera}/figures.{name}', 'enabled': True}
            for name in _PLOTTED
            for camera in cameras
        ],
        'showLegend': True,
        'isSynced': True,
    }
    layout: Any = 'Plot!figures'
    for row in reversed(rows):
        layout = {'direction': 'column', 'first': row, 'second': layout, 'splitPercentage': 62}
    return {
        'configById': panels,
        'globalVariables': {},
        'userNodes': {},
        'playbackConfig': {'speed': 1},
        'layout': layout,
    }
