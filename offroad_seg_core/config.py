"""Read YAML into frozen dataclasses, report every mistake at once, and write them back.

A configuration is a frozen pydantic dataclass that lives beside the code it configures:

    @dataclass(frozen=True, config=STRICT)
    class OptimizerConfig:
        learning_rate: float = 1e-3
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
import dataclasses
import difflib
from pathlib import Path
import types
import typing
from typing import Any, TypeVar

from pydantic import ConfigDict, TypeAdapter, ValidationError
import yaml

STRICT = ConfigDict(extra='forbid', arbitrary_types_allowed=False)

T = TypeVar('T')


class ConfigError(ValueError):
    """A configuration that does not fit: one line for each mistake."""


def load_config(
    cls: type[T], source: str | Path | Mapping[str, Any], overrides: Iterable[str] = ()
) -> T:
    """Build a configuration from a YAML file or a mapping.

    Args:
        cls: A frozen pydantic dataclass; nested ones are built too.
        source: The path of a YAML file, or its content as a mapping.
        overrides: ``'section.key=value'`` strings, applied in order; the value is YAML.

    Raises:
        ConfigError: With one line for each mistake: file, key, got, expected, the fix.
    """
    if isinstance(source, Mapping):
        origin, data = 'configuration', _copy(source)
    else:
        origin, data = str(source), read_yaml(source)
    for override in overrides:
        _apply(data, override)
    try:
        return TypeAdapter(cls).validate_python(data)
    except ValidationError as error:
        lines = [_explain(cls, dict(mistake)) for mistake in error.errors()]
        raise ConfigError('\n'.join(f'{origin}: {line}' for line in lines)) from None


def dump_config(config: Any) -> dict[str, Any]:
    """Return a configuration as plain dicts, lists and scalars that ``load_config`` reads."""
    return TypeAdapter(type(config)).dump_python(config, mode='json')


def read_yaml(path: str | Path) -> dict[str, Any]:
    """Read a YAML file that holds one mapping; a key given twice is an error.

    Raises:
        ConfigError: The file is missing, is not YAML or does not hold a mapping.
    """
    try:
        text = Path(path).read_text(encoding='utf-8')
    except OSError as error:
        raise ConfigError(f'{path}: cannot be read: {error.strerror}') from error
    try:
        data = yaml.load(text, Loader=_UniqueKeyLoader)
    except yaml.YAMLError as error:
        raise ConfigError(f'{path}: not valid YAML: {error}') from error
    if not isinstance(data, dict):
        got = 'nothing' if data is None else type(data).__name__
        raise ConfigError(f'{path}: holds {got}, expected a mapping of keys to values')
    return data


class _UniqueKeyLoader(yaml.SafeLoader):
    """The safe loader, which would let the last of two equal keys win silently."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict:
        seen: set[Any] = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if isinstance(key, str) and key in seen:
                raise yaml.constructor.ConstructorError(
                    None, None, f'key {key!r} is given twice', key_node.start_mark
                )
            seen.add(key if isinstance(key, str) else id(key_node))
        return super().construct_mapping(node, deep)


def _copy(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _copy(item) for key, item in value.items()}
    return value


def _apply(data: dict[str, Any], override: str) -> None:
    key, separator, text = override.partition('=')
    if not separator or not key:
        raise ConfigError(f'override {override!r}: expected section.key=value')
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ConfigError(f'override {override!r}: the value is not valid YAML: {error}') from None
    *parents, leaf = key.split('.')
    for parent in parents:
        data = data.setdefault(parent, {})
        if not isinstance(data, dict):
            raise ConfigError(f'override {override!r}: {parent} holds a value, not a section')
    data[leaf] = value


def _explain(cls: type, mistake: dict[str, Any]) -> str:
    """Turn one pydantic error into 'key: got, expected, fix'."""
    kind = mistake['type']
    path, known = _follow(cls, mistake['loc'])
    key = '.'.join(path) or 'whole configuration'
    if kind == 'unexpected_keyword_argument':
        close = difflib.get_close_matches(path[-1], known, n=1)
        hint = f'did you mean {close[0]!r}?' if close else f'known keys: {", ".join(known)}'
        return f'{key}: unknown key; {hint}'
    if kind in ('missing', 'missing_argument'):
        return f'{key}: missing, and it has no default'
    got = mistake['input']
    if kind in ('dataclass_type', 'dataclass_exact_type'):
        return f'{key}: got {got!r}, expected a section with keys'
    message = str(mistake['msg']).removeprefix('Value error, ')
    if dataclasses.is_dataclass(got) or kind == 'value_error':
        return f'{key}: {message}'
    return f'{key}: got {got!r}; {message[:1].lower()}{message[1:]}'


def _follow(cls: Any, location: tuple[Any, ...]) -> tuple[list[str], list[str]]:
    """Return the keys that lead to a mistake, and the keys that exist where it is.

    pydantic's location also holds the kind that chose among several dataclasses; it is no key.
    """
    path: list[str] = []
    sections = _dataclasses_in(cls)
    for depth, part in enumerate(location):
        hints = {k: v for section in sections for k, v in typing.get_type_hints(section).items()}
        chosen = [section for section in sections if part in _kinds(section)]
        if isinstance(part, str) and part not in hints and chosen:
            sections = chosen
            continue
        path.append(str(part))
        if part in hints and depth < len(location) - 1:
            sections = _dataclasses_in(hints[part])
    return path, sorted({f.name for section in sections for f in dataclasses.fields(section)})


def _kinds(section: type) -> tuple[Any, ...]:
    return typing.get_args(typing.get_type_hints(section).get('kind'))


def _dataclasses_in(hint: Any) -> list[type]:
    """Return the dataclasses in a type hint such as ``tuple[A, ...] | B | None``."""
    if dataclasses.is_dataclass(hint):
        return [hint] if isinstance(hint, type) else [type(hint)]
    if typing.get_origin(hint) is None and not isinstance(hint, types.UnionType):
        return []
    return [found for part in typing.get_args(hint) for found in _dataclasses_in(part)]
