"""From the topics of a bag or a robot to its cameras: which topics, and what to call them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import count
import re

IMAGE_TYPE = 'sensor_msgs/msg/Image'
COMPRESSED_TYPE = 'sensor_msgs/msg/CompressedImage'
TRANSPORTS = {IMAGE_TYPE: 'raw', COMPRESSED_TYPE: 'compressed'}
MAX_CAMERAS = 8

# Last parts of image topics that say how, not where, a picture was taken.
_GENERIC = re.compile(
    r'(image|img|raw|rgb|color|colour|mono|gray|rect|compressed|jpe?g|png|cam|camera)'
    r'(_?(image|raw|rgb|color|colour|mono|gray|rect|compressed|jpe?g|png))*'
)
# Parts of topics that carry no camera picture, or one that was computed from it.
_NO_PICTURE = re.compile(
    r'.*[dD]epth.*|.*disparity.*|infra\d*|ir|thermal|theora|zstd|ground_truth|segmentation|labels?|'
    r'label_map|masks?|overlay|costmap'
)


@dataclass(frozen=True)
class CameraTopic:
    """One camera and the topic of its pictures."""

    name: str
    input_topic: str
    """The topic that carries the pictures."""
    transport: str = 'raw'
    """`raw` or `compressed`."""

    @property
    def info_topic(self) -> str:
        """The sibling topic of the calibration."""
        return sibling(self.input_topic.removesuffix('/compressed'), 'camera_info')


def sibling(topic: str, name: str) -> str:
    """Return the topic beside another: `/front/image_raw` → `/front/camera_info`."""
    parent, slash, _ = topic.rpartition('/')
    return f'{parent}{slash}{name}'


def find_cameras(topics: Mapping[str, str]) -> tuple[CameraTopic, ...]:
    """Return the cameras among topics, given as name → type, in the same order.

    Topics of depth, labels and the like are left out by their names. Where one camera has raw and
    compressed pictures, or cameras differ, the transport that most cameras have is taken (raw if
    equal), since the node takes one for all. At most MAX_CAMERAS are returned.
    """
    inputs = _picture_topics(topics)
    usual = _usual_transport(inputs)
    return _named({t: kind for t, kind in inputs.items() if kind == usual}, MAX_CAMERAS)


def find_all_cameras(topics: Mapping[str, str]) -> tuple[CameraTopic, ...]:
    """Return every camera among topics, those of the other transport too, see find_cameras.

    Of a camera that has both transports, the one that most cameras have is taken. Where there is
    none at all, compressed pictures of any name are: a bag is read whatever the node understands.
    """
    inputs = _picture_topics(topics) or _picture_topics(topics, compressed_ending='')
    usual = _usual_transport(inputs)
    known = [_telling_parts(topic) for topic, kind in inputs.items() if kind == usual]
    return _named(
        {t: k for t, k in inputs.items() if k == usual or _telling_parts(t) not in known}
    )


def _picture_topics(
    topics: Mapping[str, str], compressed_ending: str = '/compressed'
) -> dict[str, str]:
    """Return topic → transport of those that carry camera pictures."""
    return {
        topic: TRANSPORTS[kind]
        for topic, kind in topics.items()
        if (kind == IMAGE_TYPE or (kind == COMPRESSED_TYPE and topic.endswith(compressed_ending)))
        and not any(_NO_PICTURE.fullmatch(part) for part in topic.split('/'))
    }


def _usual_transport(inputs: Mapping[str, str]) -> str:
    return max(('raw', 'compressed'), key=list(inputs.values()).count)


def _named(inputs: Mapping[str, str], most: int | None = None) -> tuple[CameraTopic, ...]:
    chosen = list(inputs)[:most]
    return tuple(
        CameraTopic(name, topic, inputs[topic])
        for name, topic in zip(camera_names(chosen), chosen, strict=True)
    )


def camera_names(topics: list[str]) -> list[str]:
    """Return a short, unique name for each image topic: `/sensors/front/image_raw` → `front`."""
    parts = [_telling_parts(topic) for topic in topics]
    names: list[str] = []
    for length in range(1, max(map(len, parts), default=0) + 1):
        names = ['_'.join(part[-length:]) for part in parts]
        if len(set(names)) == len(names):
            break
    # Topics that differ only in their last, generic parts: number them.
    taken = {name for name in names if names.count(name) == 1}
    unique = []
    for name in names:
        if names.count(name) > 1:
            numbered = (f'{name}_{number}' for number in count(1))
            name = next(entry for entry in numbered if entry not in taken)
            taken.add(name)
        unique.append(name)
    return unique


def _telling_parts(topic: str) -> list[str]:
    parts = [part for part in topic.split('/') if part]
    while len(parts) > 1 and _GENERIC.fullmatch(parts[-1]):
        parts.pop()
    if len(parts) == 1 and _GENERIC.fullmatch(parts[0]):
        parts = ['camera']
    return [as_name(part) for part in parts]


def as_name(part: str) -> str:
    """Return a text as a camera name: letters, digits, single underscores, a letter first."""
    name = re.sub(r'[^A-Za-z0-9]+', '_', part).strip('_') or 'camera'
    return name if name[0].isalpha() else f'camera_{name}'
