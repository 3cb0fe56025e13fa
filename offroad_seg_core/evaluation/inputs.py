"""From what a person names to sources of frames and of truth."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import astuple, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, cast

from offroad_seg_core.bags.camera_topics import find_all_cameras
from offroad_seg_core.bags.reading import contents, open_bag
from offroad_seg_core.datasets.label_source import create_reader
from offroad_seg_core.datasets.masks import MaskFormat, MaskReader
from offroad_seg_core.evaluation.drive_places import bag_of, is_bag, labels_below
from offroad_seg_core.evaluation.label_folder import LabelFolder
from offroad_seg_core.evaluation.outputs.sink import LABEL_BAG, LABEL_FILES
from offroad_seg_core.evaluation.recorded_labels import (
    LabelsBeside,
    LabelSource,
    LabelTopics,
    check_topics,
    output_topics,
    truth_topics,
)
from offroad_seg_core.evaluation.sources.bag import BagFrames
from offroad_seg_core.evaluation.sources.combining import LabelledFrames
from offroad_seg_core.evaluation.sources.frame import (
    CONFIDENCE,
    LABEL_MAP,
    TARGET,
    Source,
    SourceError,
    file_identity,
)
from offroad_seg_core.evaluation.sources.pictures import PictureFrames
from offroad_seg_core.evaluation.sources.remote import RemoteDrive
from offroad_seg_core.taxonomy import Taxonomy, load_taxonomy

AUTO, NONE = 'auto', 'none'
TRUTH_TAXONOMY_KEY = 'ground_truth_taxonomy'
"""Custom data of a bag: the taxonomy of its exact labels."""


@dataclass(frozen=True)
class TruthOptions:
    """Where the truth is, and what its ids mean.

    Attributes:
        place: ``auto`` (label topics below `<camera>/ground_truth` of the bag itself), ``none``,
            a bag, a folder of label files, or a folder with a bag of each drive.
        topics: Camera -> topic of a bag, where it is not found by its name.
        taxonomy: Name or file; empty: what the bag says, else the model's own.
        mapping: From there to the model's classes, see ``find_mapping``.
        format: What label files store, see MaskFormat.
    """

    place: str = AUTO
    topics: Mapping[str, str] | None = None
    taxonomy: str = ''
    mapping: str | None = None
    format: str = 'class_ids'


def open_frames(path: str | Path, topics: Sequence[str] = ()) -> Source:
    """Return the frames of a bag, a folder of pictures or a video, or of a bag or video by URL.

    Raises:
        ValueError: There is none of these, or nothing in it.
    """
    if '://' in str(path):
        opening = partial(open_frames, topics=tuple(topics))
        return RemoteDrive(str(path), opening, ['topics', *topics])
    path = Path(path)
    if not path.exists():
        raise SourceError(f'{path}: not there; fix: give a bag, a folder of pictures or a video')
    if is_bag(path):
        return BagFrames(path, topics)
    if topics:
        raise SourceError(f'{path}: got --topics, but it is no bag; fix: leave them out')
    if path.is_dir():
        return PictureFrames(path)
    from offroad_seg_core.evaluation.sources.video import VideoFrames  # needs PyAV

    return VideoFrames(path)


@dataclass(frozen=True)
class LabelOptions:
    """What label maps come with frames.

    Attributes:
        classes: Of the model.
        truth: Where the truth is; None: none is wanted.
        recorded: A bag of a live node's labels, if they are evaluated; or a folder with a bag of
            each drive.
        is_alone: Whether one drive is evaluated: what names no drive is of that.
    """

    classes: Taxonomy
    truth: TruthOptions | None
    recorded: Path | None = None
    is_alone: bool = True

    def identity(self) -> list[Any]:
        """Return plain data that differ when other maps may come with the same frames."""
        named = [self.recorded] if self.recorded else []
        if self.truth:
            named += map(Path, filter(None, astuple(replace(self.truth, topics=None))))
        files = [_files_below(place) for place in named if place.exists()]
        given = repr(self.truth), str(self.recorded), self.is_alone
        return [self.classes.sha256(), *given, files]


def with_labels(frames: Source, options: LabelOptions, drive: str = '') -> Source:
    """Return frames with the label maps that there are of them.

    Args:
        frames: Of one drive.
        options: Where the label maps are.
        drive: Its name; empty: none.

    Raises:
        ValueError: A place holds no labels, or their classes do not fit.
    """
    if isinstance(frames, RemoteDrive):
        step = partial(with_labels, options=options, drive=drive)
        return frames.followed_by(step, [*options.identity(), drive])
    maps: dict[str, LabelSource | LabelsBeside] = {}
    if options.recorded:
        maps |= recorded_labels(options.recorded, drive, options.is_alone)
    if options.truth:
        truth = find_truth(frames, options.classes, options.truth, drive, options.is_alone)
        maps |= {TARGET: truth} if truth else {}
    return LabelledFrames(frames, maps) if maps else frames


def find_truth(
    frames: Source,
    classes: Taxonomy,
    options: TruthOptions,
    drive: str = '',
    is_alone: bool = True,
) -> LabelSource | LabelsBeside | None:
    """Return the truth of frames, None if there is none and it was not asked for.

    Args:
        frames: Of one drive.
        classes: Of the model.
        options: Where the truth is.
        drive: Its name; empty: none.
        is_alone: Whether no other drive is evaluated with it.

    Raises:
        ValueError: The place holds no labels, or their classes do not fit.
    """
    if options.place == NONE:
        return None
    if options.place == AUTO:
        return _truth_beside(frames, classes, options) if isinstance(frames, BagFrames) else None
    place = labels_below(Path(options.place), LABEL_FILES, LABEL_BAG)
    path = bag_of(place, drive, frames.path if isinstance(frames, BagFrames) else None)
    if path is None:
        reader = _reader(options.taxonomy, classes, options)
        return LabelFolder(place, reader, frames, drive, is_alone)
    topics = dict(options.topics or _topics_of(path))
    reader, notes = _topics_reader(path, topics, classes, options)
    needs_date = not is_alone and path == place
    return LabelTopics(path, topics, reader, [notes], needs_date)


def _truth_beside(
    frames: BagFrames, classes: Taxonomy, options: TruthOptions
) -> LabelsBeside | None:
    topics = dict(options.topics or truth_topics(frames.types, frames.cameras))
    if not topics:
        return None
    reader, _ = _topics_reader(frames.path, topics, classes, options)
    return LabelsBeside(topics, reader)


def recorded_labels(
    place: str | Path, drive: str = '', is_alone: bool = True
) -> dict[str, LabelSource]:
    """Return the labels, and confidences if there are some, that a live node said into a bag.

    Args:
        place: The bag, or a folder with a bag of each drive.
        drive: Whose labels they are; empty: it has no name.
        is_alone: Whether no other drive is evaluated with it.

    Raises:
        ValueError: It holds no topic `<camera>/segmentation/mask`.
    """
    place = labels_below(Path(place), LABEL_BAG)
    path = bag_of(place, drive)
    if path is None:
        expected = f'a bag, or a folder with one called {drive or "as the drive is"}'
        raise SourceError(f'{place}: got none, expected {expected}; check the path')
    needs_date = not is_alone and path == place
    with open_bag(path) as bag:
        types, told = {entry.topic: entry.msgtype for entry in bag.connections}, [bag.notes]
    masks, confidences = output_topics(types, 'mask'), output_topics(types, 'confidence')
    if not masks:
        held = ', '.join(sorted(types)) or 'nothing'
        raise SourceError(f'{path}: got no topic .../segmentation/mask; it holds {held}')
    said = partial(LabelTopics, path, reader=None, needs_date=needs_date)
    found: dict[str, LabelSource] = {LABEL_MAP: said(masks, told=told)}
    if confidences:
        found[CONFIDENCE] = said(confidences)
    return found


def _files_below(place: Path) -> list[Any]:
    """Return what differs when a file changes, or one anywhere in a folder."""
    folders = [place, *sorted(path for path in place.rglob('*') if path.is_dir())]
    return [file_identity(folder) for folder in folders]


def _topics_reader(
    path: Path, topics: Mapping[str, str], classes: Taxonomy, options: TruthOptions
) -> tuple[MaskReader, list[str]]:
    """Return the reader of label topics of a bag, and the bag's notes."""
    with open_bag(path) as bag:
        check_topics(bag, topics)
        name = options.taxonomy or bag.custom_data.get(TRUTH_TAXONOMY_KEY, '')
    return _reader(name, classes, options), bag.notes


def _topics_of(path: Path) -> dict[str, str]:
    """Return camera -> label topic of a bag that holds labels: exact ones, or a node's."""
    with open_bag(path) as bag:
        types = {entry.topic: entry.msgtype for entry in bag.connections}
        cameras = find_all_cameras(types)
        found = truth_topics(types, {camera.input_topic: camera for camera in cameras})
        found = found or output_topics(types, 'mask')
        if not found:
            expected = '<camera>/ground_truth/... or <camera>/segmentation/mask'
            fix = 'name them: --truth-topics CAMERA=TOPIC'
            raise SourceError(
                f'{path}: got no label topics, expected {expected}; it holds {contents(bag)}; '
                f'{fix}'
            )
    return found


def _reader(taxonomy: str, classes: Taxonomy, options: TruthOptions) -> MaskReader:
    source = load_taxonomy(taxonomy) if taxonomy else classes
    return create_reader(source, classes, cast(MaskFormat, options.format), options.mapping)
