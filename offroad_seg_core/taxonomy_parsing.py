"""YAML and mappings to the plain fields of a taxonomy, with errors that say what to mend.

Only types and keys are checked here; what the values mean together (unique names, full cover) is
checked by ``offroad_seg_core.taxonomy.Taxonomy`` itself, however it was made.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
import difflib
from pathlib import Path
import re
from typing import Any

import yaml

TAXONOMY_KEYS = (
    ('name', 'source', 'classes', 'ignored_raw_ids', 'ignored_colors', 'categories', 'unscored')
)  # fmt: skip
CLASS_KEYS = ('id', 'name', 'color', 'raw_ids', 'group', 'cost')
_HEX_COLOR = re.compile(r'#[0-9a-fA-F]{6}')


class TaxonomyError(ValueError):
    """A taxonomy, label mapping or cost table that contradicts itself or its format."""

    @classmethod
    def of(cls, where: str, got: object, expected: str, fix: str) -> TaxonomyError:
        """Build the error in the one form all of them have."""
        return cls(f'{where}: got {got}; expected {expected}; {fix}')


class _UniqueKeyLoader(yaml.SafeLoader):
    """PyYAML keeps the last of two equal keys in silence; a cost given twice must not pass."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict:
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]
        for key, (key_node, _) in zip(keys, node.value, strict=True):
            if keys.count(key) > 1:
                raise yaml.constructor.ConstructorError(
                    'while reading a mapping',
                    node.start_mark,
                    f'key {key!r} is given {keys.count(key)} times',
                    key_node.start_mark,
                )
        return super().construct_mapping(node, deep)


def read_yaml_mapping(path: Path) -> dict:
    """Read a YAML file whose top level is a mapping; equal keys are refused.

    Raises:
        TaxonomyError: The file is missing, is not YAML, or holds something else.
    """
    try:
        text = path.read_text(encoding='utf-8')
    except (OSError, UnicodeDecodeError) as error:
        raise TaxonomyError.of(
            str(path), error, 'a readable UTF-8 file', 'check the path'
        ) from error
    try:
        data = yaml.load(text, Loader=_UniqueKeyLoader)
    except yaml.YAMLError as error:
        raise TaxonomyError.of(str(path), error, 'valid YAML', 'mend that line') from error
    return expect_mapping(data, str(path))


def close_matches(name: object, known: Iterable[str]) -> str:
    """Return a phrase for an error: what ``name`` may have meant, or all that is known."""
    known = list(known)
    lowered = {entry.lower(): entry for entry in known}
    matches = difflib.get_close_matches(str(name).lower(), lowered, n=3, cutoff=0.6)
    if matches:
        return 'did you mean ' + ' or '.join(repr(lowered[match]) for match in matches) + '?'
    return 'known: ' + ', '.join(known)


def expect_mapping(data: object, where: str) -> dict:
    """Return ``data`` if it is a mapping."""
    if not isinstance(data, Mapping):
        raise TaxonomyError.of(where, type(data).__name__, 'a mapping', 'write key: value lines')
    return dict(data)


def expect_keys(data: Mapping, required: Iterable[str], known: Iterable[str], where: str) -> None:
    """Refuse keys that are not known and miss none that is required."""
    for key in data:
        if key not in known:
            hint = close_matches(key, known)
            raise TaxonomyError.of(where, f'the unknown key {key!r}', 'known keys only', hint)
    missing = [key for key in required if key not in data]
    if missing:
        raise TaxonomyError.of(where, f'no {", ".join(missing)}', 'these keys', 'add them')


def expect_int(value: object, where: str) -> int:
    """Return ``value`` if it is an integer (YAML's ``true`` is none)."""
    if isinstance(value, bool) or not isinstance(value, int):
        raise TaxonomyError.of(where, repr(value), 'an integer', 'write a plain number')
    return value


def expect_text(value: object, where: str) -> str:
    """Return ``value`` if it is a non-empty string without spaces around it."""
    if not isinstance(value, str) or not value or value != value.strip():
        fix = 'quote it if YAML reads it as something else'
        raise TaxonomyError.of(where, repr(value), 'a non-empty text', fix)
    return value


def _expect_list(value: object, where: str) -> list:
    if not isinstance(value, list | tuple):
        raise TaxonomyError.of(where, repr(value), 'a list', 'write [a, b]')
    return list(value)


def parse_color(value: object, where: str) -> tuple[int, int, int]:
    """Return (red, green, blue) of ``'#rrggbb'`` or of three integers 0 to 255."""
    if isinstance(value, str) and _HEX_COLOR.fullmatch(value):
        red, green, blue = bytes.fromhex(value[1:])
        return red, green, blue
    if isinstance(value, list | tuple) and len(value) == 3:
        red, green, blue = (expect_int(part, where) for part in value)
        if all(0 <= part <= 255 for part in (red, green, blue)):
            return red, green, blue
    expected = "'#rrggbb' or [red, green, blue] with 0 to 255 each"
    raise TaxonomyError.of(where, repr(value), expected, 'quote a hex colour: # starts a comment')


def parse_class(data: object, origin: str, position: int) -> dict[str, Any]:
    """Return the arguments of TaxonomyClass from one entry of ``classes``."""
    where = f'{origin}: classes[{position}]'
    data = expect_mapping(data, where)
    if 'name' in data:
        where = f'{where} {data["name"]!r}'
    expect_keys(data, CLASS_KEYS, CLASS_KEYS, where)
    return {
        'id': expect_int(data['id'], f'{where}.id'),
        'name': expect_text(data['name'], f'{where}.name'),
        'color_rgb': parse_color(data['color'], f'{where}.color'),
        'raw_ids': _parse_ints(data['raw_ids'], f'{where}.raw_ids'),
        'group': expect_text(data['group'], f'{where}.group'),
        'cost': expect_int(data['cost'], f'{where}.cost'),
    }


def parse_taxonomy(data: object, origin: str) -> dict[str, Any]:
    """Return the arguments of Taxonomy, its classes as parse_class gives them."""
    data = expect_mapping(data, origin)
    expect_keys(data, ('name', 'source', 'classes'), TAXONOMY_KEYS, origin)
    classes = _expect_list(data['classes'], f'{origin}: classes')
    categories = expect_mapping(data.get('categories', {}), f'{origin}: categories')
    return {
        'name': expect_text(data['name'], f'{origin}: name'),
        'source': expect_text(data['source'], f'{origin}: source'),
        'classes': [parse_class(entry, origin, index) for index, entry in enumerate(classes)],
        'ignored_raw_ids': _parse_ints(
            data.get('ignored_raw_ids', []), f'{origin}: ignored_raw_ids'
        ),
        'ignored_colors': tuple(
            parse_color(color, f'{origin}: ignored_colors')
            for color in _expect_list(data.get('ignored_colors', []), f'{origin}: ignored_colors')
        ),
        'categories': {
            expect_text(key, f'{origin}: categories'): _parse_names(
                groups, f'{origin}: categories.{key}'
            )
            for key, groups in categories.items()
        },
        'unscored': _parse_names(data.get('unscored', {}), f'{origin}: unscored'),
    }


def _parse_ints(value: object, where: str) -> tuple[int, ...]:
    return tuple(expect_int(entry, where) for entry in _expect_list(value, where))


def _parse_names(value: object, where: str) -> dict[str, tuple[str, ...]]:
    return {
        expect_text(key, where): tuple(
            expect_text(name, f'{where}.{key}') for name in _expect_list(names, f'{where}.{key}')
        )
        for key, names in expect_mapping(value, where).items()
    }
