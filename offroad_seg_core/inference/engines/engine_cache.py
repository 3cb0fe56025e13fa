"""Built engines on disk: each is built once, and again only when something it depends on changed.

    ~/.cache/offroad_seg/engines/tensorrt-10.3.0/
      demo_desert-c0c9922f3ac6-fp16-384x672-Orin.plan   the engine, as its library wrote it
      demo_desert-c0c9922f3ac6-fp16-384x672-Orin.json   what it was built from, and its SHA-256
      demo_desert-c0c9922f3ac6-fp16-384x672-Orin.lock   held while somebody builds it
      Orin.timing                                       makes the next build faster

The JSON is written last: an engine without a matching one is not there. A process that dies while
it builds leaves nothing that another would take for an engine, and no lock.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
import hashlib
import json
import logging
from pathlib import Path
import re
import time
from typing import Any

from filelock import FileLock, Timeout

from offroad_seg_core.files import atomic_path, user_cache_folder
from offroad_seg_core.inference.engines.base import EngineError
from offroad_seg_core.inference.engines.stopping import check_not_stopped

log = logging.getLogger(__name__)

_LOCK_POLL_S = 0.2
_LOCK_REMINDER_S = 30.0


@dataclass(frozen=True)
class Fingerprint:
    """Everything a built engine depends on."""

    library: str
    """`tensorrt` or `tensorrt_rtx`."""
    version: str
    """Of the library."""
    bundle: str
    """The bundle's name; a part of the file's name."""
    onnx_sha256: str
    precision: str
    size: tuple[int, int]
    """Network input (height, width), px."""
    gpu: str
    compute_capability: str
    driver: str
    options: str
    """Builder options, normalisation and outputs, as JSON."""

    @property
    def name(self) -> str:
        """The file name without suffix: what tells engines apart that are used side by side."""
        height, width = self.size
        parts = (self.bundle, self.onnx_sha256[:12], self.precision, f'{height}x{width}', self.gpu)
        return '-'.join(re.sub(r'[^A-Za-z0-9_.]+', '_', part) for part in parts)

    def differences(self, stored: dict[str, Any]) -> str:
        """Say what differs from a stored fingerprint; '' if nothing does."""
        # Through JSON, as the stored one went: a tuple becomes a list.
        mine = json.loads(json.dumps(asdict(self)))
        keys = [key for key in mine if mine[key] != stored.get(key)]
        return ', '.join(f'{key} was {stored.get(key)!r}, is {mine[key]!r}' for key in keys)


class EngineCache:
    """A folder of built engines. Several processes may use it at the same time."""

    def __init__(self, folder: Path | None = None) -> None:
        """Args: folder: of all caches; None is the user's. It is made when needed."""
        self.folder = (folder or user_cache_folder()) / 'engines'

    def folder_of(self, fingerprint: Fingerprint) -> Path:
        """Return the folder of one library version: two of them do not overwrite each other."""
        return self.folder / f'{fingerprint.library}-{fingerprint.version}'

    def timing_file(self, fingerprint: Fingerprint) -> Path:
        """Return the file of the timing cache that all builds for this GPU share."""
        gpu = re.sub(r'[^A-Za-z0-9_.]+', '_', fingerprint.gpu)
        return self.folder_of(fingerprint) / f'{gpu}.timing'

    def get(self, fingerprint: Fingerprint) -> bytes | None:
        """Return the engine if it is there, whole, and built from the same things."""
        plan, _ = self._read(fingerprint)
        return plan

    def get_or_build(self, fingerprint: Fingerprint, build: Callable[[Path], None]) -> bytes:
        """Return the engine; build it if there is none that fits.

        Only one process builds; others wait for it and take its engine.

        Args:
            fingerprint: what the engine depends on.
            build: writes the engine to the path it is given.

        Raises:
            EngineError: the folder cannot be written, or whatever `build` raises.
            EngineStoppedError: stopped while another process builds it.
        """
        plan, _ = self._read(fingerprint)
        if plan is not None:
            return plan
        folder = self.folder_of(fingerprint)
        with writing_to(folder):
            folder.mkdir(parents=True, exist_ok=True)
            with self._locked(folder / f'{fingerprint.name}.lock'):
                plan, reason = self._read(fingerprint)
                # Another process may have built it meanwhile.
                return self._build(fingerprint, build, reason) if plan is None else plan

    def discard(self, fingerprint: Fingerprint) -> None:
        """Forget an engine that its library refuses; EngineError if that cannot be written."""
        folder = self.folder_of(fingerprint)
        with writing_to(folder):
            (folder / f'{fingerprint.name}.json').unlink(missing_ok=True)

    def _build(self, fingerprint: Fingerprint, build: Callable[[Path], None], why: str) -> bytes:
        folder, name = self.folder_of(fingerprint), fingerprint.name
        log.warning('building engine %s: %s; this takes minutes', name, why)
        for leftover in folder.glob(f'.{name}.*'):  # of a process that was killed
            leftover.unlink(missing_ok=True)
        started = time.monotonic()
        with atomic_path(folder / f'{name}.plan') as temporary:
            try:
                build(temporary)
            except OSError as error:  # of starting a process: no matter of this folder
                raise EngineError(
                    f'building engine {name}: got {error}; fix: end other programs, if memory or '
                    'processes ran out'
                ) from error
            plan = temporary.read_bytes()
        record = {
            'fingerprint': asdict(fingerprint),
            'sha256': hashlib.sha256(plan).hexdigest(),
            'build_s': round(time.monotonic() - started, 1),
        }
        with atomic_path(folder / f'{name}.json') as temporary:
            temporary.write_text(json.dumps(record, indent=1), encoding='utf-8')
        log.info('built engine %s in %.0f s: %s', name, record['build_s'], folder)
        return plan

    def _read(self, fingerprint: Fingerprint) -> tuple[bytes | None, str]:
        """Return the stored engine, or None and why there is none to use."""
        stem = self.folder_of(fingerprint) / fingerprint.name
        plan, record = stem.with_name(f'{stem.name}.plan'), stem.with_name(f'{stem.name}.json')
        try:
            content = json.loads(record.read_text(encoding='utf-8'))
            stored, expected = content['fingerprint'], content['sha256']
            differences = fingerprint.differences(stored)
            if differences:
                return None, f'the stored one is of something else ({differences})'
            engine = plan.read_bytes()
            if hashlib.sha256(engine).hexdigest() != expected:
                return None, f'the stored one is damaged ({plan})'
            return engine, ''
        except FileNotFoundError:
            return None, 'none is stored yet'
        except OSError as error:
            return None, f'the stored one cannot be read ({error})'
        except (ValueError, KeyError, TypeError, AttributeError):
            return None, f'its record is damaged ({record})'

    @contextmanager
    def _locked(self, file: Path) -> Iterator[None]:
        lock = FileLock(file)
        next_reminder = time.monotonic()
        while True:
            check_not_stopped()
            try:
                lock.acquire(timeout=0)
                break
            except Timeout:
                if time.monotonic() >= next_reminder:
                    log.warning('waiting for another process that builds %s', file.stem)
                    next_reminder = time.monotonic() + _LOCK_REMINDER_S
                time.sleep(_LOCK_POLL_S)
        try:
            yield
        finally:
            lock.release()


@contextmanager
def writing_to(folder: Path) -> Iterator[None]:
    """Turn what goes wrong with a folder of the cache into an EngineError that says the fix."""
    try:
        yield
    except (OSError, NotImplementedError) as error:  # the latter: no locks on this file system
        raise EngineError(
            f'engine cache {folder}: got {error}, expected a folder that can be written; '
            'fix: set the parameter engine_cache or XDG_CACHE_HOME to one'
        ) from error
