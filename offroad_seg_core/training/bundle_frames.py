"""Pictures that a bundle takes along, so that `check_engine` sees what the robot will see.

They are validation frames as JPEG files of at most 200 kB, under the licence of their dataset:
where that forbids to pass them on, a bundle is exported without.
"""

from __future__ import annotations

import logging
from pathlib import Path

import cv2

from offroad_seg_core.datasets import DatasetConfig
from offroad_seg_core.datasets.frames import FrameSet
from offroad_seg_core.datasets.masks import DatasetError, read_image
from offroad_seg_core.datasets.mixed import MixedConfig
from offroad_seg_core.inference.manifest import FRAMES_FOLDER
from offroad_seg_core.training.checkpoint import Checkpoint
from offroad_seg_core.world.identity import StaleDatasetError

log = logging.getLogger(__name__)

MAX_BYTES = 200_000
_JPEG = (cv2.IMWRITE_JPEG_QUALITY, 90)


def frames_to_check(
    checkpoint: Checkpoint, dataset: DatasetConfig | None, count: int
) -> FrameSet | None:
    """Return a few validation frames, evenly spread.

    Args:
        checkpoint: Of ``training/train.py``.
        dataset: Where they are from; None for what it was trained with.
        count: Most frames to take; 0 for none.

    Returns:
        None where none are wanted, or where what it was trained with is not there, which the log
        says.

    Raises:
        DatasetError, TaxonomyError: The given dataset cannot give its frames, or is of other
            classes.
    """
    if count < 1:
        return None
    trained_with = checkpoint.config.dataset
    try:
        if dataset is None:
            _require_folders(trained_with)
        frames = (dataset or trained_with).frames('validation', checkpoint.taxonomy)
    except (DatasetError, StaleDatasetError) as error:
        if dataset is not None:
            raise
        log.warning('the bundle gets no frames to check engines on: %s; fix: give --data', error)
        return None
    return frames.subset(range(0, len(frames), -(-len(frames) // count)))


def write_pictures(frames: FrameSet, folder: Path) -> dict[str, Path]:
    """Write the pictures of frames, smaller where they would be too large for a bundle.

    Returns:
        Name inside the bundle → file.

    Raises:
        DatasetError: A picture cannot be read.
    """
    files = {}
    for index, frame in enumerate(frames.files):
        image = cv2.cvtColor(read_image(frame.image), cv2.COLOR_RGB2BGR)
        data = cv2.imencode('.jpg', image, _JPEG)[1]
        while data.nbytes > MAX_BYTES:
            image = cv2.resize(image, None, fx=0.8, fy=0.8, interpolation=cv2.INTER_AREA)
            data = cv2.imencode('.jpg', image, _JPEG)[1]
        file = files[f'{FRAMES_FOLDER}/{index:02}.jpg'] = folder / f'{index:02}.jpg'
        file.write_bytes(data.tobytes())
    return files


def _require_folders(dataset: DatasetConfig) -> None:
    """Raise DatasetError where a root is missing: the procedural world would be rendered anew."""
    if isinstance(dataset, MixedConfig):
        for source in dataset.sources:
            _require_folders(source.dataset)
    elif not dataset.root.is_dir():
        raise DatasetError(f'{dataset.root}: no such folder')
