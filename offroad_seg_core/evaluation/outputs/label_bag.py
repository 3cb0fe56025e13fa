"""Labels as a bag that plays beside the original: the topics that the node would publish."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
import shutil
from typing import Any

import cv2
import numpy as np
import yaml

from offroad_seg_core.bags.camera_topics import as_name
from offroad_seg_core.bags.writing import Header, MessageBag
from offroad_seg_core.evaluation.outputs.overlay_video import draw_overlay
from offroad_seg_core.evaluation.outputs.sink import Labelled, distinct
from offroad_seg_core.files import atomic_path
from offroad_seg_core.lookup import lookup
from offroad_seg_core.visualization import DEFAULT_ALPHA

FOLDER = 'labels_bag'
LABEL_NAMES = '/segmentation/label_names'
_JPEG_QUALITY = 85
_JPEG_FORMAT = 'bgr8; jpeg compressed bgr8'
_NO_LIMIT_PX = 1 << 16
_METADATA = 'metadata.yaml'
_INFORMATION = 'rosbag2_bagfile_information'


class LabelBag:
    """Writes mask, traversability and overlay (JPEG) of each camera, and what the ids mean.

    The bag is split: a file for each part. Its messages have the times of recording and the
    headers of the frames.

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
        self._bag: MessageBag | None = None

    def identity(self) -> Any:
        """Return what it writes."""
        return ['bag', self._alpha, self._label_names]

    def begin(self, folder: Path, part: Path) -> None:
        """Start a part, see Sink."""
        del folder
        self._bag = MessageBag(part / FOLDER, compressed=True)
        self._is_empty = True

    def prepare(self, labelled: Labelled) -> np.ndarray:
        """Draw and compress the overlay, see Sink."""
        drawn = draw_overlay(labelled, self._costs, self._alpha, _NO_LIMIT_PX)
        return cv2.imencode('.jpg', drawn, [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY])[1]

    def add(self, labelled: Labelled, prepared: np.ndarray) -> None:
        """Write a frame's messages, see Sink."""
        assert self._bag is not None  # begin comes first
        frame, label_map = labelled.frame, labelled.prediction.label_map
        header = Header(frame.stamp_ns, frame.frame_id)
        base = f'/{_topic(frame.camera)}/segmentation'
        write, time_ns = self._bag.write_image, frame.time_ns
        if self._is_empty:  # in each file of the split bag, so that each can be played alone
            self._bag.write_latched(LABEL_NAMES, time_ns, self._label_names)
            self._is_empty = False
        write(f'{base}/mask', time_ns, header, label_map, 'mono8')
        costs = lookup(label_map, self._costs)
        write(f'{base}/traversability', time_ns, header, costs, 'mono8')
        topic = f'{base}/overlay/compressed'
        self._bag.write_compressed(topic, time_ns, header, prepared.reshape(-1), _JPEG_FORMAT)

    def commit(self) -> None:
        """Complete the part's file."""
        bag, self._bag = self._bag, None
        if bag is not None:
            bag.close()

    def close(self) -> None:
        """Drop the part's file, see Sink."""
        bag, self._bag = self._bag, None
        if bag is not None:
            bag.discard()

    def finish(self, folder: Path, parts: list[Path]) -> None:
        """Make the parts one split bag, see Sink."""
        target = folder / FOLDER
        shutil.rmtree(target, ignore_errors=True)
        described: list[tuple[str, dict[str, Any]]] = []
        for part in (path / FOLDER for path in parts):
            content = yaml.safe_load((part / _METADATA).read_text(encoding='utf-8'))[_INFORMATION]
            if content['message_count']:
                target.mkdir(exist_ok=True)
                name = f'{FOLDER}_{len(described)}.mcap'
                shutil.copyfile(part / f'{FOLDER}.mcap', target / name)
                described.append((name, content))
        if not described:  # no frame got labels
            return
        with atomic_path(target / _METADATA) as path:
            path.write_text(yaml.safe_dump({_INFORMATION: _joined(described)}), 'utf-8')


def _topic(camera: str) -> str:
    """Return a camera as ROS topics may be called: of letters, digits and single underscores."""
    return '/'.join(distinct(as_name(part), part, '_') for part in camera.split('/'))


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
