"""A drive that lies in object storage."""

from __future__ import annotations

from collections.abc import Callable, Iterator
import copy
import hashlib
from pathlib import Path
from typing import Any

from offroad_seg_core.evaluation.sources.frame import Frame, Source, SourceError, UniqueNames
from offroad_seg_core.evaluation.sources.urls import asked, shown, url_name
from offroad_seg_core.files import scratch_folder


class RemoteDrive:
    """A bag or video behind a URL: fetched when its frames are read, and removed after that.

    It is one part: what is cut in time would be fetched once for each piece. So the machine that
    names the drives fetches none of them.

    Args:
        url: Of the bag (a file, or a folder with metadata.yaml) or video.
        open_drive: Opens what was fetched; for another process it must be picklable.
        options: What opening depends on, plain data.

    Raises:
        SourceError: It is not there.
        StorageError, OSError: See ``filesystem``.
    """

    num_frames = 0
    num_parts = 1
    can_seek = False

    def __init__(self, url: str, open_drive: Callable[[Path], Source], options: Any) -> None:
        self._url, self._options = url, [options]
        self._steps: tuple[Callable[[Any], Source], ...] = (open_drive,)
        self.notes: list[str] = []
        self._fingerprint, self._is_file = _look_at(url)

    def followed_by(self, step: Callable[[Source], Source], options: Any) -> RemoteDrive:
        """Return the drive with a step after opening it; arguments as of the first step."""
        other = copy.copy(self)
        other._steps, other._options = (*self._steps, step), [*self._options, options]
        return other

    def frames(self, first_part: int, names: UniqueNames) -> Iterator[tuple[int, Frame]]:
        """Fetch, open and yield (0, frame), see ``Source``.

        Raises:
            OSError: It cannot be fetched.
            ValueError: It is no bag and no video.
        """
        from offroad_seg_core.fleet.storage import filesystem, reaching  # needs fsspec

        del first_part  # there is one
        files, path = filesystem(self._url)
        with scratch_folder() as home:
            place = home / url_name(self._url)
            with reaching(self._url):
                if self._is_file:  # of HTTP, getting all that is below one makes it a folder
                    files.get_file(path, str(place))
                else:
                    files.get(path, str(place), recursive=True)
            source: Any = place
            for step in self._steps:
                source = step(source)
            if source.description()['kind'] == 'pictures':  # these are read after this folder went
                got = 'a folder of pictures'
                raise SourceError(
                    f'{shown(self._url)}: got {got}, expected a bag or a video; copy it'
                )
            for _, frame in source.frames(0, names):
                self.notes = list(source.notes)
                yield 0, frame
            self.notes = list(source.notes)

    def identity(self) -> dict[str, Any]:
        """Return what the frames depend on."""
        return {
            'kind': 'remote',
            'url': shown(self._url),
            'files': self._fingerprint,
            'options': self._options,
        }

    def description(self) -> dict[str, Any]:
        """Return what people want to know, without fetching it."""
        return {
            'kind': 'bag',
            'path': shown(self._url),
            'start_ns': None,
            'duration_s': None,
            'cameras': {},
        }


def _look_at(url: str) -> tuple[str, bool]:
    """Return what differs when a file at a URL, or one of a folder there, may differ.

    Returns:
        A hash, which a new signature leaves as it is, and whether the URL leads to one file.
    """
    from offroad_seg_core.fleet.storage import filesystem, reaching  # needs fsspec

    files, path = filesystem(url)
    digest = hashlib.sha256()
    with reaching(url):
        for name in sorted(files.find(path)):
            # Of HTTP the key is the address alone, with all that is secret in it.
            key = files.ukey(name) if name == shown(name) else ''
            info = files.info(name)
            facts = [info.get(fact) for fact in ('size', 'ETag', 'Last-Modified')]
            digest.update(f'{shown(name)} {asked(name)} {key} {facts}\n'.encode())
        is_file = files.isfile(path)
        if not is_file and not files.exists(path):
            got = f'{shown(url)}: not there'
            raise SourceError(f'{got}; fix: give the URL of a bag or a video')
    return digest.hexdigest(), is_file
