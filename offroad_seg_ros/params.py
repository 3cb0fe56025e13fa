"""Every parameter of the node: type, default, range and meaning, in one place.

`config/segment.param.yaml` repeats the defaults for people to edit; a test keeps the two equal.
How values get from ROS into these classes is in parameter_handling.py.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import MISSING, dataclass, field, fields
import re
from typing import Any, NamedTuple

from offroad_seg_core.inference.engines import ENGINES
from offroad_seg_core.inference.tta import TTA_VIEWS

# What a ROS 2 topic name may hold between two slashes.
_NAME_TOKEN = re.compile(r'[A-Za-z][A-Za-z0-9]*(_[A-Za-z0-9]+)*')
_SIZE = re.compile(r'([1-9][0-9]{0,4})x([1-9][0-9]{0,4})')
# Outputs are allocated at this size; a typing error must not take gigabytes.
_MAX_SIDE_PX = 16_384


class ParameterError(ValueError):
    """A parameter has a value that it cannot have."""

    @classmethod
    def of(cls, name: str, got: object, expected: str, fix: str) -> ParameterError:
        """Build the error in the one form all of them have."""
        return cls(f'parameter {name}: got {got!r}, expected {expected}; fix: {fix}')


class Spec(NamedTuple):
    """What is declared to ROS about one parameter."""

    type: type
    default: Any
    description: str
    low: float | None = None
    high: float | None = None
    choices: tuple[Any, ...] = ()
    structural: bool = False
    """Writable only while the node is unconfigured."""

    def check(self, name: str, value: Any) -> None:
        """Raise ParameterError unless the value is one of the choices and in the range."""
        if self.choices and value not in self.choices:
            expected = 'one of ' + ', '.join(map(str, self.choices))
            raise ParameterError.of(name, value, expected, 'choose one of them')
        if self.low is not None and not self.low <= value <= self.high:
            expected = f'{self.low} to {self.high}'
            raise ParameterError.of(name, value, expected, 'give a value in this range')

    def convert(self, name: str, value: Any) -> Any:
        """Return a value from a file or command line as this type, or raise ParameterError."""
        if self.type is float and type(value) is int:
            return float(value)
        if self.type is tuple:
            if isinstance(value, list) and all(isinstance(entry, str) for entry in value):
                return tuple(entry for entry in value if entry)
            raise ParameterError.of(name, value, 'a list of texts', 'write [name, other name]')
        if type(value) is not self.type:
            fix = 'quote a text, write a number with a point, true or false'
            raise ParameterError.of(name, value, f'a {self.type.__name__}', fix)
        return value


def _param(default: Any, description: str, **constraints: Any) -> Any:
    return field(default=default, metadata={'description': description, **constraints})


def _structural(default: Any, description: str, **constraints: Any) -> Any:
    return _param(default, description, structural=True, **constraints)


@dataclass(frozen=True)
class CameraParams:
    """How one camera is mounted; declared as `<camera>.<field>`."""

    rotation_deg: int = _structural(
        0,
        'Clockwise rotation that makes the image upright; outputs keep the camera geometry.',
        choices=(0, 90, 180, 270),
    )
    ego_mask: str = _structural(
        '',
        'PNG at camera size, non-zero where the robot sees itself (labels become 255); '
        'empty: none.',
    )

    def __post_init__(self) -> None:
        _check_fields(self)


@dataclass(frozen=True)
class NodeParams:
    """One checked, consistent set of all parameters."""

    autostart: bool = _structural(True, 'Configure and activate by itself at start.')
    bundle: str = _structural('', 'Folder of the model bundle (holds manifest.yaml).')
    engine: str = _structural(
        'auto',
        'What runs the model; auto: the fastest on this machine.',
        choices=('auto', *sorted(ENGINES)),
    )
    precision: str = _structural(
        'auto',
        'Arithmetic of the engine; auto: the fastest, int8 only if its accuracy was checked.',
        choices=('auto', 'fp32', 'fp16', 'bf16', 'int8'),
    )
    num_threads: int = _structural(
        0, 'Threads of a CPU engine; 0: its own choice.', low=0, high=256
    )
    num_streams: int = _structural(
        0,
        'Cameras served at the same time, each with its share of the engine, where that was '
        'measured to give more frames; 0: all.',
        low=0,
        high=64,
    )
    fallback: bool = _structural(
        False, 'When the named engine cannot run, choose as engine auto does, and say so.'
    )
    engine_cache: str = _structural(
        '', 'Folder of built engines and measured choices; empty: ~/.cache/offroad_seg.'
    )
    build_only: bool = _structural(
        False, 'Build the engine, run it once and end; the exit status tells whether it works.'
    )
    cameras: tuple[str, ...] = _structural(
        ('windshield', 'left'), 'Camera names; each has its topics under its name.'
    )
    transport: str = _structural(
        'raw',
        'raw: <camera>/image; compressed: <camera>/image/compressed (JPEG, PNG).',
        choices=('raw', 'compressed'),
    )
    input_reliability: str = _structural(
        'auto',
        'Reliability asked of camera drivers; auto: reliable when every publisher offers it.',
        choices=('auto', 'reliable', 'best_effort'),
    )
    output_size: str = _structural(
        'camera',
        'Size of all output images: camera, engine (what the network saw) or HEIGHTxWIDTH '
        'such as 544x960.',
    )
    cost_overrides_file: str = _structural(
        '', 'YAML file of "class name: cost" lines for this robot; empty: the taxonomy\'s costs.'
    )
    enabled: bool = _param(True, 'Process frames; false: drop them and stay subscribed.')
    tta: str = _param(
        'off',
        'Test-time augmentation; auto: as many views as fit deadline_ms.',
        choices=tuple(TTA_VIEWS),
    )
    deadline_ms: float = _param(
        100.0, 'From receipt to labels, for tta: auto.', low=1.0, high=60_000.0
    )
    absent_classes: tuple[str, ...] = _param(
        (), "Classes that do not occur at this site, by name; [''] is the same as []."
    )
    confidence_threshold: float = _param(
        0.0, 'Pixels less confident than this become 255.', low=0.0, high=1.0
    )
    overlay_alpha: float = _param(
        0.45, 'Share of the traversability colour in the overlay.', low=0.0, high=1.0
    )
    overlay_legend: bool = _param(False, 'Draw what the colours mean into the overlay.')
    max_age_ms: float = _param(
        1000.0, 'Frames older than this are dropped; 0: never.', low=0.0, high=3_600_000.0
    )
    age_source: str = _param(
        'receipt',
        "Where a frame's age counts from: its receipt (steady clock) or its stamp (ROS clock).",
        choices=('receipt', 'stamp'),
    )
    input_timeout_s: float = _param(
        2.0,
        'No frame, or none that comes to its end, for so long: diagnostics WARN; five times '
        'that: ERROR.',
        low=0.01,
        high=3600.0,
    )
    views: Mapping[str, CameraParams] = field(default_factory=dict)
    """Camera name → its own parameters; not a ROS parameter itself."""

    def __post_init__(self) -> None:
        _check_fields(self)
        _check_cameras(self.cameras)
        parse_output_size(self.output_size)


def parse_output_size(text: str) -> str | tuple[int, int]:
    """Return `camera`, `engine` or the (height, width) of a text such as `544x960`."""
    if text in ('camera', 'engine'):
        return text
    match = _SIZE.fullmatch(text)
    if match is None:
        fix = "for 544 rows of 960 pixels write '544x960'"
        raise ParameterError.of('output_size', text, 'camera, engine or HEIGHTxWIDTH', fix)
    size = int(match[1]), int(match[2])
    if max(size) > _MAX_SIDE_PX:
        expected = f'sides of at most {_MAX_SIDE_PX} px'
        raise ParameterError.of('output_size', text, expected, 'give a smaller size')
    return size


def specs(owner: type) -> dict[str, Spec]:
    """Return the parameters of NodeParams or CameraParams by name."""
    defaults = owner()
    return {
        entry.name: Spec(
            type=type(getattr(defaults, entry.name)),
            default=getattr(defaults, entry.name),
            **entry.metadata,
        )
        for entry in fields(owner)
        if entry.default is not MISSING
    }


def _check_fields(params: NodeParams | CameraParams) -> None:
    for entry in fields(params):
        if entry.metadata:
            keywords = {k: v for k, v in entry.metadata.items() if k != 'description'}
            spec = Spec(object, None, '', **keywords)
            spec.check(entry.name, getattr(params, entry.name))


def _check_cameras(names: tuple[str, ...]) -> None:
    if not names:
        raise ParameterError.of('cameras', list(names), 'at least one name', 'name a camera')
    for name in names:
        if _NAME_TOKEN.fullmatch(name) is None:
            fix = 'use letters, digits and single underscores, a letter first'
            raise ParameterError.of('cameras', name, 'a valid part of a topic name', fix)
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        fix = f'give {", ".join(twice)} once'
        raise ParameterError.of('cameras', list(names), 'each name once', fix)
    reserved = sorted(set(names) & {entry.name for entry in fields(NodeParams)})
    if reserved:
        fix = 'rename it: its own parameters would be mixed up with the node parameter'
        raise ParameterError.of('cameras', reserved[0], 'no name of a parameter', fix)
