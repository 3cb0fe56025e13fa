"""Build an instance bank from labelled frames; a build that was stopped goes on where it was."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
import hashlib
import json
import os
from pathlib import Path
import re
from typing import Any

import cv2
import numpy as np
from pydantic import Field
from pydantic.dataclasses import dataclass

from offroad_seg_core.config import STRICT, dump_config
from offroad_seg_core.datasets.copy_paste.bank import (
    BANK_FILE,
    FORMAT_VERSION,
    BankEntry,
    InstanceBank,
    digest,
    entry_from_dict,
    write_bank,
)
from offroad_seg_core.datasets.copy_paste.instances import (
    Instance,
    InstanceRules,
    Surroundings,
    count_beneath,
    cut_out,
    find_instances,
    lit_classes,
    look_around,
    texture_of,
)
from offroad_seg_core.datasets.copy_paste.placement_profiles import learn_profiles
from offroad_seg_core.datasets.copy_paste.progress_log import ProgressLog
from offroad_seg_core.datasets.frames import FrameSet
from offroad_seg_core.datasets.picture_files import DatasetError, decode, read_file
from offroad_seg_core.files import atomic_path
from offroad_seg_core.taxonomy import Taxonomy

Progress = Callable[[str, int, int], None]  # (what, done, total)
# What can stand somewhere. Rare ground classes are no objects: cut out, they would float.
_OBJECT_GROUPS = ('obstacle', 'hazard', 'resistant')


@dataclass(frozen=True, config=STRICT)
class BankConfig:
    """What goes into a bank.

    Attributes:
        classes: Names of the classes. Empty: the rare classes of objects (groups obstacle,
            hazard, resistant), those with at most ``max_share`` of the labelled pixels.
        max_share: See ``classes``.
        rules: Which objects of these classes.
    """

    classes: tuple[str, ...] = ()
    max_share: float = Field(default=0.02, gt=0, le=1)
    rules: InstanceRules = InstanceRules()


def build_bank(
    frames: FrameSet,
    folder: Path,
    config: BankConfig,
    progress: Progress = lambda what, done, total: None,
) -> InstanceBank:
    """Build a bank, or go on building it, or open it if it is finished.

    Args:
        frames: Labelled frames of one taxonomy.
        folder: Where the bank is stored.
        config: What goes into it.
        progress: Told what is being done, how much of it and out of how much.

    Raises:
        DatasetError: The folder holds a bank of other or changed frames or of another
            configuration, a class is not in the taxonomy, or no object was found.
    """
    claim = _claim(frames, config)
    if (folder / BANK_FILE).is_file():
        _check_claim(folder, claim)
        return InstanceBank.load(folder, frames.taxonomy)
    pixels, holding = _count(frames, progress)
    classes = choose_classes(pixels, frames.taxonomy, config)
    wanted = np.array([frames.taxonomy.index(name) for name in classes])
    root = os.path.commonpath([item.image.absolute().parent for item in frames.files])
    with ProgressLog(folder / 'progress.jsonl', claim) as log:
        todo = np.flatnonzero(holding[:, wanted].any(axis=1))
        for done, index in enumerate(todo.tolist()):
            if index not in log.done:
                log.add(
                    index, _extract(frames, index, root, wanted.tolist(), folder, config.rules)
                )
            progress('objects', done + 1, len(todo))
        records = [log.done[index] for index in todo.tolist()]
    content = {
        'format_version': FORMAT_VERSION,
        'claim': claim,
        'taxonomy': frames.taxonomy.name,
        'taxonomy_sha256': frames.taxonomy.sha256(),
        'config': dump_config(config),
        'classes': list(classes),
        'class_pixels': pixels.tolist(),
        'class_frames': holding.sum(axis=0).tolist(),
        'num_frames': len(frames),
    }
    _finish(folder, content, records, frames.taxonomy)
    (folder / 'progress.jsonl').unlink()
    return InstanceBank.load(folder, frames.taxonomy)


def choose_classes(pixels: np.ndarray, taxonomy: Taxonomy, config: BankConfig) -> tuple[str, ...]:
    """Return the names of the classes for a bank, rarest first.

    Args:
        pixels: Pixels of each class, ``(C,)``.
        taxonomy: The classes.
        config: Names them, or says how rare they are.

    Raises:
        DatasetError: A named class has no pixels, or no class is rare.
        TaxonomyError: A named class is unknown.
    """
    if config.classes:
        ids = [taxonomy.index(name) for name in config.classes]
        absent = [taxonomy.names[i] for i in ids if not pixels[i]]
        if absent:
            raise DatasetError(f'classes {", ".join(absent)}: got no pixel of them in the frames')
    else:
        shares = pixels / max(1, pixels.sum())
        ids = [
            i
            for i, entry in enumerate(taxonomy.classes)
            if 0 < shares[i] <= config.max_share and entry.group in _OBJECT_GROUPS
        ]
    if not ids:
        raise DatasetError(
            f'no class of objects has at most {config.max_share:.1%} of the pixels; raise '
            'max_share or name the classes'
        )
    return tuple(taxonomy.names[i] for i in sorted(ids, key=lambda i: (pixels[i], i)))


def _claim(frames: FrameSet, config: BankConfig) -> str:
    """Return what identifies a build: its frames, its taxonomy and its options."""
    return digest(
        {
            'frames': frames.identity(),
            'taxonomy': frames.taxonomy.sha256(),
            'config': dump_config(config),
        }
    )


def _check_claim(folder: Path, claim: str) -> None:
    """Raise DatasetError if a finished bank is of another build."""
    found = json.loads(read_file(folder / BANK_FILE)).get('claim')
    if found != claim:
        raise DatasetError(
            f'{folder}: holds a bank of other frames or options, or the files have changed '
            f'since: got claim {str(found)[:12]}…, expected {claim[:12]}…; remove the folder or '
            'name another one'
        )


def _count(frames: FrameSet, progress: Progress) -> tuple[np.ndarray, np.ndarray]:
    """Return the pixels of each class, (C,) int64, and which frame holds which, (N, C) bool."""
    num_classes = frames.taxonomy.num_classes
    pixels = np.zeros(num_classes, np.int64)
    holding = np.zeros((len(frames), num_classes), bool)
    for index, label_map in enumerate(_labels(frames)):
        counts = np.bincount(label_map.ravel(), minlength=256)[:num_classes]
        pixels += counts
        holding[index] = counts > 0
        progress('labels', index + 1, len(frames))
    return pixels, holding


def _labels(frames: FrameSet) -> Iterator[np.ndarray]:
    for index, item in enumerate(frames.files):
        if item.label is None:
            raise DatasetError(f'{item.image}: has no label; leave unlabelled frames out here')
        yield frames.reader_of(index).read(item.label)


def _extract(
    frames: FrameSet,
    index: int,
    root: str,
    class_ids: Sequence[int],
    folder: Path,
    rules: InstanceRules,
) -> dict[str, Any]:
    """Store the objects of one frame; return their entries and what lies beneath them."""
    files = frames.files[index]
    # File names alone may repeat: every frame of YCOR is an rgb.jpg.
    source = files.image.absolute().relative_to(root).as_posix()
    image, label_map = frames.read(index)
    ids = None
    if files.instances is not None:
        ids = decode(files.instances, read_file(files.instances), cv2.IMREAD_UNCHANGED)
        if ids.shape != label_map.shape:
            raise DatasetError(
                f'{files.instances}: got shape {ids.shape}, expected {label_map.shape} like the '
                'label map'
            )
    lit = lit_classes(frames.taxonomy)
    entries: list[dict[str, Any]] = []
    beneath: dict[str, dict[str, int]] = {}
    for class_id in class_ids:
        name = frames.taxonomy.names[class_id]
        total = np.zeros(256, np.int64)
        for number, instance in enumerate(find_instances(label_map, class_id, rules, ids)):
            if texture_of(image, instance) < rules.min_texture:
                continue
            # The frame's number keeps apart frames of one name in several folders.
            file = f'{_file_name(name)}/{index:06d}_{_file_name(files.stem)}_{number:03d}.png'
            sha256 = _store(folder / file, cut_out(image, instance, rules.padding_px))
            around = look_around(image, label_map, instance.box, lit, instance.mask)
            entry = _entry(instance, label_map.shape, around, name)
            place = {'file': file, 'sha256': sha256, 'source': source}
            entries.append({**entry, **place, 'padding_px': rules.padding_px})
            total += count_beneath(label_map, instance)
        beneath[name] = {str(i): int(total[i]) for i in np.flatnonzero(total)}
    return {'entries': entries, 'beneath': beneath}


def _entry(
    instance: Instance, size: tuple[int, ...], around: Surroundings, name: str
) -> dict[str, Any]:
    return {
        'class_name': name,
        'source_size': size,
        'box': instance.box,
        'area_px': instance.area_px,
        'foot': round((instance.box[2] - 1) / max(1, size[0] - 1), 6),
        'truncated': instance.truncated,
        'solidity': round(instance.solidity, 4),
        'light_rgb': around.color_rgb,
        'contrast': around.contrast,
    }


def _store(path: Path, rgba: np.ndarray) -> str:
    """Write a cut-out as PNG; return the file's SHA-256."""
    data = cv2.imencode('.png', cv2.cvtColor(rgba, cv2.COLOR_RGBA2BGRA))[1].tobytes()
    with atomic_path(path) as temporary:
        temporary.write_bytes(data)
    return hashlib.sha256(data).hexdigest()


def _file_name(text: str) -> str:
    return re.sub(r'[^\w.-]+', '_', text)


def _finish(
    folder: Path, content: dict[str, Any], records: Sequence[dict[str, Any]], taxonomy: Taxonomy
) -> None:
    entries: list[BankEntry] = []
    beneath = {name: np.zeros(256, np.int64) for name in content['classes']}
    for record in records:
        entries += map(entry_from_dict, record['entries'])
        for name, counts in record['beneath'].items():
            for label, count in counts.items():
                beneath[name][int(label)] += count
    if not entries:
        raise DatasetError(
            f'{folder}: no object of {", ".join(content["classes"])} passes the rules; lower '
            'rules.min_area_px or rules.min_solidity, or name other classes'
        )
    profiles = learn_profiles(entries, beneath, taxonomy.names)
    content['profiles'] = {name: asdict(profile) for name, profile in profiles.items()}
    # As JSON reads them back, so that the digest of what is written is that of what is read.
    write_bank(folder, json.loads(json.dumps(content)), entries)
