"""Learn where objects of a class stand: how low in the picture, how large, on what."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from offroad_seg_core.datasets.copy_paste.bank import BankEntry, ClassProfile

_PROBABILITIES = np.linspace(0, 1, 21)
_MIN_OWN = 60  # objects; of fewer, the growth of all classes together says more
_BIN_COUNT, _MAX_BINS = 20, 12
_LARGE = 0.9  # quantile of sizes that are compared, see _growth
_MIN_DISTANCE = 0.03  # of the picture's height; closer bins say nothing about growth
_MAX_GROWTH = 6.0
# Half of what 95 % of the objects have around them: smooth ground passes, far haze does not.
_CONTRAST_QUANTILE, _CONTRAST_SHARE = 0.05, 0.5


def learn_profiles(
    entries: Sequence[BankEntry], beneath: Mapping[str, np.ndarray], names: Sequence[str]
) -> dict[str, ClassProfile]:
    """Learn the profile of each class that has objects.

    Args:
        entries: Objects of any classes.
        beneath: Class name -> pixel counts of the labels beneath its objects, ``(256,)``.
        names: Class names in the order of their ids.
    """
    groups = {
        name: [entry for entry in entries if entry.class_name == name]
        for name in sorted({entry.class_name for entry in entries})
    }
    pooled = _growth(list(groups.values()))
    profiles = {}
    for name, own in groups.items():
        growth = _growth([own]) if len(own) >= _MIN_OWN else pooled
        feet = np.quantile([entry.foot for entry in own], _PROBABILITIES)
        contrast = np.quantile([entry.contrast for entry in own], _CONTRAST_QUANTILE)
        counts = beneath[name][: len(names)]
        total = max(1, int(counts.sum()))
        profiles[name] = ClassProfile(
            num_instances=len(own),
            foot_quantiles=tuple(np.round(feet, 6).tolist()),
            growth=round(growth, 6),
            min_contrast=round(float(contrast) * _CONTRAST_SHARE, 6),
            support={
                label: round(int(count) / total, 6)
                for label, count in zip(names, counts, strict=True)
                if count
            },
        )
    return profiles


def _growth(groups: Sequence[Sequence[BankEntry]]) -> float:
    """Return by how much the logarithm of an object's size grows down the picture.

    Far objects are small, and below the bank's smallest area they are missing: the mean size
    hardly changes with distance. The large ones are all there, so the 0.9 quantile of sizes is
    followed: its median slope over pairs of equally filled height bins (Theil 1950, Sen 1968),
    which single odd sizes do not move. 0 if things shrink or nothing can be said.

    Args:
        groups: Objects of one class each; sizes are compared within their class.
    """
    feet = np.array([entry.foot for own in groups for entry in own])
    sizes = np.concatenate([_relative_sizes(own) for own in groups])
    num_bins = min(_MAX_BINS, feet.size // _BIN_COUNT)
    if num_bins < 2:
        return 0.0
    bins = np.array_split(np.argsort(feet, kind='stable'), num_bins)
    places = np.array([np.median(feet[members]) for members in bins])
    large = np.array([np.quantile(sizes[members], _LARGE) for members in bins])
    first, second = np.triu_indices(num_bins, 1)
    distances = places[second] - places[first]
    apart = distances >= _MIN_DISTANCE
    if not apart.any():
        return 0.0
    slopes = (large[second] - large[first])[apart] / distances[apart]
    return float(np.clip(np.median(slopes), 0, _MAX_GROWTH))


def _relative_sizes(own: Sequence[BankEntry]) -> np.ndarray:
    """Return log of square root of area, against the picture's height and the class's large."""
    sizes = np.log([np.sqrt(entry.area_px) / entry.source_size[0] for entry in own])
    return sizes - np.quantile(sizes, _LARGE)
