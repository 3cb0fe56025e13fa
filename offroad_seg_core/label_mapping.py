"""Label maps from one set of classes to another, and from a dataset's masks to label maps."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import cv2
import numpy as np

from offroad_seg_core.taxonomy import IGNORE_INDEX, Taxonomy, TaxonomyError
from offroad_seg_core.taxonomy_checks import check_known, check_unique
from offroad_seg_core.taxonomy_parsing import expect_keys, expect_mapping, read_yaml_mapping


class RawValueError(TaxonomyError):
    """A mask holds values that its taxonomy does not know."""


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
        return cv2.LUT(label_map, self.table, dst=out)

    @classmethod
    def by_name(cls, source: Taxonomy, target: Taxonomy) -> LabelMapping:
        """Map classes of equal name; source classes that the target lacks are ignored."""
        pairs = {name: name if name in target.names else None for name in source.names}
        return cls(source.names, target.names, pairs, f'{source.name} to {target.name}')

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


def encode_raw(raw_mask: np.ndarray, taxonomy: Taxonomy, where: str = 'mask') -> np.ndarray:
    """Turn a dataset's mask of raw values into a label map.

    Args:
        raw_mask: (H, W) uint8 or uint16 raw values, read unchanged (``cv2.IMREAD_UNCHANGED``:
            OpenCV's default squeezes 16 bits into 8 without a word).
        taxonomy: Gives raw values their meaning.
        where: File name or the like, for the error.

    Returns:
        (H, W) uint8 class ids, IGNORE_INDEX where the taxonomy ignores the value.

    Raises:
        RawValueError: The mask has another shape or type, or values without a meaning; they are
            listed with their pixel counts.
    """
    if raw_mask.ndim != 2 or raw_mask.dtype not in (np.uint8, np.uint16):
        got = f'shape {raw_mask.shape} {raw_mask.dtype}'
        fix = 'read the file with cv2.IMREAD_UNCHANGED; a colour mask is no mask of ids'
        raise RawValueError.of(where, got, '(H, W) uint8 or uint16', fix)
    label_map = taxonomy.raw_to_id_table[raw_mask]
    # Unknown values land on IGNORE_INDEX too, so only those pixels need a second look.
    void = raw_mask[label_map == IGNORE_INDEX]
    if void.size:
        counts = np.bincount(void)
        unknown = [int(v) for v in counts.nonzero()[0] if int(v) not in taxonomy.known_raw_ids]
        if unknown:
            pixels = ', '.join(f'{value} ({counts[value]} px)' for value in unknown[:12])
            more = f' and {len(unknown) - 12} more values' if len(unknown) > 12 else ''
            raise RawValueError.of(
                where,
                f'unknown raw values {pixels}{more}',
                f'those of {taxonomy.name}: {_describe_raw_ids(taxonomy)}',
                'use the taxonomy of this dataset or add them to ignored_raw_ids',
            )
    return label_map


def _describe_raw_ids(taxonomy: Taxonomy) -> str:
    known = [f'{raw} {entry.name}' for entry in taxonomy.classes for raw in entry.raw_ids]
    known += [f'{raw} ignored' for raw in taxonomy.ignored_raw_ids]
    return ', '.join(known)
