"""Download large files: what has arrived survives dropped connections, restarts and Ctrl-C.

While ``data.zip`` arrives it is ``data.zip.part``, and ``data.zip.part.json`` says what it is a
part of. The part becomes ``data.zip`` once its size and hash are right; ``data.zip.json`` then
remembers both, so that the next run need not read it again.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
import logging
import os
from pathlib import Path
from typing import IO

import requests
from tqdm import tqdm
import urllib3

from offroad_seg_core.datasets.acquisition.records import (
    Received,
    Wanted,
    find_received,
    read_record,
    write_record,
)
from offroad_seg_core.datasets.acquisition.remote import (
    DownloadError,
    PassingError,
    RemoteFile,
    Retries,
    RetryConfig,
    Session,
    look_up,
    parse_content_range,
    send,
)
from offroad_seg_core.files import sha256_of, sync

log = logging.getLogger(__name__)

CHUNK_BYTES = 1 << 18
# An attempt that brought so much further than ever before was no failure.
PROGRESS_BYTES = 1 << 20


def download(wanted: Wanted, retry: RetryConfig, show_progress: bool = True) -> Received:
    """Download a file, or go on with its part; do nothing where it is here already.

    Raises:
        DownloadError: The server refuses or stays silent, the disk is full, or what arrived does
            not have the size or hash that was expected.
    """
    known = find_received(wanted)
    if known is not None:
        return known
    wanted.target.parent.mkdir(parents=True, exist_ok=True)
    with Session() as session:
        if wanted.target.exists():
            return _adopt(wanted, session, retry)
        transfer = _Transfer(wanted, retry, session, show_progress)
        try:
            return transfer.run()
        except OSError as error:
            raise DownloadError(
                f'{wanted.target}: cannot be written: {error.strerror}; what has arrived is kept '
                'in the .part file: make room and run the same command again to go on'
            ) from error


class _Transfer:
    """One file on its way: the part that is here, and what it is a part of."""

    def __init__(
        self, wanted: Wanted, retry: RetryConfig, session: Session, show_progress: bool
    ) -> None:
        self._wanted = wanted
        self._retry = retry
        self._session = session
        self._show_progress = show_progress
        self._part = wanted.part
        self._use_ranges = True
        self._is_stitched = False

    def run(self) -> Received:
        retries = Retries(self._retry)
        furthest = self._have()
        while True:
            try:
                remote = self._attempt()
                return self._finish(remote)
            except PassingError as error:
                # Measured against the furthest ever: a server that always starts over and always
                # drops at the same byte must not keep us for ever.
                if self._have() >= furthest + PROGRESS_BYTES:
                    retries.progressed()
                furthest = max(furthest, self._have())
                retries.wait(error, self._wanted.target.name)

    def _attempt(self) -> RemoteFile:
        """Go on from where the part ends; return when the file is whole."""
        state = self._resumable()
        offset = self._have() if state else 0
        if state and state.size == offset:
            self._is_stitched = True
            return state
        headers = {}
        if state and offset:
            headers['Range'] = f'bytes={offset}-'
            if state.validator:
                headers['If-Range'] = state.validator
        with send(self._session, self._wanted.url, self._retry, **headers) as response:
            remote = RemoteFile.of(self._wanted.url, response)
            if state and offset and self._goes_on(response, remote, state, offset):
                self._is_stitched = True
                remote = state
            else:
                self._start_over(response, remote)
                offset = 0
            self._receive(response, remote, offset)
        return remote

    def _resumable(self) -> RemoteFile | None:
        """Return what the part is a part of; None where nothing can be added to it safely."""
        state = read_record(self._wanted.state, RemoteFile)
        if state is None or not self._use_ranges or not self._have():
            return None
        # Without a tag or date two versions of the file could be joined, and only the hash
        # would tell.
        if state.url != self._wanted.url or not (state.validator or self._wanted.sha256):
            return None
        return state

    def _goes_on(
        self, response: requests.Response, remote: RemoteFile, state: RemoteFile, offset: int
    ) -> bool:
        """Say whether a response continues the part; False where it holds the file anew."""
        name = self._wanted.target.name
        if response.status_code == 200:
            changed = (state.etag, state.size) != (remote.etag, remote.size)
            why = 'the file has changed' if changed else 'the server cannot go on where it ended'
            log.warning('%s: %s; starting over', name, why)
            return False
        content_range = parse_content_range(response)
        if response.status_code == 206 and content_range is not None:
            first, _, total = content_range
            same_version = total in (None, state.size) and remote.etag in (None, state.etag)
            if first == offset and same_version:
                return True
        self._discard()
        if response.status_code == 416:
            raise PassingError(f'the server has no byte {offset}; starting over')
        # Ranges of this server are not to be trusted again.
        self._use_ranges = False
        got = response.headers.get('Content-Range', 'none')
        raise PassingError(
            f'asked for bytes from {offset}, got Content-Range {got}; starting over'
        )

    def _start_over(self, response: requests.Response, remote: RemoteFile) -> None:
        if response.status_code != 200:
            raise PassingError(f'asked for the whole file, got status {response.status_code}')
        if response.headers.get('Content-Encoding', 'identity') != 'identity':
            raise DownloadError(
                f'{self._wanted.url}: the server compresses what it was asked not to; '
                'expected the file itself; use another URL'
            )
        self._check_size(remote.size)
        # The old part goes before the new state comes: a crash in between must not leave one
        # version's bytes under the other's name.
        self._discard()
        self._is_stitched = False
        write_record(self._wanted.state, remote)

    def _receive(self, response: requests.Response, remote: RemoteFile, offset: int) -> None:
        bar = tqdm(
            total=remote.size, initial=offset, desc=self._wanted.target.name, unit='B',
            unit_scale=True, disable=None if self._show_progress else True,
        )  # fmt: skip
        with bar, open_part(self._part) as stream, _passing_network_errors():
            # Not iter_content: it collects whole chunks, and loses what it has of one when the
            # connection breaks.
            while chunk := response.raw.read1(CHUNK_BYTES):
                stream.write(chunk)
                bar.update(len(chunk))
        if remote.size is not None and self._have() < remote.size:
            raise PassingError(f'the connection ended at byte {self._have()} of {remote.size}')

    def _finish(self, remote: RemoteFile) -> Received:
        """Check the part and give it its name."""
        wanted = self._wanted
        sync(self._part)
        size, sha256 = self._have(), sha256_of(self._part)
        wrong = remote.size not in (None, size) or wanted.sha256 not in (None, sha256)
        if wrong and self._is_stitched:
            self._discard()
            raise PassingError('the joined parts do not have the expected hash; starting over')
        self._check_size(size)
        if wrong:
            self._discard()
            raise DownloadError(
                f'{wanted.url}: got {size} bytes with SHA-256 {sha256}, expected '
                f'{wanted.sha256}; what arrived was deleted; check the configuration or try '
                'another mirror'
            )
        received = Received(size, sha256, remote.etag)
        os.replace(self._part, wanted.target)
        sync(wanted.target.parent)
        write_record(wanted.record, received)
        self._wanted.state.unlink(missing_ok=True)
        return received

    def _check_size(self, size: int | None) -> None:
        expected = self._wanted.size
        if size is not None and expected not in (None, size):
            raise DownloadError(
                f'{self._wanted.url}: has {size} bytes, expected {expected}; the file on the '
                'server is not the one in the configuration: correct size_bytes there'
            )

    def _have(self) -> int:
        return self._part.stat().st_size if self._part.is_file() else 0

    def _discard(self) -> None:
        self._part.unlink(missing_ok=True)
        self._wanted.state.unlink(missing_ok=True)


def open_part(path: Path) -> IO[bytes]:
    """Open a part to add to it."""
    return open(path, 'ab')


@contextmanager
def _passing_network_errors() -> Iterator[None]:
    try:
        yield
    except urllib3.exceptions.HTTPError as error:
        raise PassingError(f'the connection broke ({type(error).__name__})') from error


def _adopt(wanted: Wanted, session: Session, retry: RetryConfig) -> Received:
    """Take a file that was put there by other means, if it is the one that is wanted."""
    size, sha256 = wanted.target.stat().st_size, None
    expected = wanted.size
    if wanted.sha256 is None and expected is None:
        expected = look_up(session, wanted.url, retry).size
    if expected in (None, size):
        sha256 = sha256_of(wanted.target)
    if sha256 is None or wanted.sha256 not in (None, sha256):
        raise DownloadError(
            f'{wanted.target}: is there already, but has {size} bytes and SHA-256 {sha256}, '
            f'expected {expected} and {wanted.sha256}; delete it to download it again'
        )
    received = Received(size, sha256)
    write_record(wanted.record, received)
    return received
