"""Sources made of other sources: with labels beside the frames, or several as one."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from typing import Any

from offroad_seg_core.evaluation.recorded_labels import LabelsBeside, LabelSource
from offroad_seg_core.evaluation.sources.bag import BagFrames
from offroad_seg_core.evaluation.sources.frame import (
    LEFT_OUT,
    Frame,
    Source,
    SourceError,
    UniqueNames,
)


class LabelledFrames:
    """A source whose frames come with recorded label maps.

    Args:
        source: The frames.
        labels: Key of Frame.maps -> where the maps are.
    """

    def __init__(self, source: Source, labels: Mapping[str, LabelSource | LabelsBeside]) -> None:
        beside = {key: maps for key, maps in labels.items() if isinstance(maps, LabelsBeside)}
        if beside:
            assert isinstance(source, BagFrames)
            source = source.with_labels(beside)
        self._source, self._labels = source, labels
        self._elsewhere: dict[str, LabelSource] = {
            key: maps for key, maps in labels.items() if not isinstance(maps, LabelsBeside)
        }
        self.num_frames, self.num_parts = source.num_frames, source.num_parts
        self.can_seek = source.can_seek

    @property
    def notes(self) -> Sequence[str]:
        """See Source."""
        told = [note for labels in self._elsewhere.values() for note in labels.notes]
        # Labels and confidences of one bag say the same.
        return list(dict.fromkeys([*self._source.notes, *told]))

    def frames(self, first_part: int, names: UniqueNames) -> Iterator[tuple[int, Frame]]:
        """Yield (part, frame), see Source."""
        frames = self._source.frames(first_part, names)
        for key, labels in self._elsewhere.items():
            frames = labels.attach(key, frames)
        return frames

    def identity(self) -> dict[str, Any]:
        """Return what frames and labels depend on."""
        labels = {key: entry.identity() for key, entry in self._labels.items()}
        return {**self._source.identity(), 'labels': labels}

    def description(self) -> dict[str, Any]:
        """Return what people want to know of the source."""
        return {**self._source.description(), 'labels': sorted(self._labels)}


class SeveralSources:
    """Sources one after another; a camera is called `<source>/<camera>`.

    Args:
        sources: Name -> source.
        notes: What was left out, as sentences.

    Attributes:
        sources: As given.
        left_out: The notes as given, and why a source gave no frame.
    """

    def __init__(self, sources: Mapping[str, Source], notes: Sequence[str] = ()) -> None:
        self.sources, self.left_out = sources, list(notes)
        self.num_frames = sum(source.num_frames for source in sources.values())
        self.num_parts = sum(source.num_parts for source in sources.values())
        self.can_seek = all(source.can_seek for source in sources.values())

    @property
    def notes(self) -> list[str]:
        """See Source."""
        told = [note for source in self.sources.values() for note in source.notes]
        return [*self.left_out, *told]

    def frames(self, first_part: int, names: UniqueNames) -> Iterator[tuple[int, Frame]]:
        """Yield (part, frame), see Source; a source that fails before its first frame is left out.

        Raises:
            SourceError: Each of them failed.
        """
        before, failed = 0, []
        for name, source in self.sources.items():
            first, is_open = max(0, first_part - before), False
            try:
                if first < source.num_parts:
                    for part, frame in source.frames(first, names.within(name)):
                        is_open = True
                        yield before + part, _renamed(frame, name)
            except (ValueError, OSError) as error:
                if is_open or len(self.sources) == 1:
                    raise
                failed.append(f'{name}{LEFT_OUT}{error}')
                self.left_out.append(failed[-1])
            before += source.num_parts
        if len(failed) == len(self.sources) > 0:
            raise SourceError('; '.join(failed))

    def identity(self) -> dict[str, Any]:
        """Return what the frames depend on."""
        return {name: source.identity() for name, source in self.sources.items()}

    def description(self) -> dict[str, Any]:
        """Return what people want to know of the sources."""
        described = {name: source.description() for name, source in self.sources.items()}
        kinds = {entry['kind'] for entry in described.values()}
        return {
            'kind': kinds.pop() if len(kinds) == 1 else 'several',
            'path': ', '.join(entry['path'] for entry in described.values()),
            'start_ns': None,
            'duration_s': sum(entry['duration_s'] or 0.0 for entry in described.values()) or None,
            'cameras': {
                f'{name}/{camera}': facts
                for name, entry in described.items()
                for camera, facts in entry['cameras'].items()
            },
            'kinds': {name: entry['kind'] for name, entry in described.items()},
            'left_out': list(self.left_out),
        }


class PartsOf:
    """Some parts of a source, as a source of their own.

    Args:
        source: Has the parts.
        first: The first of them.
        end: The one after the last of them.
    """

    def __init__(self, source: Source, first: int, end: int) -> None:
        self._source, self._first, self._end = source, first, end
        self.num_parts, self.can_seek = end - first, source.can_seek
        self.num_frames = source.num_frames * self.num_parts // max(1, source.num_parts)

    @property
    def notes(self) -> Sequence[str]:
        """See Source."""
        return self._source.notes

    def frames(self, first_part: int, names: UniqueNames) -> Iterator[tuple[int, Frame]]:
        """Yield (part, frame), see Source."""
        with closing(self._source.frames(self._first + first_part, names)) as frames:  # type: ignore[type-var]
            for part, frame in frames:
                if part >= self._end:
                    return
                yield part - self._first, frame

    def identity(self) -> dict[str, Any]:
        """Return what the frames depend on."""
        return {**self._source.identity(), 'parts': [self._first, self._end]}

    def description(self) -> dict[str, Any]:
        """Return what people want to know of the whole source."""
        return self._source.description()


def _renamed(frame: Frame, source: str) -> Frame:
    return replace(
        frame,
        drive=source,
        camera=f'{source}/{frame.camera}',
        environment=f'{source}/{frame.environment}',
    )
