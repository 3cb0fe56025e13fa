"""Write frames with pasted objects as a data set of their own.

    <output>/train/images/<target>_cp000001.png    and labels/, as kind: folder reads them
    <output>/manifest.jsonl      what was pasted where, one line an image
    <output>/statistics.json     pixels and images of each class, before and after

An image depends on the seed and its number alone, so a run that was stopped goes on to the same
files.
"""

from __future__ import annotations

from collections.abc import Sequence
import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from pydantic import Field
from pydantic.dataclasses import dataclass

from offroad_seg_core.config import STRICT, dump_config
from offroad_seg_core.datasets.copy_paste.bank import BankEntry, InstanceBank, digest
from offroad_seg_core.datasets.copy_paste.bank_building import BankConfig, Progress
from offroad_seg_core.datasets.copy_paste.progress_log import ProgressLog
from offroad_seg_core.datasets.copy_paste.statistics import summarize
from offroad_seg_core.datasets.copy_paste.transform import (
    CopyPaste,
    PasteConfig,
    PastedObject,
)
from offroad_seg_core.datasets.frames import FrameSet
from offroad_seg_core.datasets.mask_writing import write_mask
from offroad_seg_core.datasets.masks import MaskFormat
from offroad_seg_core.files import atomic_path

SPLIT = 'train'
MANIFEST_FILE, STATISTICS_FILE = 'manifest.jsonl', 'statistics.json'


@dataclass(frozen=True, config=STRICT)
class CopyPasteSetConfig:
    """What is written.

    Attributes:
        bank: Which objects, where there is no bank yet.
        paste: How they are pasted.
        targets_per_instance: Images that each object is pasted into.
        instances_per_image: Objects of an image.
        max_per_class: Objects of each class that are used, drawn by the seed; null: all.
        target_tries: Frames that are tried for an image; the one that takes most objects is used.
        mask_format: What the label files store: class ids, which ``kind: folder`` reads, or what
            the data set's own files do; these ``kind: pairs`` reads.
        jpeg_quality: Of the images, 1 to 100; null writes PNG.
        seed: Of every random choice.
    """

    bank: BankConfig = BankConfig()
    paste: PasteConfig = PasteConfig()
    targets_per_instance: int = Field(default=2, ge=1)
    instances_per_image: int = Field(default=3, ge=1)
    max_per_class: int | None = Field(default=None, ge=1)
    target_tries: int = Field(default=8, ge=1)
    mask_format: MaskFormat = 'class_ids'
    jpeg_quality: int | None = Field(default=None, ge=1, le=100)
    seed: int = Field(default=0, ge=0)


@dataclass(frozen=True)
class PlannedImage:
    """One image to write.

    Attributes:
        number: Its number.
        objects: Indices of bank entries.
        targets: Indices of frames to try, in this order.
    """

    number: int
    objects: tuple[int, ...]
    targets: tuple[int, ...]


def plan_images(
    frames: FrameSet, bank: InstanceBank, config: CopyPasteSetConfig
) -> list[PlannedImage]:
    """Deal the objects out to images and choose frames for these.

    In each of ``targets_per_instance`` rounds every object is dealt out once. An object is never
    pasted into the frame it is from, nor twice into one frame, as long as there are others.
    """
    rng = np.random.default_rng(config.seed)
    chosen = _choose(bank, config.max_per_class, rng)
    # The bank may be of other frames than these; then nothing is tabu at first.
    own = _frames_of_sources(frames, {bank.entries[i].source for i in chosen})
    seen = {i: set(own[bank.entries[i].source]) for i in chosen}
    images: list[PlannedImage] = []
    for _ in range(config.targets_per_instance):
        order = rng.permutation(chosen).tolist()
        for start in range(0, len(order), config.instances_per_image):
            objects = order[start : start + config.instances_per_image]
            tabu = np.array(sorted(set().union(*(seen[i] for i in objects))), np.intp)
            free = np.setdiff1d(np.arange(len(frames)), tabu)
            pool = free if free.size else np.arange(len(frames))
            count = min(config.target_tries, pool.size)
            targets = rng.choice(pool, count, replace=False).tolist()
            for i in objects:
                seen[i].update(targets)
            images.append(PlannedImage(len(images), tuple(objects), tuple(targets)))
    return images


def _frames_of_sources(frames: FrameSet, sources: set[str]) -> dict[str, list[int]]:
    """Return the frames whose paths end in a source.

    By their ends, so that a part of the bank's frames, or their copy elsewhere, is known again.
    """
    found: dict[str, list[int]] = {source: [] for source in sources}
    depths = {source.count('/') + 1 for source in sources}
    for index, item in enumerate(frames.files):
        parts = item.image.absolute().parts
        for depth in depths:
            if (end := '/'.join(parts[-depth:])) in found:
                found[end].append(index)
    return found


def _choose(bank: InstanceBank, limit: int | None, rng: np.random.Generator) -> list[int]:
    """Return indices of entries, at most ``limit`` of each class, ascending."""
    names = np.array([entry.class_name for entry in bank.entries])
    chosen: list[int] = []
    for name in sorted(bank.by_class):
        own = np.flatnonzero(names == name)
        if limit is not None and own.size > limit:
            own = rng.choice(own, limit, replace=False)
        chosen += own.tolist()
    return sorted(chosen)


def write_copy_paste_set(
    frames: FrameSet,
    bank: InstanceBank,
    output: Path,
    config: CopyPasteSetConfig,
    progress: Progress = lambda what, done, total: None,
) -> dict[str, Any]:
    """Write the images, labels, manifest and statistics; go on where an earlier run stopped.

    Args:
        frames: The frames to paste into, those that the bank was built from.
        bank: The objects.
        output: Folder of the new data set.
        config: How.
        progress: Told what is being done, how much of it and out of how much.

    Returns:
        The statistics, see ``summarize``.

    Raises:
        DatasetError: The folder holds a set made with other options or of other frames.
    """
    images = plan_images(frames, bank, config)
    paste = CopyPaste(bank, config.paste, frames.taxonomy)
    claim = digest(
        {'bank': bank.sha256, 'config': dump_config(config), 'frames': frames.identity()}
    )
    folder = output / SPLIT
    with ProgressLog(output / 'progress.jsonl', claim) as log:
        for done, planned in enumerate(images):
            if planned.number not in log.done or not _is_whole(log.done[planned.number], folder):
                log.add(planned.number, _write(frames, bank, paste, planned, folder, config))
            progress('images', done + 1, len(images))
        records = [log.done[planned.number] for planned in images]
    lines = ''.join(json.dumps(record) + '\n' for record in records)
    with atomic_path(output / MANIFEST_FILE) as path:
        path.write_text(lines, encoding='utf-8')
    statistics = summarize(records, bank, frames.taxonomy.names)
    with atomic_path(output / STATISTICS_FILE) as path:
        path.write_text(json.dumps(statistics, indent=1))
    return statistics


def _is_whole(record: dict[str, Any], folder: Path) -> bool:
    names = (record['image'], record['label'])
    return all(name is None or (folder / name).is_file() for name in names)


def _write(
    frames: FrameSet,
    bank: InstanceBank,
    paste: CopyPaste,
    planned: PlannedImage,
    folder: Path,
    config: CopyPasteSetConfig,
) -> dict[str, Any]:
    """Write one image and its label; return its line of the manifest."""
    entries = [bank.entries[i] for i in planned.objects]
    target, image, label_map, pasted = _best(frames, paste, entries, planned, config.seed)
    used = {item.entry.file for item in pasted}
    record: dict[str, Any] = {
        'number': planned.number,
        'image': None,
        'label': None,
        'target': frames.files[target].image.name,
        'objects': [_describe(item) for item in pasted],
        'left_out': [entry.file for entry in entries if entry.file not in used],
    }
    if not pasted:
        return record
    stem = f'{frames.files[target].stem}_cp{planned.number:06d}'
    suffix = '.png' if config.jpeg_quality is None else '.jpg'
    record.update(image=f'images/{stem}{suffix}', label=f'labels/{stem}.png')
    # The label first: an image without a label would be an error for every reader.
    write_mask(folder / record['label'], label_map, frames.taxonomy, config.mask_format)
    _write_image(folder / record['image'], image, config.jpeg_quality)
    counts = np.bincount(label_map.ravel(), minlength=256)[: frames.taxonomy.num_classes]
    return {**record, 'class_pixels': counts.tolist()}


def _best(
    frames: FrameSet,
    paste: CopyPaste,
    entries: Sequence[BankEntry],
    planned: PlannedImage,
    seed: int,
) -> tuple[int, np.ndarray, np.ndarray, list[PastedObject]]:
    """Return the frame, of those to try, that takes most objects, with these."""
    best: tuple[int, np.ndarray, np.ndarray, list[PastedObject]] | None = None
    for number, target in enumerate(planned.targets):
        rng = np.random.default_rng((seed, planned.number, number))
        image, label_map, pasted = paste.paste(*frames.read(target), entries, rng)
        # What later objects hid completely is not in the image.
        pasted = [item for item in pasted if item.pixels]
        if best is None or len(pasted) > len(best[3]):
            best = (target, image, label_map, pasted)
        if len(pasted) == len(entries):
            break
    assert best is not None
    return best


def _describe(item: PastedObject) -> dict[str, Any]:
    return {
        'class_name': item.entry.class_name,
        'file': item.entry.file,
        'source': item.entry.source,
        'scale': round(item.placement.scale, 4),
        'row': item.placement.row,
        'column': item.placement.column,
        'pixels': item.pixels,
    }


def _write_image(path: Path, image: np.ndarray, jpeg_quality: int | None) -> None:
    options = []
    if jpeg_quality is not None:
        # Full colour resolution: halved, the edges of small objects would smear.
        sampling = [cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444]
        options = [cv2.IMWRITE_JPEG_QUALITY, jpeg_quality, *sampling]
    # Encoded in memory: OpenCV's own writer does not say why it failed.
    data = cv2.imencode(path.suffix, cv2.cvtColor(image, cv2.COLOR_RGB2BGR), options)[1]
    with atomic_path(path) as temporary:
        temporary.write_bytes(data.tobytes())
