"""Say in plain sentences what tells groups of frames apart, the most important first."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from offroad_seg_core.datasets.analysis.domain_gap import (
    ELSEWHERE,
    ClassShift,
    DomainGap,
    GroupComparison,
)
from offroad_seg_core.datasets.analysis.two_sample import MIN_FRAMES, SetDistance

FindingKind = Literal['absent', 'rare', 'new', 'share', 'color', 'look', 'alike', 'unknown']

_DARK, _RATHER_DARK = 0.7, 0.87  # ratio of the mean luminances; the inverse is bright
_LOW_CONTRAST = 0.75  # ratio of the standard deviations
_TINT = 0.02  # change of one channel's share in the mean colour
_RARE_SHARE, _RARE_RATIO, _RARE_ELSEWHERE = 1e-3, 30.0, 5e-3
_SHARE_SHIFT, _SHARE_RATIO, _MAX_SHARE_FINDINGS = 0.02, 2.0, 3
_CHANCE = 0.05
_DRIFT = 0.75  # of the distance to another group: then the group's own change is worth a word


@dataclass(frozen=True)
class Finding:
    """One thing that differs.

    Attributes:
        kind: What it is about: classes that are ``absent`` here, ``rare`` here or ``new`` here,
            other class shares, colours, the pictures' look, no difference, or what is unknown.
        group: The group it is about.
        text: A sentence without its full stop.
        importance: To sort by; above 1 are those that break a model rather than weaken it.
        classes: Names of the classes it is about.
    """

    kind: FindingKind
    group: str
    text: str
    importance: float
    classes: tuple[str, ...] = ()


def find(comparison: GroupComparison) -> list[Finding]:
    """Return the findings of a comparison, the most important first."""
    findings = [finding for gap in comparison.gaps for finding in find_in(gap)]
    findings += _looks(comparison)
    return sorted(findings, key=lambda finding: -finding.importance)


def find_in(gap: DomainGap) -> list[Finding]:
    """Return what differs in classes and colours, the most important first."""
    steps: tuple[Callable[[DomainGap], Iterator[Finding]], ...] = (_classes, _colors)
    findings = [finding for step in steps for finding in step(gap)]
    return sorted(findings, key=lambda finding: -finding.importance)


def percent(share: float) -> str:
    """Write a share as percent with as many digits as it deserves."""
    value = 100 * share
    if 0 < value < 0.001:
        return 'under 0.001 %'
    return f'{value:.1f} %' if value >= 0.995 or value == 0 else f'{value:.2g} %'


def number(value: float) -> str:
    """Write a distance with two digits, never as -0.00."""
    return f'{round(value, 2) + 0.0:.2f}'


def enumerate_words(words: Sequence[str]) -> str:
    """Join words as in 'a, b and c'."""
    return ' and '.join([', '.join(words[:-1]), words[-1]] if len(words) > 1 else words)


def _classes(gap: DomainGap) -> Iterator[Finding]:
    shift = gap.classes
    if shift is None:
        for group in (gap.a, gap.b):
            if not group.is_labelled:
                text = f'{group.name} has no labels: its classes are not compared'
                yield Finding('unknown', group.name, text, 3)
        return
    where = 'elsewhere' if gap.b.name == ELSEWHERE else f'in {gap.b.name}'
    if shift.absent_a:
        yield _absent(gap, gap.a.name, shift.absent_a, shift.shares_b, where)
    if shift.absent_b and gap.b.name != ELSEWHERE:
        yield _absent(gap, gap.b.name, shift.absent_b, shift.shares_a, f'in {gap.a.name}')
    elif shift.absent_b:
        names = _names(gap, shift.absent_b)
        shares = enumerate_words([percent(shift.shares_a[index]) for index in shift.absent_b])
        text = f'only {gap.a.name} has {enumerate_words(names)} ({shares} of its pixels)'
        total = float(shift.shares_a[list(shift.absent_b)].sum())
        yield Finding('new', gap.a.name, text, 1 + total, names)
    yield from _shares(gap, shift)


def _absent(
    gap: DomainGap, group: str, ids: Sequence[int], shares: np.ndarray, where: str
) -> Finding:
    """Say which classes a group lacks, and whether that may be chance."""
    names = _names(gap, ids)
    listed = enumerate_words([f'no {name}' for name in names])
    text = f'{group} has {listed} ({enumerate_words([percent(shares[i]) for i in ids])} of the '
    text += f'pixels {where})'
    by_chance = [i for i in ids if _chance_of_absence(gap, group, i) > _CHANCE]
    if by_chance:
        text += f'; {enumerate_words(_names(gap, by_chance))} may be missing by chance'
    return Finding('absent', group, text, 2 + float(shares[list(ids)].sum()), names)


def _chance_of_absence(gap: DomainGap, group: str, index: int) -> float:
    """Return how likely as few frames as the group has would show none of the class."""
    assert gap.classes is not None
    is_a = group == gap.a.name
    frames_with = gap.classes.frames_b if is_a else gap.classes.frames_a
    # Frames of one block show the same things: they are one chance to see the class, not many.
    chances = (gap.a if is_a else gap.b).num_frames
    if gap.distance is not None:
        chances = min(chances, gap.distance.num_blocks[0 if is_a else 1])
    return float((1 - frames_with[index]) ** chances)


def _shares(gap: DomainGap, shift: ClassShift) -> Iterator[Finding]:
    a, b, name = shift.shares_a, shift.shares_b, gap.a.name
    rare = (a > 0) & (a < _RARE_SHARE) & (b > _RARE_ELSEWHERE) & (b > _RARE_RATIO * a)
    for index in np.flatnonzero(rare):
        what = gap.class_names[index]
        text = f'{name} has almost no {what}: {_against(a[index], b[index])}'
        yield Finding('rare', name, text, 1 + float(b[index]), (what,))
    ratio = np.abs(shift.log2_ratio)  # NaN where both have none: never greater
    moved = np.abs(a - b)
    clear = ~rare & (moved >= _SHARE_SHIFT) & (ratio >= np.log2(_SHARE_RATIO)) & (a > 0) & (b > 0)
    order = np.argsort(-moved * clear, kind='stable')[: min(_MAX_SHARE_FINDINGS, clear.sum())]
    for index in order:
        what, word = gap.class_names[index], 'larger' if a[index] > b[index] else 'smaller'
        text = f'{name} has a {word} share of {what}: {_against(a[index], b[index])}'
        yield Finding('share', name, text, 2 * float(moved[index]), (what,))


def _colors(gap: DomainGap) -> Iterator[Finding]:
    color, name = gap.color, gap.a.name
    for group in (gap.a, gap.b):
        if not group.has_pictures:
            text = f'{group.name} has no readable pictures: its colours are not compared'
            yield Finding('unknown', group.name, text, 3)
            return
    ratio = (color.luminance_a + 1) / (color.luminance_b + 1)
    if not _RATHER_DARK <= ratio <= 1 / _RATHER_DARK:
        strong = not _DARK <= ratio <= 1 / _DARK
        word = ('' if strong else 'rather ') + ('dark' if ratio < 1 else 'bright')
        text = f'{name} is {word}: mean luminance '
        text += f'{color.luminance_a:.0f} against {color.luminance_b:.0f}'
        # Absent classes, from 2 on, come before any colour.
        yield Finding('color', name, text, min(0.99, abs(float(np.log2(ratio)))) + strong)
    channel = int(np.argmax(color.tint))
    if color.tint[channel] >= _TINT:
        part = gap.a.mean_rgb[channel] / gap.a.mean_rgb.sum()
        text = f'{name} is {("redder", "greener", "bluer")[channel]}: '
        text += f'{("red", "green", "blue")[channel]} makes up {100 * part:.0f} % of its mean '
        text += f'colour against {100 * (part - color.tint[channel]):.0f} %'
        yield Finding('color', name, text, 10 * float(color.tint[channel]))
    contrast = color.contrast_ratio
    if not _LOW_CONTRAST <= contrast <= 1 / _LOW_CONTRAST:
        word = 'less' if contrast < 1 else 'more'
        spread = f'{np.mean(gap.a.std_rgb):.0f} against {np.mean(gap.b.std_rgb):.0f}'
        text = f'{name} has {word} contrast: standard deviation {spread}'
        yield Finding('color', name, text, float(abs(np.log2(max(contrast, 1e-3)))) / 2)


def _looks(comparison: GroupComparison) -> Iterator[Finding]:
    """Hold each group against the one that looks most like it; of two groups, once."""
    groups = comparison.groups
    for position in range(len(groups)) if len(groups) > 2 else (1,):
        name = groups[position].name
        known = {
            (i if j == position else j): distance
            for (i, j), distance in comparison.distances.items()
            if position in (i, j) and distance is not None
        }
        if known:
            nearest = min(known, key=lambda other: known[other].value)
            look = known[nearest]
            drift = look.within_a if position < nearest else look.within_b
            yield _look((name, groups[nearest].name), look, drift, len(groups) > 2)
        else:
            few = min(groups, key=lambda group: len(group.features))
            text = f'{few.name} has {len(few.features)} described frames, fewer than {MIN_FRAMES}:'
            text += f' how different {name} looks is not known'
            yield Finding('unknown', name, text, 0.9)


def _look(
    names: tuple[str, str], distance: SetDistance, drift: float, has_others: bool
) -> Finding:
    name, nearest = names
    interval = (
        f'{number(distance.value)} (95 %: {number(distance.low)} to {number(distance.high)})'
    )
    chance = f'chance alone gives up to {number(distance.chance)}'
    if distance.p_value > _CHANCE:
        text = f'pictures of {name} and {nearest} look alike: distance {interval}, {chance}'
        return Finding('alike', name, text, 0)
    if has_others:
        text = f'pictures of {name} look like those of no other group: the nearest, '
        text += f'{nearest}, is at a distance of {interval}; {chance}'
    else:
        text = f'pictures of {name} and {nearest} look different: distance {interval}; {chance}'
    if drift > _DRIFT * distance.value:
        text += f'; the first and second half of {name} are {number(drift)} apart themselves'
    return Finding('look', name, text, max(0.0, distance.value))


def _against(share_a: float, share_b: float) -> str:
    return f'{percent(share_a)} of the pixels against {percent(share_b)}'


def _names(gap: DomainGap, ids: Sequence[int]) -> tuple[str, ...]:
    return tuple(gap.class_names[index] for index in ids)
