"""Choose validation frames of one's own data so that they measure new places."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
import hashlib
import logging
from pathlib import Path

from offroad_seg_core.datasets.frames import FrameFiles, Split
from offroad_seg_core.datasets.masks import DatasetError
from offroad_seg_core.datasets.pairing import idle_globs, matcher

log = logging.getLogger(__name__)


def choose_globs(
    files: Sequence[FrameFiles], globs: Sequence[str], split: Split, root: Path
) -> list[FrameFiles]:
    """Return the frames whose image fits a glob (validation), or all others (train).

    Environments that both splits have frames of are logged: neighbouring frames are alike.

    Raises:
        DatasetError: A glob fits no image; misspelt, its frames would be trained on.
    """
    paths = [item.image.relative_to(root).as_posix() for item in files]
    idle = idle_globs(paths, globs)
    if idle:
        raise DatasetError(
            f'{root}: validation: {", ".join(idle)} fits no image; paths look like {paths[0]}'
        )
    is_validation = [*map(matcher(globs), paths)]
    chosen = {item.environment for item, fits in zip(files, is_validation, strict=True) if fits}
    rest = {item.environment for item, fits in zip(files, is_validation, strict=True) if not fits}
    if chosen & rest:
        log.warning(
            '%s: train and validation share the environments %s, and neighbouring frames are '
            'alike: the figures say little about new places',
            root,
            ', '.join(sorted(chosen & rest)),
        )
    wanted = split == 'validation'
    return [item for item, fits in zip(files, is_validation, strict=True) if fits == wanted]


def choose_share(
    files: Sequence[FrameFiles], share: float, split: Split, origin: str
) -> list[FrameFiles]:
    """Return whole environments that make up about a share of the frames, or all others.

    The choice depends on the names and sizes of the environments alone; it is logged.

    Args:
        files: All frames.
        share: Wanted share of the frames in validation, 0 to 1.
        split: Which part.
        origin: Where the frames are from, for errors.

    Raises:
        DatasetError: There is one environment only.
    """
    sizes = Counter(item.environment for item in files)
    if len(sizes) < 2:
        raise DatasetError(
            f'{origin}: validation by share holds out whole environments, but all frames are of '
            f'{next(iter(sizes))}; set environment so that it tells places apart, or name '
            'validation frames by globs'
        )
    chosen = _pick(sizes, share * len(files))
    count = sum(sizes[name] for name in chosen)
    log.info('%s: %d of %d frames to validate on, the environments %s', origin, count, len(files),
             ', '.join(sorted(chosen)))  # fmt: skip
    return [i for i in files if (i.environment in chosen) == (split == 'validation')]


def _pick(sizes: Counter[str], wanted: float) -> set[str]:
    # In the order of hashes, so that neither the alphabet nor the size prefers one.
    order = sorted(sizes, key=lambda name: hashlib.sha256(name.encode()).digest())
    chosen: set[str] = set()
    count = 0
    for name in order:
        if (
            abs(count + sizes[name] - wanted) < abs(count - wanted)
            and len(chosen) < len(sizes) - 1
        ):
            chosen.add(name)
            count += sizes[name]
    return chosen or {min(order, key=sizes.__getitem__)}
