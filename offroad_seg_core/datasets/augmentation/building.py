"""From a configuration's list to albumentations' objects; every mistake is an error."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
import difflib
import inspect
import re
from typing import Any
import warnings

import albumentations

from offroad_seg_core.config import ConfigError
from offroad_seg_core.datasets.augmentation.library import (
    CONTAINERS,
    DROPOUTS,
    find,
    forced_options,
    options_of,
)
from offroad_seg_core.datasets.augmentation.style_transforms import STYLE_TRANSFORMS
from offroad_seg_core.taxonomy import IGNORE_INDEX


@dataclass(frozen=True)
class Surroundings:
    """What a configuration's options may refer to.

    Attributes:
        crop_size: (height, width) of a view.
        input_size: (height, width) of the network's input on the robot.
        mean: RGB of what is outside a frame.
    """

    crop_size: tuple[int, int]
    input_size: tuple[int, int]
    mean: tuple[int, int, int]

    @property
    def words(self) -> dict[str, Any]:
        """What may stand in a configuration for a value."""
        return {
            'crop_size': tuple(self.crop_size),
            'crop_height': self.crop_size[0],
            'crop_width': self.crop_size[1],
            'crop_aspect': self.crop_size[1] / self.crop_size[0],
            'input_size': tuple(self.input_size),
        }


_ANYWHERE = Surroundings((256, 448), (512, 896), (0, 0, 0))


def check(entries: Sequence[Mapping[str, Any]], where: str) -> None:
    """Check names, options and values; reads no target frames.

    Raises:
        ConfigError: With the place, what was got, what was expected and the fix.
    """
    for position, entry in enumerate(entries):
        _build(entry, _ANYWHERE, f'{where}[{position}]', dry=True)


def compose(
    entries: Sequence[Mapping[str, Any]], surroundings: Surroundings, strength: float
) -> albumentations.Compose:
    """Build a pipeline of image, mask and two more masks.

    ``outside`` tells what is padding, ``origins`` where the pixels are from, see ``Pipeline``.

    Args:
        entries: One mapping a transform.
        surroundings: Sizes and the mean colour.
        strength: A probability p below 1 becomes ``1 - (1 - p) ** strength``.

    Raises:
        ConfigError: See ``check``; or a folder of target frames cannot be read.
    """
    transforms = [
        _build(entry, surroundings, f'transforms[{position}]')
        for position, entry in enumerate(entries)
    ]
    targets = {'outside': 'mask', 'origins': 'mask'}
    pipeline = albumentations.Compose(transforms, additional_targets=targets)
    for transform in transforms:
        _raise_probability(transform, strength)
    return pipeline


def _build(
    entry: Mapping[str, Any], surroundings: Surroundings, where: str, dry: bool = False
) -> Any:
    if not isinstance(entry, Mapping) or 'name' not in entry:
        raise ConfigError(f'{where}: got {entry!r}; expected {{name: ..., option: value}}')
    name = entry['name']
    cls = find(name, where)
    where = f'{where} ({name})'
    options = {key: value for key, value in entry.items() if key != 'name'}
    _check_options(name, options, where)
    options = {key: _resolve(value, surroundings.words) for key, value in options.items()}
    if name in CONTAINERS:
        children = entry.get('transforms')
        if not isinstance(children, (list, tuple)) or not children:
            raise ConfigError(f'{where}: got transforms: {children!r}; expected a list of them')
        options['transforms'] = [
            _build(child, surroundings, f'{where}.transforms[{position}]', dry)
            for position, child in enumerate(children)
        ]
        return _construct(cls, options, where)
    options |= forced_options(name, surroundings.mean)
    if cls in STYLE_TRANSFORMS and dry:
        return _validate(cls, options, where)
    return _construct(cls, options, where)


def _check_options(name: str, options: Mapping[str, Any], where: str) -> None:
    known = options_of(name)
    forced = forced_options(name, (0, 0, 0))
    for option, value in options.items():
        if option in forced:
            raise ConfigError(
                f'{where}: got {option}: {value!r}; expected it left out: labels are always '
                'nearest neighbours, and what is outside is 255 in the mean colour'
            )
        if option not in known:
            close = difflib.get_close_matches(str(option), known, n=1)
            hint = f'did you mean {close[0]!r}?' if close else ''
            known_text = f'its options are {", ".join(known)}'
            raise ConfigError(f'{where}: unknown option {option!r}; {hint or known_text}')
    if options.get('area_for_downscale') == 'image_mask':
        raise ConfigError(f'{where}: got area_for_downscale: image_mask; expected image or null')
    if name in DROPOUTS and options.get('fill_mask') not in (None, IGNORE_INDEX):
        got = options['fill_mask']
        raise ConfigError(f'{where}: got fill_mask: {got!r}; expected null (labels stay) or 255')


def _resolve(value: Any, words: Mapping[str, Any]) -> Any:
    """Replace words by sizes, and YAML's lists by the tuples that albumentations wants."""
    if isinstance(value, str):
        return words.get(value, value)
    if isinstance(value, (list, tuple)):
        return tuple(_resolve(item, words) for item in value)
    if isinstance(value, Mapping):
        return {key: _resolve(item, words) for key, item in value.items()}
    return value


def _construct(cls: type, options: Mapping[str, Any], where: str) -> Any:
    if 'InitSchema' in vars(cls):  # otherwise albumentations does not know the word
        options = {**options, 'strict': True}
    try:
        with warnings.catch_warnings():
            # albumentations warns and goes on with its defaults.
            warnings.simplefilter('error')
            warnings.filterwarnings('ignore', message='.*special case of Affine.*')
            return cls(**options)
    except (ValueError, TypeError, Warning) as error:
        raise ConfigError(f'{where}: {_shorten(error)}') from None


def _validate(cls: Any, options: Mapping[str, Any], where: str) -> None:
    """Check the values of a transform that would read files if it were made."""
    parameters = inspect.signature(cls).parameters.values()
    defaults = {item.name: item.default for item in parameters if item.default is not item.empty}
    try:
        cls.InitSchema(**{**defaults, **options, 'strict': True})
    except ValueError as error:
        raise ConfigError(f'{where}: {_shorten(error)}') from None


def _shorten(error: Exception) -> str:
    """Return pydantic's message on one line, without its links."""
    lines = [line.strip() for line in str(error).splitlines()]
    kept = [line for line in lines if line and not line.startswith('For further information')]
    text = '; '.join(kept).replace('InitSchema;', 'InitSchema:')
    return re.sub(r'\d+ validation errors? for InitSchema: ', '', text)


def _raise_probability(transform: Any, strength: float, chosen: bool = False) -> None:
    """Make a transform and those inside it more frequent.

    Args:
        transform: A leaf or a container.
        strength: See ``compose``.
        chosen: An alternative of ``OneOf``, whose ``p`` is its weight among the others.
    """
    for key in ('p', 'each_p'):
        p = getattr(transform, key, 1)
        if p < 1 and not (chosen and key == 'p'):
            setattr(transform, key, 1 - (1 - p) ** strength)
    for child in getattr(transform, 'transforms', ()):
        _raise_probability(child, strength, isinstance(transform, albumentations.OneOf))
