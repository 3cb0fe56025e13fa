"""Copy-paste of objects of rare classes (Ghiasi et al. 2021, Simple Copy-Paste).

Unlike there, an object is put where its class stands: on ground that the class was seen on, at a
height and a size that were learned from the data.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from pydantic import Field
from pydantic.dataclasses import dataclass

from offroad_seg_core.config import STRICT
from offroad_seg_core.datasets.copy_paste.bank import BankEntry, InstanceBank
from offroad_seg_core.datasets.copy_paste.instances import lit_classes, look_around
from offroad_seg_core.datasets.copy_paste.pasting import (
    Patch,
    lay_over,
    light_ratio,
    make_patch,
    place_patch,
    relight,
    visible_alpha,
)
from offroad_seg_core.datasets.copy_paste.placement import Ground, Placement, draw_placement
from offroad_seg_core.taxonomy import Taxonomy

_MIN_OBJECT_PX = 16


@dataclass(frozen=True, config=STRICT, kw_only=True)
class PasteConfig:
    """How an object is pasted.

    Attributes:
        scale_range: Smallest and largest size against the object's own, both against the height
            of their pictures.
        size_jitter: Sizes vary by up to this factor to either side of what the height says.
        feather_px: Standard deviation of the soft edge, in pixels of the frame.
        harmonize: How far an object is lit as its new place is, 0 (not) to 1 (fully).
        max_light_ratio: Where a channel of the ground is brighter or darker than at the object's
            source by more than this factor, it is not pasted: no gain makes up for it.
        mirror_probability: Chance that left and right of an object change places.
        min_visible: Share of an object that must not be hidden or outside of the frame.
        tries: Draws of a place for an object before it is left out.
    """

    scale_range: tuple[float, float] = (0.2, 4.0)
    size_jitter: float = Field(default=1.25, ge=1, le=4)
    feather_px: float = Field(default=0.7, ge=0, le=16)
    harmonize: float = Field(default=0.8, ge=0, le=1)
    max_light_ratio: float = Field(default=2.0, ge=1)
    mirror_probability: float = Field(default=0.5, ge=0, le=1)
    min_visible: float = Field(default=0.6, gt=0, le=1)
    tries: int = Field(default=20, ge=1)

    def __post_init__(self) -> None:
        """Check the scale range."""
        low, high = self.scale_range
        if not 0 < low <= high:
            raise ValueError(f'scale_range is {self.scale_range}, expected 0 < low <= high')


@dataclass(frozen=True, config=STRICT, kw_only=True)
class CopyPasteConfig(PasteConfig):
    """Copy-paste while training.

    Attributes:
        bank: Folder of the instance bank, see training/make_copy_paste.py.
        probability: Chance that a frame gets objects at all.
        max_instances: Objects of a frame: 1 to this many, each number as likely.
    """

    bank: Path
    probability: float = Field(default=0.5, ge=0, le=1)
    max_instances: int = Field(default=3, ge=1)


class PastedObject(NamedTuple):
    """What was pasted where.

    Attributes:
        entry: The object.
        placement: Its place and size.
        pixels: Number of pixels that got its label, as later objects left them.
    """

    entry: BankEntry
    placement: Placement
    pixels: int


class CopyPaste:
    """Pastes objects of a bank into labelled frames.

    Args:
        bank: Where the objects are from.
        config: How often, how many and how.
        taxonomy: The classes of the label maps, those of the bank.
    """

    def __init__(self, bank: InstanceBank, config: PasteConfig, taxonomy: Taxonomy) -> None:
        self._bank = bank
        self._config = config
        self._classes = sorted(bank.by_class)
        self._grounds = {name: Ground(name, bank, taxonomy) for name in self._classes}
        self._lit = lit_classes(taxonomy)

    @classmethod
    def from_config(cls, config: CopyPasteConfig, taxonomy: Taxonomy) -> CopyPaste:
        """Open the bank that a configuration names.

        Raises:
            DatasetError: The bank is missing, changed or of another taxonomy.
        """
        return cls(InstanceBank.load(config.bank, taxonomy), config, taxonomy)

    def __call__(
        self, image: np.ndarray, label_map: np.ndarray, rng: np.random.Generator
    ) -> tuple[np.ndarray, np.ndarray]:
        """Paste objects of random classes, each class as likely.

        Args:
            image: ``(H, W, 3)`` uint8 RGB; not written to.
            label_map: ``(H, W)`` uint8 ids or 255; not written to.
            rng: Source of every random choice.

        Returns:
            Image and label map of the same size; the given ones where nothing is pasted.
        """
        if not isinstance(self._config, CopyPasteConfig):
            raise TypeError('got a PasteConfig; expected a CopyPasteConfig, which says how often')
        if rng.random() >= self._config.probability:
            return image, label_map
        entries = [self.draw(rng) for _ in range(rng.integers(self._config.max_instances) + 1)]
        return self.paste(image, label_map, entries, rng)[:2]

    def draw(self, rng: np.random.Generator) -> BankEntry:
        """Draw an object: first its class, each as likely, then one of that class."""
        group = self._bank.by_class[self._classes[rng.integers(len(self._classes))]]
        return group[rng.integers(len(group))]

    def paste(
        self,
        image: np.ndarray,
        label_map: np.ndarray,
        entries: Sequence[BankEntry],
        rng: np.random.Generator,
    ) -> tuple[np.ndarray, np.ndarray, list[PastedObject]]:
        """Paste given objects; those for which no place is found are left out.

        Returns:
            Image, label map, and what was pasted, the farthest first.
        """
        made = [(entry, self._prepare(image, label_map, entry, rng)) for entry in entries]
        ready = [(entry, *item) for entry, item in made if item is not None]
        if not ready:
            return image, label_map, []
        image, label_map = image.copy(), label_map.copy()
        pasted: list[PastedObject] = []
        owner = np.full(label_map.shape, -1, np.int16) if len(ready) > 1 else None
        # What stands further up is further away and may be hidden by what follows.
        ready.sort(key=lambda item: item[1].row)
        for number, (entry, placement, patch) in enumerate(ready):
            labelled = lay_over(image, label_map, patch)
            pasted.append(PastedObject(entry, placement, int(np.count_nonzero(labelled))))
            if owner is not None:
                height, width = labelled.shape
                region = owner[patch.top : patch.top + height, patch.left : patch.left + width]
                region[labelled] = number
        if owner is not None:
            left = np.bincount(owner.ravel() + 1, minlength=len(ready) + 1)[1:]
            pasted = [item._replace(pixels=int(n)) for item, n in zip(pasted, left, strict=True)]
        return image, label_map, pasted

    def _prepare(
        self,
        image: np.ndarray,
        label_map: np.ndarray,
        entry: BankEntry,
        rng: np.random.Generator,
    ) -> tuple[Placement, Patch] | None:
        """Find a place for an object and make it ready, or give up."""
        config = self._config
        ground = self._grounds[entry.class_name]
        profile = self._bank.profiles[entry.class_name]
        mirror = rng.random() < config.mirror_probability
        limits = (*config.scale_range, config.size_jitter)
        for _ in range(config.tries):
            placement = draw_placement(entry, profile, label_map, ground, limits, rng)
            if placement is None:
                continue
            zoom = placement.scale * label_map.shape[0] / entry.source_size[0]
            rgba = self._bank.read(entry)
            colors, alpha = make_patch(rgba, entry, zoom, config.feather_px, mirror)
            whole = np.count_nonzero(alpha > 127)
            patch = place_patch(colors, alpha, placement, label_map.shape, ground)
            if patch is None or whole < _MIN_OBJECT_PX:
                continue
            visible = np.count_nonzero(visible_alpha(label_map, patch) > 127)
            if visible < max(1, config.min_visible * whole):
                continue
            height, width = patch.alpha.shape
            box = (patch.top, patch.left, patch.top + height, patch.left + width)
            around = look_around(image, label_map, box, self._lit)
            if around.contrast < profile.min_contrast:
                continue
            ratio = light_ratio(np.array(around.color_rgb), np.array(entry.light_rgb))
            if np.abs(np.log(ratio)).max() > np.log(config.max_light_ratio):
                continue
            return placement, relight(patch, ratio, config.harmonize)
        return None
