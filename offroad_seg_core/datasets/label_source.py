"""From a dataset's own classes to those that are wanted."""

from __future__ import annotations

from typing import Literal

from offroad_seg_core.datasets.masks import DatasetError, MaskFormat, MaskReader
from offroad_seg_core.label_mapping import LabelMapping, list_mappings, load_mapping
from offroad_seg_core.taxonomy import Taxonomy

Unknown = Literal['error', 'ignore']
BY_NAME = 'by_name'
BY_GROUP = 'by_group'


def create_reader(
    source: Taxonomy,
    target: Taxonomy,
    format: MaskFormat,
    mapping: str | None = None,
    unknown: Unknown = 'error',
) -> MaskReader:
    """Return what reads a dataset's label files as label maps of ``target``.

    Args:
        source: The dataset's own classes.
        target: The wanted classes.
        format: What the label files store.
        mapping: See ``find_mapping``.
        unknown: See ``MaskReader``.

    Raises:
        DatasetError: Classes would be dropped, see ``find_mapping``.
        TaxonomyError: The mapping does not fit.
    """
    return MaskReader(source, format, find_mapping(source, target, mapping), unknown)


def find_mapping(source: Taxonomy, target: Taxonomy, mapping: str | None) -> LabelMapping | None:
    """Return how classes become those of the target; None if they are the same.

    Args:
        source: The dataset's own classes.
        target: The wanted classes.
        mapping: Name of a shipped mapping or path of a YAML file, see ``load_mapping``;
            ``'by_name'`` to map classes of equal name and to ignore the pixels of all others;
            ``'by_group'`` to map classes to their traversability groups (traversability7);
            None to map by name if that drops no class.

    Raises:
        DatasetError: Names alone would drop classes and nobody asked for it, or no name is equal.
        TaxonomyError: The mapping file is for other taxonomies, or misses or invents classes.
    """
    if mapping == BY_GROUP:
        return LabelMapping.by_group(source, target)
    if mapping is not None and mapping != BY_NAME:
        return load_mapping(mapping, source, target)
    if source.names == target.names:
        return None
    found = LabelMapping.by_name(source, target)
    dropped = [name for name, goal in found.pairs.items() if goal is None]
    shipped = f'{source.name}_to_{target.name}'
    fix = f'set mapping to {shipped}' if shipped in list_mappings() else 'give a mapping file'
    if len(dropped) == source.num_classes:
        raise DatasetError(
            f'no class of {source.name} has the name of one of {target.name}; {fix}'
        )
    if dropped and mapping is None:
        raise DatasetError(
            f'{len(dropped)} of {source.num_classes} classes of {source.name} are not in '
            f'{target.name}: {", ".join(dropped)}; {fix}, or set mapping to {BY_NAME} to ignore '
            'their pixels'
        )
    return found
