"""The classes a model tells apart: ids, names, colours, raw mask values, traversability.

A taxonomy is data: the shipped ones are ``taxonomies/*.yaml`` beside this file, and a model
bundle carries its own copy. Costs follow Nav2's costmaps: 0 is free, 254 lethal, 255 unknown.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
import hashlib
import json
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from offroad_seg_core import taxonomy_checks as checks
from offroad_seg_core.taxonomy_parsing import (
    TaxonomyError,
    close_matches,
    expect_int,
    parse_taxonomy,
    read_yaml_mapping,
)

__all__ = [
    'GROUPS',
    'IGNORE_INDEX',
    'LETHAL_COST',
    'UNKNOWN_COST',
    'Group',
    'Taxonomy',
    'TaxonomyClass',
    'TaxonomyError',
    'list_taxonomies',
    'load_cost_overrides',
    'load_taxonomy',
]

IGNORE_INDEX = 255
UNKNOWN_COST = 255
LETHAL_COST = 254
# Found beside this file and not through importlib.resources, so that one path serves both the
# installed package and error messages; the package is never zipped (zip_safe=False).
_FOLDER = Path(__file__).parent / 'taxonomies'


class Group(NamedTuple):
    """What kind of ground or thing a class is, and the costs such classes may have."""

    lowest_cost: int
    highest_cost: int
    meaning: str


# The kind says why a cost is what it is; the cost says how much. The ranges overlap and bind the
# shipped tables only: a robot's own overrides may leave them (a tank drives over curbs).
GROUPS: Mapping[str, Group] = {
    'smooth': Group(0, 99, 'even, firm, built ground; the cost grows with who else uses it'),
    'rough': Group(10, 149, 'natural or loose ground: carries a vehicle, shakes it or slips'),
    'resistant': Group(40, 219, 'gives way but hides the ground: vegetation, leaves, snow'),
    'water': Group(200, 254, 'water: a picture does not show its depth'),
    'obstacle': Group(200, 254, 'solid or step-like: stops or damages the robot'),
    'hazard': Group(200, 254, 'people, animals, vehicles, and where they cross: moves, may die'),
    'unknown': Group(255, 255, 'says nothing about the ground: sky, void, the robot itself'),
}


@dataclass(frozen=True)
class TaxonomyClass:
    """One class of a taxonomy.

    Attributes:
        id: Position of the class in the logits and value in label maps, 0 to 254.
        name: Unique name, the key of mappings and cost overrides.
        color_rgb: (red, green, blue), each 0 to 255; unique, so that it also encodes masks that
            are stored as colour pictures.
        group: A key of GROUPS.
        cost: Traversability cost, 0 (free) to 254 (lethal), 255 unknown.
        raw_ids: Values that mean this class in the dataset's own masks, 0 to 65535.
    """

    id: int
    name: str
    color_rgb: tuple[int, int, int]
    group: str
    cost: int
    raw_ids: tuple[int, ...]

    def to_dict(self) -> dict[str, Any]:
        """Return the class as its YAML entry."""
        return {
            'id': self.id,
            'name': self.name,
            'color': '#' + bytes(self.color_rgb).hex(),
            'raw_ids': list(self.raw_ids),
            'group': self.group,
            'cost': self.cost,
        }


@dataclass(frozen=True)
class Taxonomy:
    """A complete, checked set of classes.

    Attributes:
        name: Short name, such as ``falcon10``.
        source: Where the class list comes from.
        classes: In the order of their ids, 0 to N-1.
        ignored_raw_ids: Values of the dataset's masks that become IGNORE_INDEX.
        ignored_colors: Likewise for masks that are stored as colour pictures, (red, green, blue).
        categories: Coarser partitions: set name -> category name -> names of its classes. The
            order of the categories is their id.
        unscored: What benchmarks leave out: ``classes`` -> class names, or the name of a category
            set -> category names.
        origin: Where it was read from, for error messages; not part of its identity.
    """

    name: str
    source: str
    classes: tuple[TaxonomyClass, ...]
    ignored_raw_ids: tuple[int, ...] = ()
    categories: Mapping[str, Mapping[str, tuple[str, ...]]] = field(default_factory=dict)
    unscored: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    ignored_colors: tuple[tuple[int, int, int], ...] = ()
    origin: str = field(default='', compare=False, repr=False)

    def __post_init__(self) -> None:
        where = self.origin or f'taxonomy {self.name!r}'
        checks.check_classes(self.classes, GROUPS, where)
        checks.check_raw_ids(self.classes, self.ignored_raw_ids, where)
        checks.check_colors(self.classes, self.ignored_colors, where)
        checks.check_categories(self.names, self.categories, self.unscored, where)

    @property
    def num_classes(self) -> int:
        """Number of classes, IGNORE_INDEX not counted."""
        return len(self.classes)

    @cached_property
    def names(self) -> tuple[str, ...]:
        """Class names in the order of their ids."""
        return tuple(entry.name for entry in self.classes)

    @cached_property
    def groups(self) -> tuple[str, ...]:
        """Traversability group of each class, in the order of their ids."""
        return tuple(entry.group for entry in self.classes)

    @cached_property
    def palette_rgb(self) -> np.ndarray:
        """Class colours, (256, 3) uint8, read-only; black where no class has the id."""
        palette = np.zeros((256, 3), np.uint8)
        palette[: self.num_classes] = [entry.color_rgb for entry in self.classes]
        return _read_only(palette)

    @cached_property
    def palette_bgr(self) -> np.ndarray:
        """``palette_rgb`` in OpenCV's channel order, contiguous."""
        return _read_only(np.ascontiguousarray(self.palette_rgb[:, ::-1]))

    def index(self, name: str) -> int:
        """Return the id of the class called ``name``.

        Raises:
            TaxonomyError: There is none; close matches are listed.
        """
        if name not in self.names:
            where = f'taxonomy {self.name!r}'
            hint = close_matches(name, self.names)
            raise TaxonomyError.of(where, f'the class {name!r}', 'one of its classes', hint)
        return self.names.index(name)

    def cost_table(self, overrides: Mapping[str, int] | None = None) -> np.ndarray:
        """Return the cost of each label, (256,) uint8.

        Args:
            overrides: Class name -> cost (0 to 254, 255 unknown) of this robot.

        Raises:
            TaxonomyError: An override names no class or is out of range.
        """
        table = np.full(256, UNKNOWN_COST, np.uint8)
        table[: self.num_classes] = [entry.cost for entry in self.classes]
        for name, cost in (overrides or {}).items():
            where = f'cost override {name!r} (taxonomy {self.name!r})'
            checks.check_range(expect_int(cost, where), 0, UNKNOWN_COST, where)
            table[self.index(name)] = cost
        return table

    def to_dict(self) -> dict[str, Any]:
        """Return plain lists, dicts, texts and numbers that from_dict reads back."""
        colors = ['#' + bytes(color).hex() for color in self.ignored_colors]
        return {
            'name': self.name,
            'source': self.source,
            'classes': [entry.to_dict() for entry in self.classes],
            'ignored_raw_ids': list(self.ignored_raw_ids),
            # Left out when empty: the digest of a taxonomy without them must not change.
            **({'ignored_colors': colors} if colors else {}),
            'categories': {
                key: {group: list(names) for group, names in groups.items()}
                for key, groups in self.categories.items()
            },
            'unscored': {key: list(names) for key, names in self.unscored.items()},
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any], origin: str = '') -> Taxonomy:
        """Build a taxonomy from what to_dict returns or a YAML file holds.

        Args:
            data: See to_dict; only ``name``, ``source`` and ``classes`` must be there.
            origin: File the data is from, to be named in errors.

        Raises:
            TaxonomyError: Naming origin, class, what was found, what was expected and the fix.
        """
        fields = parse_taxonomy(data, origin or 'taxonomy')
        fields['classes'] = tuple(TaxonomyClass(**entry) for entry in fields['classes'])
        return cls(**fields, origin=origin)

    def sha256(self) -> str:
        """Return a hex digest of the content, the same for every way of writing it down."""
        # Lists keep their order (ids), so the category sets must too: their order is their id.
        content = self.to_dict()
        content['categories'] = {k: list(v.items()) for k, v in content['categories'].items()}
        text = json.dumps(content, sort_keys=True, separators=(',', ':'))
        return hashlib.sha256(text.encode()).hexdigest()


def list_taxonomies() -> tuple[str, ...]:
    """Return the names of the shipped taxonomies."""
    return tuple(sorted(path.stem for path in _FOLDER.glob('*.yaml')))


def load_taxonomy(name_or_path: str | Path) -> Taxonomy:
    """Load a shipped taxonomy by name, or any other from a YAML file.

    Args:
        name_or_path: A name of list_taxonomies(), or a path ending in .yaml or .yml.

    Raises:
        TaxonomyError: Unknown name, unreadable file, or content that fails a check.
    """
    is_path = isinstance(name_or_path, Path) or name_or_path.endswith(('.yaml', '.yml'))
    if not is_path and name_or_path not in list_taxonomies():
        hint = close_matches(name_or_path, list_taxonomies())
        expected = 'the name of a shipped taxonomy or the path of a .yaml file'
        raise TaxonomyError.of('taxonomy', repr(name_or_path), expected, hint)
    path = Path(name_or_path) if is_path else _FOLDER / f'{name_or_path}.yaml'
    return Taxonomy.from_dict(read_yaml_mapping(path), origin=str(path))


def load_cost_overrides(path: str | Path) -> dict[str, int]:
    """Load one robot's ``class name: cost`` lines from a YAML file.

    The names are checked where they meet a taxonomy: ``Taxonomy.cost_table(overrides)``.

    Raises:
        TaxonomyError: Unreadable file, a name given twice, or a cost outside 0 to 255.
    """
    overrides = read_yaml_mapping(Path(path))
    for name, cost in overrides.items():
        where = f'{path}: {name!r}'
        if not isinstance(name, str):
            raise TaxonomyError.of(where, type(name).__name__, 'a class name', 'quote it')
        checks.check_range(expect_int(cost, where), 0, UNKNOWN_COST, where)
    return overrides


def _read_only(array: np.ndarray) -> np.ndarray:
    array.flags.writeable = False
    return array
