"""Write frames of many seeds as a folder of pictures and label maps."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
import csv
from dataclasses import asdict, dataclass
import multiprocessing
from pathlib import Path
import re
import signal
from typing import Any

import cv2
import numpy as np

from offroad_seg_core.files import atomic_path
from offroad_seg_core.world.drive import MOUNTS, Drive
from offroad_seg_core.world.identity import claim_folder, renderer_sha256

_STEM = re.compile(r'^seed(\d+)_([a-z]+)_(\d+)$')
_JPEG_QUALITY = 95


@dataclass(frozen=True)
class DatasetOptions:
    """What to write; the same options always give the same files."""

    output: Path
    seeds: Sequence[int]
    frames_per_seed: int = 6
    """Frames of each camera, spread evenly over the lap."""
    size: tuple[int, int] = (544, 960)
    cameras: tuple[str, ...] = ('windshield', 'left')
    image_suffix: str = '.jpg'
    """.jpg (quality 95) or .png."""

    def __post_init__(self) -> None:
        if self.image_suffix not in ('.jpg', '.png'):
            raise ValueError(f"image_suffix {self.image_suffix!r} must be '.jpg' or '.png'")
        if self.frames_per_seed < 1 or not self.seeds:
            raise ValueError(
                f'{len(self.seeds)} seeds with {self.frames_per_seed} frames give nothing to '
                'write; ask for one or more of each'
            )
        unknown = sorted(set(self.cameras) - set(MOUNTS))
        if unknown or not self.cameras:
            raise ValueError(f'cameras {list(self.cameras)} must be some of {", ".join(MOUNTS)}')

    def identity(self) -> dict[str, Any]:
        """Return what a frame's pixels depend on beside its seed, camera and number.

        Not the seeds and the cameras' names: a folder may get more of both.
        """
        return {
            'size': list(self.size),
            'frames_per_seed': self.frames_per_seed,  # places them on the lap
            'image_suffix': self.image_suffix,
            'mounts': {name: asdict(mount) for name, mount in sorted(MOUNTS.items())},
            'renderer_sha256': renderer_sha256(),
        }

    def claim(self) -> None:
        """Record the identity in the output folder, or check it against the recorded one.

        Raises:
            StaleDatasetError: The folder holds frames of another identity.
        """
        claim_folder(self.output, self.identity())

    def paths(self, seed: int, camera: str, index: int) -> tuple[Path, Path]:
        """Return the picture's and the label map's path of one frame."""
        stem = f'seed{seed:06d}_{camera}_{index:04d}'
        return (
            self.output / 'images' / f'{stem}{self.image_suffix}',
            self.output / 'labels' / f'{stem}.png',
        )


def write_dataset(options: DatasetOptions, num_workers: int = 1) -> Iterator[int]:
    """Write the missing frames, seed by seed, and yield the number finished after each seed.

    Files that exist are kept, so an interrupted run goes on where it stopped. ``index.csv`` (stem,
    seed, camera, frame) lists every complete frame of the folder, also after an interruption.

    Raises:
        StaleDatasetError: The folder holds frames of other options or of another renderer.
    """
    options.claim()
    for folder in ('images', 'labels'):
        (options.output / folder).mkdir(parents=True, exist_ok=True)
    context = multiprocessing.get_context('spawn')
    pool = ProcessPoolExecutor(num_workers, mp_context=context, initializer=_start_worker)
    try:
        jobs = [pool.submit(write_seed, options, seed) for seed in options.seeds]
        for job in as_completed(jobs):
            yield job.result()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
        write_index(options.output)


def _start_worker() -> None:
    """Leave Ctrl-C to the parent and use one core each."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    cv2.setNumThreads(1)


def write_seed(options: DatasetOptions, seed: int) -> int:
    """Write the missing frames of one seed and return how many frames it has."""
    wanted = [(i, camera) for i in range(options.frames_per_seed) for camera in options.cameras]
    missing = [
        key for key in wanted if not all(p.exists() for p in options.paths(seed, key[1], key[0]))
    ]
    if missing:
        drive = Drive(seed, options.frames_per_seed, 1.0, options.size, options.cameras)
        drive.speed_m_s = drive.scene.track.length_m / options.frames_per_seed
        for index, camera in missing:
            frame = drive.frame(index, camera).frame
            image_path, label_path = options.paths(seed, camera, index)
            _write_image(label_path, frame.label_map)
            _write_image(image_path, cv2.cvtColor(frame.image_rgb, cv2.COLOR_RGB2BGR))
    return len(wanted)


def _write_image(path: Path, image: np.ndarray) -> None:
    parameters = [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY] if path.suffix == '.jpg' else []
    done, data = cv2.imencode(path.suffix, image, parameters)
    if not done:
        raise ValueError(f'{path}: OpenCV could not encode an image of shape {image.shape}')
    with atomic_path(path) as temporary:
        temporary.write_bytes(data.tobytes())


def write_index(output: Path) -> int:
    """List the complete frames of a dataset in its ``index.csv``; return their number."""
    images = {path.stem for path in (output / 'images').iterdir() if not path.name.startswith('.')}
    rows = []
    for path in sorted((output / 'labels').glob('*.png')):
        match = _STEM.match(path.stem)
        if match and path.stem in images:
            rows.append((path.stem, int(match[1]), match[2], int(match[3])))
    with (
        atomic_path(output / 'index.csv') as temporary,
        temporary.open('w', newline='', encoding='utf-8') as stream,
    ):
        writer = csv.writer(stream)
        writer.writerow(('stem', 'seed', 'camera', 'frame'))
        writer.writerows(rows)
    return len(rows)
