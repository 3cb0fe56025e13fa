"""Label maps from one set of classes to another."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from offroad_seg_core.lookup import lookup
from offroad_seg_core.taxonomy import IGNORE_INDEX, Taxonomy, TaxonomyError
from offroad_seg_core.taxonomy_checks import check_known, check_unique
from offroad_seg_core.taxonomy_parsing import (
    close_matches,
    expect_keys,
    expect_mapping,
    read_yaml_mapping,
)

_FOLDER = Path(__file__).parent / 'taxonomies' / 'mappings'


@dataclass(frozen=True)
class LabelMapping:
    """Where each class of a source goes in a target.

    Attributes:
        source_names: Class names of the source in the order of their ids.
        target_names: Class names of the target in the order of their ids.
        pairs: Source name -> target name, or None for IGNORE_INDEX; every source name is there.
        origin: Where it was read from, for error messages.
    """

    source_names: tuple[str, ...]
    target_names: tuple[str, ...]
    pairs: Mapping[str, str | None]
    origin: str = 'label mapping'

    def __post_init__(self) -> None:
        for names in (self.source_names, self.target_names):
            check_unique(((name, name) for name in names), 'name', self.origin)
        check_known(self.pairs, self.source_names, f'{self.origin}: source')
        targets = (name for name in self.pairs.values() if name is not None)
        check_known(targets, self.target_names, f'{self.origin}: target')
        missing = [name for name in self.source_names if name not in self.pairs]
        if missing:
            got = f'nothing for {", ".join(missing)}'
            fix = 'give a target class, or null to ignore'
            raise TaxonomyError.of(self.origin, got, 'every source class', fix)

    @cached_property
    def table(self) -> np.ndarray:
        """Target id of each source id, (256,) uint8, read-only; IGNORE_INDEX for all others."""
        table = np.full(256, IGNORE_INDEX, np.uint8)
        for source_id, name in enumerate(self.source_names):
            target = self.pairs[name]
            if target is not None:
                table[source_id] = self.target_names.index(target)
        table.flags.writeable = False
        return table

    def apply(self, label_map: np.ndarray, out: np.ndarray | None = None) -> np.ndarray:
        """Map a label map of the source, (H, W) uint8, to one of the target, (H, W) uint8."""
        return lookup(label_map, self.table, out)

    @classmethod
    def by_name(cls, source: Taxonomy, target: Taxonomy) -> LabelMapping:
        """Map classes of equal name; source classes that the target lacks are ignored."""
        pairs = {name: name if name in target.names else None for name in source.names}
        return cls(source.names, target.names, pairs, f'{source.name} to {target.name}')

    @classmethod
    def by_group(cls, source: Taxonomy, target: Taxonomy) -> LabelMapping:
        """Map classes to that class of the target which is called like their group.

        Raises:
            TaxonomyError: The target lacks a group, see ``traversability7``.
        """
        pairs = dict(zip(source.names, source.groups, strict=True))
        return cls(source.names, target.names, pairs, f'groups of {source.name} to {target.name}')

    @classmethod
    def to_categories(
        cls, source: Taxonomy, categories: str, ignored: Iterable[str] | None = None
    ) -> LabelMapping:
        """Map classes to the categories of one of the taxonomy's sets.

        Args:
            source: Taxonomy with the set.
            categories: Name of the set; the order of its categories is their id.
            ignored: Categories that become IGNORE_INDEX. Ids of the others do not move. None
                takes the ones that the taxonomy lists as unscored.
        """
        origin = f'{source.name} to {categories}'
        check_known([categories], source.categories, f'categories of {source.name}')
        groups = source.categories[categories]
        if ignored is None:
            ignored = source.unscored.get(categories, ())
        ignored = tuple(ignored)
        check_known(ignored, groups, f'{origin}: ignored')
        pairs = {
            name: None if category in ignored else category
            for category, members in groups.items()
            for name in members
        }
        return cls(source.names, tuple(groups), pairs, origin)

    @classmethod
    def load(cls, path: str | Path, source: Taxonomy, target: Taxonomy) -> LabelMapping:
        """Load ``source``, ``target`` (taxonomy names) and ``classes`` (name: name or null).

        Raises:
            TaxonomyError: The file is for other taxonomies, or misses or invents classes.
        """
        data = read_yaml_mapping(Path(path))
        keys = ('source', 'target', 'classes')
        expect_keys(data, keys, keys, str(path))
        for key, taxonomy in (('source', source), ('target', target)):
            if data[key] != taxonomy.name:
                fix = 'pass the taxonomy that the file is for'
                where = f'{path}: {key}'
                raise TaxonomyError.of(where, repr(data[key]), repr(taxonomy.name), fix)
        pairs = expect_mapping(data['classes'], f'{path}: classes')
        return cls(source.names, target.names, pairs, str(path))


def list_mappings() -> tuple[str, ...]:
    """Return the names of the shipped label mappings, ``<source>_to_<target>``."""
    return tuple(sorted(path.stem for path in _FOLDER.glob('*.yaml')))


def load_mapping(name_or_path: str | Path, source: Taxonomy, target: Taxonomy) -> LabelMapping:
    """Load a shipped label mapping by name, or any other from a YAML file.

    Args:
        name_or_path: A name of list_mappings(), or a path ending in .yaml or .yml.
        source: Taxonomy that the mapping starts from.
        target: Taxonomy that it leads to.

    Raises:
        TaxonomyError: Unknown name, or content that LabelMapping.load refuses.
    """
    is_path = isinstance(name_or_path, Path) or name_or_path.endswith(('.yaml', '.yml'))
    if not is_path and name_or_path not in list_mappings():
        expected = 'the name of a shipped mapping or the path of a .yaml file'
        hint = close_matches(name_or_path, list_mappings())
        raise TaxonomyError.of('label mapping', repr(name_or_path), expected, hint)
    path = Path(name_or_path) if is_path else _FOLDER / f'{name_or_path}.yaml'
    return LabelMapping.load(path, source, target)
