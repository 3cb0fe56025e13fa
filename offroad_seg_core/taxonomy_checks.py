"""What must hold between the classes of a taxonomy; each check raises a TaxonomyError."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping
from typing import TYPE_CHECKING

from offroad_seg_core.taxonomy_parsing import TaxonomyError, close_matches

if TYPE_CHECKING:
    from offroad_seg_core.taxonomy import Group, TaxonomyClass

# 255 is IGNORE_INDEX, so the ids of at most 255 classes fit into a uint8 label map.
MAX_CLASSES = 255
MAX_RAW_ID = 65535


def check_classes(
    classes: tuple[TaxonomyClass, ...], groups: Mapping[str, Group], where: str
) -> None:
    """Check ids 0 to N-1 in order, unique names, known groups, costs in range."""
    if not 1 <= len(classes) <= MAX_CLASSES:
        got = f'{len(classes)} classes'
        raise TaxonomyError.of(
            where, got, f'1 to {MAX_CLASSES}', 'label maps are uint8, 255 is void'
        )
    for position, entry in enumerate(classes):
        here = f'{where}: class {entry.name!r}'
        if entry.id != position:
            fix = f'ids are 0 to {len(classes) - 1} without gaps, in order'
            raise TaxonomyError.of(here, f'id {entry.id}', f'id {position}', fix)
        if entry.group not in groups:
            hint = close_matches(entry.group, groups)
            raise TaxonomyError.of(here, f'group {entry.group!r}', 'a known group', hint)
        group = groups[entry.group]
        check_range(
            entry.cost, group.lowest_cost, group.highest_cost, f'{here}: cost', entry.group
        )
    check_unique(((entry.name, entry.name) for entry in classes), 'name', where)


def check_colors(
    classes: tuple[TaxonomyClass, ...], ignored: tuple[tuple[int, int, int], ...], where: str
) -> None:
    """Check that each colour has one meaning."""
    owners = [(entry.color_rgb, entry.name) for entry in classes]
    owners += [(color, 'ignored_colors') for color in ignored]
    named = (('#' + bytes(color).hex(), owner) for color, owner in owners)
    check_unique(named, 'colour', where)


def check_raw_ids(
    classes: tuple[TaxonomyClass, ...], ignored: tuple[int, ...], where: str
) -> None:
    """Check that each class has raw mask values and each value one meaning."""
    for entry in classes:
        if not entry.raw_ids:
            here = f'{where}: class {entry.name!r}'
            fix = 'name the values that mean it in the masks'
            raise TaxonomyError.of(here, 'no raw_ids', 'at least one', fix)
    owners = [(raw_id, entry.name) for entry in classes for raw_id in entry.raw_ids]
    owners += [(raw_id, 'ignored_raw_ids') for raw_id in ignored]
    for raw_id, owner in owners:
        check_range(raw_id, 0, MAX_RAW_ID, f'{where}: raw id of {owner!r}')
    check_unique(owners, 'raw id', where)


def check_categories(
    names: tuple[str, ...],
    categories: Mapping[str, Mapping[str, tuple[str, ...]]],
    unscored: Mapping[str, tuple[str, ...]],
    where: str,
) -> None:
    """Check that each category set holds each class once, and what ``unscored`` names exists."""
    for key, groups in categories.items():
        here = f'{where}: categories.{key}'
        members = [(name, category) for category, entry in groups.items() for name in entry]
        check_unique(members, 'class', here)
        check_known((name for name, _ in members), names, here)
        missing = [name for name in names if name not in dict(members)]
        if missing:
            got = f'no category for {", ".join(missing)}'
            raise TaxonomyError.of(here, got, 'each class in one category', 'add them')
    for key, entries in unscored.items():
        known = {'classes': names, **{name: tuple(groups) for name, groups in categories.items()}}
        check_known([key], known, f'{where}: unscored')
        check_known(entries, known[key], f'{where}: unscored.{key}')


def check_range(value: int, lowest: int, highest: int, where: str, of: str = '') -> None:
    """Check ``lowest <= value <= highest``."""
    if not lowest <= value <= highest:
        expected = f'{lowest} to {highest}' if lowest != highest else str(lowest)
        suffix = f' for group {of!r}' if of else ''
        raise TaxonomyError.of(where, value, expected + suffix, 'change the number')


def check_unique(owned: Iterable[tuple[Hashable, str]], what: str, where: str) -> None:
    """Check that no key comes twice in (key, owner) pairs."""
    seen: dict[Hashable, str] = {}
    for key, owner in owned:
        if key in seen:
            got = f'{what} {key!r} twice ({seen[key]} and {owner})'
            raise TaxonomyError.of(where, got, f'each {what} once', 'keep one of them')
        seen[key] = owner


def check_known(entries: Iterable[str], known: Iterable[str], where: str) -> None:
    """Check that every entry is one of ``known``."""
    known = tuple(known)
    for entry in entries:
        if entry not in known:
            hint = close_matches(entry, known)
            raise TaxonomyError.of(where, f'{entry!r}', 'a known name', hint)
