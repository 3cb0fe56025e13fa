"""Where an object may stand in a frame: on ground of its class, at a height of its class."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from offroad_seg_core.datasets.copy_paste.bank import BankEntry, ClassProfile, InstanceBank
from offroad_seg_core.lookup import lookup
from offroad_seg_core.taxonomy import IGNORE_INDEX, Taxonomy

# Below this share of what lies beneath a class, a label is there by chance or by mistake.
_MIN_SUPPORT_SHARE = 0.05
_MIN_FOOT_ON_GROUND = 0.7  # share of the row beneath an object that must be such ground
_GROUND_GROUPS = ('smooth', 'rough', 'water')


class Placement(NamedTuple):
    """Where an object is put.

    Attributes:
        scale: Its size against its size in its source, both against their pictures' heights.
        row: The lowest row of the object.
        column: The middle of its box.
    """

    scale: float
    row: int
    column: int


class Ground:
    """What one class stands on and what it hides, as tables over labels.

    Args:
        class_name: The class of the objects.
        bank: Holds what was learned about the class.
        taxonomy: The classes of label maps.

    Attributes:
        supports: Where an object may stand, ``(256,)`` bool.
        covers: What it may be pasted over, ``(256,)`` bool; see ``InstanceBank.may_cover``.
        hides: What hides it where it stands further down the picture, ``(256,)`` bool: things
            that it does not stand on.
    """

    def __init__(self, class_name: str, bank: InstanceBank, taxonomy: Taxonomy) -> None:
        self.class_id = taxonomy.index(class_name)
        self.covers = bank.may_cover(self.class_id)
        self.supports = _supports(bank.profiles[class_name].support, taxonomy) & self.covers
        self.hides = np.zeros(256, bool)
        groups = taxonomy.groups
        self.hides[: len(groups)] = [g not in (*_GROUND_GROUPS, 'unknown') for g in groups]
        self.hides &= ~self.supports
        self.hides[[self.class_id, IGNORE_INDEX]] = False

    def writable(self, label_map: np.ndarray, beneath: np.ndarray) -> np.ndarray:
        """Return where an object may be pasted.

        Not over rarer classes, not over ignored pixels, and not over things that reach further
        down the picture than its foot: those stand in front of it.

        Args:
            label_map: The part of the frame above the object's lowest row, ``(h, w)`` uint8.
            beneath: The row of labels right below that part, ``(w,)`` uint8.

        Returns:
            ``(h, w)`` bool.
        """
        writable = lookup(label_map, self.covers.view(np.uint8)).view(bool)
        in_front = self.hides[beneath]
        if in_front.any():
            same = (label_map == beneath) & in_front
            # From the foot upwards, until the thing in front ends.
            writable &= ~np.logical_and.accumulate(same[::-1], axis=0)[::-1]
        return writable


def _supports(shares: Mapping[str, float], taxonomy: Taxonomy) -> np.ndarray:
    """Return what a class stands on: the ground seen beneath it.

    Plants beneath an object mostly grow in front of it and hide its foot. They count only for
    classes that no ground was seen beneath.
    """
    names = [name for name, share in shares.items() if share >= _MIN_SUPPORT_SHARE]
    groups = {name: taxonomy.groups[taxonomy.index(name)] for name in names}
    ground = [name for name, group in groups.items() if group in _GROUND_GROUPS]
    others = [name for name, group in groups.items() if group != 'unknown']
    table = np.zeros(256, bool)
    table[[taxonomy.index(name) for name in ground or others]] = True
    return table


def draw_placement(
    entry: BankEntry,
    profile: ClassProfile,
    label_map: np.ndarray,
    ground: Ground,
    limits: tuple[float, float, float],
    rng: np.random.Generator,
) -> Placement | None:
    """Draw a place for an object, once.

    Its height in the picture follows those of its class, its size follows from the height: things
    further down are nearer. Its foot is on a label that its class was seen on.

    Args:
        entry: The object.
        profile: Of its class.
        label_map: ``(H, W)`` uint8.
        ground: Of its class.
        limits: Smallest scale, largest scale, and the factor by which sizes vary to either side.
        rng: Source of every random choice.

    Returns:
        The place, or None if the draw is not a plausible one.
    """
    height, width = label_map.shape
    quantiles = profile.foot_quantiles
    foot = float(np.interp(rng.random(), np.linspace(0, 1, len(quantiles)), quantiles))
    low, high, jitter = limits
    vary = np.log(jitter) * rng.uniform(-1, 1)
    scale = float(np.exp(profile.growth * (foot - entry.foot) + vary))
    # Enlarged objects are blurred: the larger, the rarer.
    if not low <= scale <= high or rng.random() * scale > 1:
        return None
    row = round(foot * (height - 1))
    on_ground = ground.supports[label_map[row]]
    columns = np.flatnonzero(on_ground)
    if not columns.size:
        return None
    column = int(rng.choice(columns))
    object_width = (entry.box[3] - entry.box[1]) * scale * height / entry.source_size[0]
    half = max(1, int(object_width / 2))
    left, right = column - half, column + half
    if left < 0 or right >= width or on_ground[left : right + 1].mean() < _MIN_FOOT_ON_GROUND:
        return None
    return Placement(scale, row, column)
