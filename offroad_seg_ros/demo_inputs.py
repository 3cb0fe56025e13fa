"""What the demo plays: a procedural drive, a folder of pictures, or the user's own bag."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
import multiprocessing
import os
from pathlib import Path
import signal

import cv2
import numpy as np

from offroad_seg_core.bags.camera_topics import IMAGE_TYPE, CameraTopic, find_cameras, sibling
from offroad_seg_core.bags.reading import BagError, contents, open_bag
from offroad_seg_core.bags.writing import Header, MessageBag
from offroad_seg_core.world import DEMO_SEED, Drive

INFO_TYPE = 'sensor_msgs/msg/CameraInfo'
PICTURE_HZ = 5.0
PICTURE_SUFFIXES = ('.jpg', '.jpeg', '.png')
PICTURE_CAMERA = 'camera'
LONGEST_SIDE_PX = 1920
"""Larger pictures are reduced: they would fill the shared memory of the transport."""
TRUTH_TAXONOMY = 'falcon10'
# Always the same stamps: two demos differ in what the robot did, not in their input.
_START_NS = 1_750_000_000_000_000_000
_MAX_WORKERS = 8


@dataclass(frozen=True)
class DriveOptions:
    """A procedural drive to render."""

    num_frames: int = 60
    """Of each camera."""
    rate_hz: float = 10.0
    size: tuple[int, int] = (544, 960)
    cameras: tuple[str, ...] = ('windshield', 'left')
    seed: int = DEMO_SEED


@dataclass(frozen=True)
class DemoInput:
    """A bag, its cameras, and where their ground truth is."""

    bag: Path
    cameras: tuple[CameraTopic, ...]
    truth_topics: Mapping[str, str] = field(default_factory=dict)
    """Camera name → topic of exact label maps."""
    truth_taxonomy: str = ''
    """The taxonomy of the ground truth, if the bag says so."""


class CameraBag(MessageBag):
    """An input bag being written: images, calibrations and ground truth of cameras."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.set_custom_data('ground_truth_taxonomy', TRUTH_TAXONOMY)

    def write_picture(
        self, camera: str, topic: str, time_ns: int, pixels: np.ndarray, encoding: str
    ) -> None:
        """Write a camera's image that was taken when it was recorded; see ``write_image``."""
        self.write_image(topic, time_ns, _header(camera, time_ns), pixels, encoding)

    def write_info(
        self, camera: str, topic: str, time_ns: int, size: tuple[int, int], focal_px: float
    ) -> None:
        """Write the calibration of a pinhole camera whose principal point is its centre."""
        height, width = size
        k = [focal_px, 0, width / 2, 0, focal_px, height / 2, 0, 0, 1]
        p = [focal_px, 0, width / 2, 0, 0, focal_px, height / 2, 0, 0, 0, 1, 0]
        distortion, rotation = np.zeros(5), np.eye(3).reshape(-1)
        region = self.make('sensor_msgs/msg/RegionOfInterest', 0, 0, 0, 0, False)
        header = self.make_header(_header(camera, time_ns))
        matrices = (distortion, np.array(k, float), rotation, np.array(p, float))
        fields = (header, height, width, 'plumb_bob', *matrices, 0, 0, region)
        self.write(topic, INFO_TYPE, time_ns, *fields)


def _header(camera: str, time_ns: int) -> Header:
    return Header(time_ns, f'{camera}_camera')


def write_drive(path: Path, options: DriveOptions, on_frame: Callable[[], object]) -> None:
    """Render a drive on all cores into a bag with images, calibrations and exact label maps.

    Args:
        path: the rosbag2 folder to make.
        options: the drive.
        on_frame: called after each frame.
    """
    with CameraBag(path) as bag:
        for time_ns, camera, image_bgr, label_map, focal_px in _render(options):
            bag.write_picture(camera, f'/{camera}/image_raw', time_ns, image_bgr, 'bgr8')
            size = image_bgr.shape[:2]
            bag.write_info(camera, f'/{camera}/camera_info', time_ns, size, focal_px)
            truth = f'/{camera}/ground_truth/label_map'
            bag.write_picture(camera, truth, time_ns, label_map, 'mono8')
            on_frame()


def write_pictures(path: Path, folder: Path, on_frame: Callable[[], object]) -> list[str]:
    """Write the pictures of a folder, sorted by name, as one camera's drive.

    Args:
        path: the rosbag2 folder to make.
        folder: holds JPEG and PNG files, of any sizes.
        on_frame: called after each picture.

    Returns:
        Sentences about pictures that were skipped or reduced.

    Raises:
        BagError: no readable picture.
    """
    remarks, num_written = [], 0
    with CameraBag(path) as bag:
        for file in list_pictures(folder):
            image = cv2.imread(str(file), cv2.IMREAD_COLOR)
            on_frame()
            if image is None:
                remarks.append(f'{file.name} is skipped: it cannot be read as a picture')
                continue
            factor = LONGEST_SIDE_PX / max(image.shape)
            if factor < 1:
                remarks.append(f'{file.name} is reduced to {LONGEST_SIDE_PX} px')
                image = cv2.resize(image, None, fx=factor, fy=factor, interpolation=cv2.INTER_AREA)
            time_ns = _START_NS + round(num_written * 1e9 / PICTURE_HZ)
            bag.write_picture(
                PICTURE_CAMERA, f'/{PICTURE_CAMERA}/image_raw', time_ns, image, 'bgr8'
            )
            num_written += 1
        if not num_written:
            raise BagError(f'{folder}: got no readable picture; {"; ".join(remarks)}')
    return remarks


def list_pictures(folder: Path) -> list[Path]:
    """Return a folder's pictures, sorted by name; BagError where there is none."""
    if not folder.is_dir():
        raise BagError(f'{folder}: no such folder; fix: give a folder of pictures')
    files = sorted(path for path in folder.iterdir() if path.suffix.lower() in PICTURE_SUFFIXES)
    if not files:
        expected = ', '.join(PICTURE_SUFFIXES)
        held = ', '.join(sorted(path.name for path in folder.iterdir())[:8]) or 'nothing'
        raise BagError(f'{folder}: got no pictures, expected {expected}; it holds {held}')
    return files


def describe(path: Path) -> DemoInput:
    """Find the cameras of a bag, and their ground truth.

    Raises:
        BagError: the bag cannot be read or has no camera images.
    """
    with open_bag(path) as reader:
        topics = {c.topic: c.msgtype for c in reader.connections if c.msgcount}
        cameras = find_cameras(topics)
        if not cameras:
            expected = 'sensor_msgs/Image or CompressedImage of a camera'
            raise BagError(f'{path}: got no {expected}; it holds {contents(reader)}')
        truth = {camera.name: _truth_topic(camera, topics) for camera in cameras}
        return DemoInput(
            path,
            cameras,
            {name: topic for name, topic in truth.items() if topic},
            reader.custom_data.get('ground_truth_taxonomy', ''),
        )


def _truth_topic(camera: CameraTopic, topics: Mapping[str, str]) -> str:
    prefix = sibling(camera.info_topic, 'ground_truth')
    found = [
        topic
        for topic, kind in sorted(topics.items())
        if kind == IMAGE_TYPE and topic.startswith(prefix)
    ]
    return found[0] if found else ''


_Rendered = tuple[int, str, np.ndarray, np.ndarray, float]
_drive: Drive | None = None


def _render(options: DriveOptions) -> Iterator[_Rendered]:
    """Yield time, camera, BGR image, label map and focal length of all frames, in their order."""
    indices = range(options.num_frames)
    jobs = [(index, camera) for index in indices for camera in options.cameras]
    num_workers = min(len(os.sched_getaffinity(0)), _MAX_WORKERS, len(jobs))
    pool = ProcessPoolExecutor(
        num_workers,
        mp_context=multiprocessing.get_context('spawn'),
        initializer=_start_worker,
        initargs=(options,),
    )
    try:
        yield from pool.map(_render_frame, *zip(*jobs, strict=True))
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _start_worker(options: DriveOptions) -> None:
    global _drive
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's
    cv2.setNumThreads(1)
    _drive = Drive(
        options.seed, options.num_frames, options.rate_hz, options.size, options.cameras
    )


def _render_frame(index: int, camera: str) -> _Rendered:
    picture = _drive.frame(index, camera)
    image_bgr = cv2.cvtColor(picture.frame.image_rgb, cv2.COLOR_RGB2BGR)
    time_ns = _START_NS + picture.stamp_ns
    return time_ns, camera, image_bgr, picture.frame.label_map, _drive.cameras[camera].focal_px
