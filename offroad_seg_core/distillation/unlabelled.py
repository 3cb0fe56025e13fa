"""Frames without labels, from a folder or a drive, labelled where the teachers are sure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
import hashlib
import json
import logging
from pathlib import Path

import cv2
import numpy as np

from offroad_seg_core.config import ConfigError
from offroad_seg_core.datasets.analysis.scan_cache import fingerprint
from offroad_seg_core.datasets.frames import FrameFiles, FrameSet
from offroad_seg_core.datasets.listing import Pattern
from offroad_seg_core.datasets.mask_writing import write_mask
from offroad_seg_core.datasets.masks import DatasetError, MaskReader
from offroad_seg_core.distillation.config import UnlabelledConfig
from offroad_seg_core.distillation.soft_labels import ClassSet, SoftLabels
from offroad_seg_core.files import atomic_path
from offroad_seg_core.taxonomy import IGNORE_INDEX, Taxonomy

log = logging.getLogger(__name__)

ENVIRONMENT = 'unlabelled'
_BAG_SUFFIXES = ('.mcap', '.db3')


def find_pictures(config: UnlabelledConfig, folder: Path) -> list[Path]:
    """Return the pictures of a folder, or those of a bag after they were taken out of it.

    Args:
        config: Where they are.
        folder: Keeps the pictures of bags, as PNG files; those that are there are not made again.

    Raises:
        DatasetError: There are none.
        BagError: The bag cannot be read or has no cameras.
    """
    path = config.path
    if not path.exists():
        raise DatasetError(
            f'{path}: no such folder or bag; expected pictures or a rosbag2 bag for '
            'distillation.unlabelled.path'
        )
    pictures = (
        _unpack(config, folder)
        if _is_bag(path)
        else [path / name for name, _ in Pattern(config.pattern).find(path)]
    )
    if not pictures:
        raise DatasetError(
            f'{path}: no pictures fit {config.pattern!r}; expected some for '
            'distillation.unlabelled'
        )
    return pictures


def refuse_measured(pictures: Sequence[Path], validation: FrameSet) -> None:
    """Refuse pictures that the student is to be measured on.

    Files are told by where they lie; copies are not found out.

    Raises:
        ConfigError: Some are; names the first.
    """
    measured = {entry.image.resolve() for entry in validation.files}
    shared = [path for path in pictures if path.resolve() in measured]
    if shared:
        raise ConfigError(
            f'distillation.unlabelled: {len(shared)} of {len(pictures)} pictures, such as '
            f'{shared[0]}, are also frames of the validation, which must be new to the student; '
            'fix: another pattern, or other frames to validate on (dataset.validation_block)'
        )


def _is_bag(path: Path) -> bool:
    if path.is_file():
        return path.suffix in _BAG_SUFFIXES
    return (path / 'metadata.yaml').is_file() or any(
        next(path.glob(f'*{suffix}'), None) for suffix in _BAG_SUFFIXES
    )


def _unpack(config: UnlabelledConfig, folder: Path) -> list[Path]:
    from offroad_seg_core.bags.pictures import read_pictures  # needs rosbags, which others do not

    bag = config.path
    files = [bag] if bag.is_file() else sorted(path for path in bag.iterdir() if path.is_file())
    content = f'{fingerprint(*files)} {config.topics} {config.every}'
    target = folder / f'{bag.stem}-{hashlib.sha256(content.encode()).hexdigest()[:12]}'
    listing = target / 'pictures.json'
    if not listing.exists():  # written last
        log.info('%s: taking the pictures out', bag)
        numbers: Counter[str] = Counter()
        names = []
        for picture in read_pictures(bag, config.topics, config.every):
            names.append(f'{picture.camera}_{numbers[picture.camera]:06}.png')
            numbers[picture.camera] += 1
            if not (target / names[-1]).exists():
                _, data = cv2.imencode('.png', picture.image.bgr())
                with atomic_path(target / names[-1]) as temporary:
                    temporary.write_bytes(data.tobytes())
        with atomic_path(listing) as temporary:
            temporary.write_text(json.dumps(names), encoding='utf-8')
    return [target / name for name in json.loads(listing.read_text(encoding='utf-8'))]


def pseudo_labelled(
    config: UnlabelledConfig,
    pictures: Sequence[Path],
    answers: Sequence[Path],
    classes: ClassSet,
    taxonomy: Taxonomy,
) -> FrameSet:
    """Return the pictures as frames whose labels are what the teachers are sure of.

    The label files stand beside the answers and are made once.

    Args:
        config: How sure.
        pictures: One a frame.
        answers: The soft labels of each.
        classes: What is in them.
        taxonomy: The student's.

    Raises:
        DatasetError: No pixel is labelled.
    """
    reader = MaskReader(taxonomy, 'class_ids')
    files, labelled, total = [], 0, 0
    for picture, answer in zip(pictures, answers, strict=True):
        label = answer.parent.parent / 'pseudo_labels' / f'{config.confidence:g}'
        label = label / f'{answer.stem}.png'
        if not label.exists():
            label_map = SoftLabels.read(answer, classes).label_map(config.confidence)
            write_mask(label, label_map, taxonomy, 'class_ids')
        labels = reader.read(label)
        labelled += int(np.count_nonzero(labels != IGNORE_INDEX))
        total += labels.size
        files.append(FrameFiles(picture, label, ENVIRONMENT))
    if not labelled:
        surest = max(SoftLabels.read(path, classes).dense().max() for path in answers)
        raise DatasetError(
            f'{config.path}: got no pixel of {len(files)} frames that reaches '
            f'distillation.unlabelled.confidence {config.confidence:g}; the teachers are sure to '
            f'{surest:.3f} at most; lower it, or give frames like those that they know'
        )
    log.info(
        '%s: %d frames, %.1f %% of their pixels labelled by teachers that are sure to %g',
        config.path, len(files), 100 * labelled / total, config.confidence,
    )  # fmt: skip
    return FrameSet(files, taxonomy, reader, str(config.path))
