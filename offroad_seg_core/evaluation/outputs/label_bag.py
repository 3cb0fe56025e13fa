"""Labels as a bag that plays beside the original: the topics that the node would publish."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
import shutil
from typing import Any

import cv2
import numpy as np
import yaml

from offroad_seg_core.bags.camera_topics import as_name
from offroad_seg_core.bags.writing import Header, MessageBag
from offroad_seg_core.evaluation.outputs.overlay_video import draw_overlay
from offroad_seg_core.evaluation.outputs.sink import LABEL_BAG, Labelled, distinct, safe_name
from offroad_seg_core.evaluation.sources.frame import Frame
from offroad_seg_core.files import atomic_path
from offroad_seg_core.lookup import lookup
from offroad_seg_core.visualization import DEFAULT_ALPHA

LABEL_NAMES = '/segmentation/label_names'
_JPEG_QUALITY = 85
_JPEG_FORMAT = 'bgr8; jpeg compressed bgr8'
_NO_LIMIT_PX = 1 << 16
_METADATA = 'metadata.yaml'
_INFORMATION = 'rosbag2_bagfile_information'


class LabelBag:
    """Writes mask, traversability and overlay (JPEG) of each camera, and what the ids mean.

    Of several drives each has a bag of its own, ``labels_bag/<drive>``, as there may be days
    between them. A bag is split: a file for each part. Its messages have the times of recording
    and the headers of the frames.

    Args:
        cost_table: ``(256,)`` uint8, class id -> cost.
        label_names: What the node publishes latched as label_names.
        alpha: Share of the colour in the overlay.
    """

    def __init__(
        self,
        cost_table: np.ndarray,
        label_names: str,
        alpha: float = DEFAULT_ALPHA,
    ) -> None:
        self._costs, self._label_names, self._alpha = cost_table, label_names, alpha
        self._bags: dict[Path, MessageBag] = {}

    def identity(self) -> Any:
        """Return what it writes."""
        return ['bag', self._alpha, self._label_names]

    def begin(self, folder: Path, part: Path) -> None:
        """Start a part, see Sink."""
        del folder
        self._part = part

    def prepare(self, labelled: Labelled) -> np.ndarray:
        """Draw and compress the overlay, see Sink."""
        drawn = draw_overlay(labelled, self._costs, self._alpha, _NO_LIMIT_PX)
        return cv2.imencode('.jpg', drawn, [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY])[1]

    def add(self, labelled: Labelled, prepared: np.ndarray) -> None:
        """Write a frame's messages, see Sink."""
        frame, label_map = labelled.frame, labelled.prediction.label_map
        home, topic = self._part / LABEL_BAG, _topic(frame)
        place = home / safe_name(frame.drive) if frame.drive else home
        if place not in self._bags:
            self._bags[place] = MessageBag(place, compressed=True)
            # In each file of the split bag, so that each can be played alone.
            self._bags[place].write_latched(LABEL_NAMES, frame.time_ns, self._label_names)
        bag, header = self._bags[place], Header(frame.stamp_ns, frame.frame_id)
        costs = lookup(label_map, self._costs)
        for name, pixels in (('mask', label_map), ('traversability', costs)):
            bag.write_image(f'{topic}/{name}', frame.time_ns, header, pixels, 'mono8')
        bag.write_compressed(
            f'{topic}/overlay/compressed',
            frame.time_ns,
            header,
            prepared.reshape(-1),
            _JPEG_FORMAT,
        )

    def commit(self) -> None:
        """Complete the part's files."""
        while self._bags:
            self._bags.popitem()[1].close()

    def close(self) -> None:
        """Drop the part's files, see Sink."""
        while self._bags:
            self._bags.popitem()[1].discard()

    def finish(self, folder: Path, parts: list[Path]) -> None:
        """Make the parts of each drive one split bag, see Sink."""
        shutil.rmtree(folder / LABEL_BAG, ignore_errors=True)
        found: dict[Path, list[Path]] = {}
        for part in parts:
            for metadata in sorted((part / LABEL_BAG).rglob(_METADATA)):
                found.setdefault(metadata.parent.relative_to(part), []).append(metadata.parent)
        for place, bags in found.items():
            _join(bags, folder / place)


def _topic(frame: Frame) -> str:
    """Return what the node would call a camera's topics: ``/<camera>/segmentation``.

    Parts of topics are of letters, digits and single underscores.
    """
    camera = frame.camera.removeprefix(f'{frame.drive}/')
    parts = [distinct(as_name(part), part, '_') for part in camera.split('/')]
    return '/'.join(['', *parts, 'segmentation'])


def _join(bags: Sequence[Path], target: Path) -> None:
    """Make one split bag of bags in the order of their times."""
    target.mkdir(parents=True)
    described: list[tuple[str, dict[str, Any]]] = []
    for bag in bags:
        content = yaml.safe_load((bag / _METADATA).read_text(encoding='utf-8'))[_INFORMATION]
        name = f'{target.name}_{len(described)}.mcap'
        shutil.copyfile(bag / f'{bag.name}.mcap', target / name)
        described.append((name, content))
    with atomic_path(target / _METADATA) as path:
        path.write_text(yaml.safe_dump({_INFORMATION: _joined(described)}), 'utf-8')


def _joined(parts: list[tuple[str, dict[str, Any]]]) -> dict[str, Any]:
    """Return the metadata of a split bag from those of its files, at least one."""
    start_ns = min(_start(entry) for _, entry in parts)
    end_ns = max(_start(entry) + entry['duration']['nanoseconds'] for _, entry in parts)
    topics: dict[str, dict[str, Any]] = {}
    for _, entry in parts:
        for topic in entry['topics_with_message_count']:
            known = topics.setdefault(
                topic['topic_metadata']['name'], {**topic, 'message_count': 0}
            )
            known['message_count'] += topic['message_count']
    return {
        **parts[0][1],
        'relative_file_paths': [name for name, _ in parts],
        'starting_time': {'nanoseconds_since_epoch': start_ns},
        'duration': {'nanoseconds': end_ns - start_ns},
        'message_count': sum(entry['message_count'] for _, entry in parts),
        'topics_with_message_count': list(topics.values()),
        'files': [{**entry['files'][0], 'path': name} for name, entry in parts],
    }


def _start(entry: Mapping[str, Any]) -> int:
    return entry['starting_time']['nanoseconds_since_epoch']
