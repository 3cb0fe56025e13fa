"""Chunks on a Ray cluster: Ray places the workers and notices when one is gone."""

from __future__ import annotations

from collections import deque
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from dataclasses import replace
import logging
import os
import pickle
import signal
import socket
from typing import Any

from offroad_seg_core.evaluation.evaluate import Evaluation
from offroad_seg_core.evaluation.sources.combining import SeveralSources
from offroad_seg_core.fleet.doubts import Doubts, Member
from offroad_seg_core.fleet.run import Task
from offroad_seg_core.fleet.worker import REFERENCE, Worker, models_identity
from offroad_seg_core.inference.engines import EngineError
from offroad_seg_core.provenance import VERSION_OF

# Read when the library is loaded: it is never to report to its makers.
os.environ['RAY_USAGE_STATS_ENABLED'] = '0'
try:
    import ray
    from ray.exceptions import RayError, RayTaskError
except ImportError as error:
    raise ImportError(
        f'--ray needs it ({error}); fix: pip install -r requirements/fleet.txt'
    ) from error

log = logging.getLogger(__name__)

HERE = 'local'
_REACHABLE_S = 10.0
_QUIET_S = 60.0
_MAX_CORES, _MAX_CORES_BESIDE_GPU = 2, 8
_MAX_LOST = 3
"""Workers in a row that may not begin, until one of the others has done a chunk."""
_MANY_DRIVES = 3
"""Where each worker failed, and at so many drives, it is the nodes that are at fault."""


class ClusterError(ValueError):
    """The cluster is not there, or cannot run this evaluation."""


@contextmanager
def ray_cluster(address: str) -> Iterator[None]:
    """Join a cluster; leave it at the end.

    Args:
        address: ``host:port`` of its head, ``auto`` for the one that this machine is a part of,
            or ``local`` to start one that nothing outside this machine can reach, and to end it.

    Raises:
        ClusterError: There is none.
    """
    host, _, port = address.rpartition(':')
    given: dict[str, Any] = {'address': address}
    if address == HERE:
        # Nor another user of this machine: by default Ray makes a token and asks for it. It would
        # make none if its mode were set in the environment now, after it was loaded.
        cores = len(os.sched_getaffinity(0))
        given |= {'num_cpus': cores, '_node_ip_address': '127.0.0.1', 'include_dashboard': False}
    elif address != 'auto' and not (host and port.isdigit()):
        expected = 'host:port of its head, auto or local'
        raise ClusterError(
            f'--ray: got {address!r}, expected {expected}; fix: give inputs before --ray'
        )
    on_terminate = signal.getsignal(signal.SIGTERM)
    try:
        if host:
            socket.create_connection((host, int(port)), timeout=_REACHABLE_S).close()
        ray.init(**given, logging_level=logging.WARNING, log_to_driver=False)
    except Exception as error:  # Ray raises no narrower one where a node does not start
        fix = 'start it (ray start --head), or check address, firewall and versions'
        if address == HERE:
            fix = 'Ray gives up after seconds: repeat this when the machine is less busy, or read '
            fix += 'logs/gcs_server.err in its session folder'
        raise ClusterError(f'--ray {address}: no cluster answers ({error}); fix: {fix}') from error
    finally:
        signal.signal(signal.SIGTERM, on_terminate)  # Ray's own handler ends this process
    try:
        yield
    finally:
        ray.shutdown()


class Crew:
    """Workers on the cluster that was joined.

    There are as many as it has room for. As long as chunks wait, one more is asked for: that
    takes the place of one that was lost, and uses nodes that are added. What one cannot read is
    tried by another before it counts, see Doubts.

    Args:
        evaluation: What they do.
    """

    def __init__(self, evaluation: Evaluation) -> None:
        self._identity = models_identity(evaluation)
        self._content = pickle.dumps(replace(evaluation, source=SeveralSources({})))
        self._cores, gpus, self._room = _room(_uses_gpu(self._identity))
        self._class = ray.remote(num_cpus=self._cores, num_gpus=gpus, max_restarts=0)(Worker)
        self._opening: dict[Any, Member] = {}
        self._busy: dict[Any, tuple[Member, Task]] = {}
        self._idle: list[Member] = []
        self._doubts = Doubts()
        self._sources: dict[str, Any] = {}
        self._num_lost = 0

    def perform(
        self, waiting: deque[Task]
    ) -> Generator[tuple[Task, bytes | Exception], None, None]:
        """Do tasks in any order, see Perform.

        Raises:
            EngineError, ClusterError, ValueError, OSError: No worker can do any.
        """
        content, is_quiet = ray.put(self._content), False
        try:
            for _ in range(min(self._room, len(waiting))):
                self._ask_for_one(content)
            while waiting or self._busy:
                self._give_all(waiting)
                no_more_come = is_quiet or not self._opening or len(self._idle) >= self._room
                if self._idle and no_more_come and not self._busy:
                    self._ask_for_a_verdict(waiting)
                may_ask = self._num_lost < _MAX_LOST or not self._busy
                if waiting and not self._opening and may_ask:
                    self._ask_for_one(content)
                known = [*self._opening, *self._busy]
                ready, _ = ray.wait(known, num_returns=1, timeout=_QUIET_S)
                is_quiet = not ready
                if is_quiet and not self._busy:
                    log.warning('%d chunks wait: the cluster has no worker yet', len(waiting))
                for reference in ready:
                    if reference in self._opening:
                        self._open(reference)
                    else:
                        outcome = self._outcome(reference, waiting)
                        self._give_all(waiting)  # no worker waits until this one is kept
                        if outcome is not None:
                            yield outcome
        finally:
            everyone = [member for member, _ in self._busy.values()]
            for member in [*self._opening.values(), *everyone, *self._idle]:
                ray.kill(member.actor)

    def _ask_for_one(self, content: Any) -> None:
        worker: Any = self._class.remote(content, self._cores)
        self._opening[worker.open.remote()] = Member(worker)

    def _give_all(self, waiting: deque[Task]) -> None:
        resting = []
        while waiting and self._idle:
            member = self._idle.pop()
            task = self._doubts.choose(member, waiting)
            if task is None:
                resting.append(member)
            else:
                self._give(member, task)
        self._idle += resting

    def _ask_for_a_verdict(self, waiting: deque[Task]) -> None:
        """Let the worker that failed least say what is bad, as each of them failed.

        Raises:
            ClusterError: They failed at so many drives that none of them is to be believed.
        """
        left = self._doubts.left(waiting)
        if len(left) >= _MANY_DRIVES:
            drive, reason = next(iter(left.items()))
            got = f'no worker can do any of the {len(left)} drives that are left, such as {drive}'
            fix = (
                'see that the nodes have room in TMPDIR and reach the drives, or leave out those '
            )
            fix += 'that cannot be read, and repeat the command, which goes on from here'
            raise ClusterError(f'{got}: {reason}; fix: {fix}') from reason
        member = min(self._idle, key=lambda entry: len(entry.failed_at))
        member.is_trusted, member.failed_at = True, set()
        self._give_all(waiting)

    def _give(self, member: Member, task: Task) -> None:
        source, chunk = task
        if chunk.drive not in self._sources:  # sent once for all of its chunks
            self._sources[chunk.drive] = ray.put(source)
        run = member.actor.run.remote(self._sources[chunk.drive], chunk)
        self._busy[run] = member, task

    def _open(self, reference: Any) -> None:
        """Take a worker into the crew, if it does what the others do."""
        member = self._opening.pop(reference)
        try:
            identity = ray.get(reference)
        except RayError as error:
            ray.kill(member.actor)
            self._num_lost += 1
            reason = _cause(error)
            log.warning('a worker was lost before it began: %s', reason)
            # As long as others work, they go on without it.
            if self._num_lost >= _MAX_LOST and not (self._busy or self._idle):
                raise _for_people(reason) from error
            return
        if identity != self._identity:
            keys = dict.fromkeys((*self._identity, *identity))
            changed = [key for key in keys if identity.get(key) != self._identity.get(key)]
            got = f'{ {key: identity.get(key) for key in changed} } on a node'
            expected = {key: self._identity.get(key) for key in changed}
            fix = 'name --engine and --precision; install the same versions everywhere'
            if f'{VERSION_OF}code' in changed:
                fix += '; the files of this package are not those of here: install it there from '
                fix += 'the same commit, and remove .py files that were put beside its own'
            raise ClusterError(f'got {got}, expected {expected} as here; fix: {fix}')
        self._num_lost = 0
        self._idle.append(member)

    def _outcome(
        self, reference: Any, waiting: deque[Task]
    ) -> tuple[Task, bytes | Exception] | None:
        """Return what came of a task; None if it waits again, as it may be the worker's fault."""
        member, task = self._busy.pop(reference)
        try:
            content = ray.get(reference)
        except RayError as error:
            reason = _cause(error)
            if isinstance(reason, (ValueError, OSError)):  # of the drive, or of what it lies in
                self._idle.append(member)
                if isinstance(reason, OSError):
                    is_bad = self._doubts.failed(member, task, reason, waiting)
                    return (task, reason) if is_bad else None
            else:
                # It is gone, or the node that held its result; or its engine failed, which may
                # fail from now on and would cost one chunk after another its attempts.
                ray.kill(member.actor)
            return task, reason
        self._num_lost = 0
        self._doubts.done(member, task[1], self._idle)
        self._idle.append(member)
        return task, content


def _cause(error: RayError) -> Exception:
    """Return what was raised there, if anything, which has a message for people."""
    cause = error.cause if isinstance(error, RayTaskError) else None
    return cause if isinstance(cause, Exception) else error


def _for_people(reason: Exception) -> Exception:
    if isinstance(reason, (EngineError, ValueError, OSError)):
        return reason
    fix = 'install this package and its requirements on every node'
    return ClusterError(f'no worker starts: {reason}; fix: {fix}')


def _uses_gpu(identity: dict[str, Any]) -> bool:
    for who in ('', REFERENCE):
        engine, device = identity.get(f'{who}engine'), identity.get(f'{who}device', 'cpu')
        if (engine['device'] if isinstance(engine, dict) else device) != 'cpu':
            return True
    return False


def _room(uses_gpu: bool) -> tuple[int, int, int]:
    """Return the cores and GPUs of a worker, and how many of these the cluster has room for."""
    nodes = [node['Resources'] for node in ray.nodes() if node['Alive']]
    nodes = [(int(node.get('CPU', 0)), int(node.get('GPU', 0))) for node in nodes]
    if uses_gpu:
        shares = [cores // gpus for cores, gpus in nodes if gpus and cores >= gpus]
        cores = min([_MAX_CORES_BESIDE_GPU, *shares])
        return cores, 1, sum(gpus for _, gpus in nodes)
    cores = min([_MAX_CORES, *(cores for cores, _ in nodes if cores)])
    return cores, 0, sum(all_cores // cores for all_cores, _ in nodes)
