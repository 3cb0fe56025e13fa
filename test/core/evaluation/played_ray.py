"""A cluster that is played, with a clock of its own: what becomes of each worker is known."""

from collections import Counter, deque
from math import inf
from types import SimpleNamespace
from typing import NamedTuple

from ray.exceptions import RayActorError, RayTaskError

from offroad_seg_core.evaluation.evaluate import Evaluation
from offroad_seg_core.evaluation.sources.combining import SeveralSources
from offroad_seg_core.fleet import cluster
from offroad_seg_core.fleet.chunks import Chunk
from offroad_seg_core.fleet.run import MAX_ATTEMPTS
from offroad_seg_core.provenance import label_versions
from offroad_seg_core.taxonomy import load_taxonomy

NUM_CHUNKS = 8
OPENS_MS, WORKS_MS, FAILS_MS = 1000, 5000, 50
MODEL = {'engine': {'name': 'openvino', 'device': 'cpu'}}
WORKS = 'works'


class Fails(NamedTuple):
    """The fate of a worker of which chunks end in an error.

    Attributes:
        error: Which one.
        num_times: So many chunks.
        drives: Only those of these; empty: of all.
        num_works: After it did so many.
    """

    error: Exception
    num_times: float = inf
    drives: str = ''
    num_works: int = 0


class Model:
    """Stands for a predictor; can travel, and is opened by no worker."""

    taxonomy = load_taxonomy('falcon10')

    def __init__(self, identity=MODEL):
        self.identity = identity.copy

    def __reduce__(self):
        return str, ()


class Played:
    """What is under way on the cluster, until its time has come."""

    def __init__(self, ray, lasts_ms, call):
        self._ray, self.lasts_ms, self.call = ray, lasts_ms, call
        self.ready_ms = inf

    def start(self):
        self.ready_ms = self._ray.now_ms + self.lasts_ms


class PlayedWorker:
    """A worker whose fate is known."""

    def __init__(self, ray, fate):
        self._ray, self._fate, self._num_failed, self._num_done = ray, fate, 0, 0
        self.opening = Played(ray, OPENS_MS, lambda: _opened(fate))
        self.open = SimpleNamespace(remote=lambda: self.opening)
        self.run = SimpleNamespace(remote=self._run)

    def _run(self, _, chunk):
        fate = self._fate
        is_bad = isinstance(fate, Fails) and chunk.drive in (fate.drives or chunk.drive)
        if is_bad and self._num_failed < fate.num_times and self._num_done >= fate.num_works:
            self._num_failed += 1
            run = Played(self._ray, FAILS_MS, lambda: fate.error)
        else:
            self._num_done += 1
            run = Played(self._ray, WORKS_MS, lambda: chunk.key)
        run.start()
        return run


class PlayedRay:
    """A cluster whose clock goes on when it is waited for.

    Args:
        fates: Of the workers, one after another: WORKS, Fails, what it says that its labels
            depend on, or what is raised while it opens; the last one repeats.
        num_cores: Of its only node, which has as many GPUs. A worker that finds none waits.
    """

    def __init__(self, fates, num_cores):
        self.fates, self.num_asked, self.now_ms = fates, 0, 0
        self._resources = {'CPU': num_cores, 'GPU': num_cores}
        self._alive, self._pending = [], []
        self.attempts = Counter()

    def nodes(self):
        return [{'Alive': True, 'Resources': self._resources}]

    def remote(self, **needs):
        self.needs = needs
        return lambda worker: SimpleNamespace(remote=self._ask)

    def _ask(self, content, num_threads):
        worker = PlayedWorker(self, self.fates[min(self.num_asked, len(self.fates) - 1)])
        self.num_asked += 1
        self._pending.append(worker)
        self._place()
        return worker

    def _place(self):
        while (
            self._pending and len(self._alive) < self._resources['CPU'] // self.needs['num_cpus']
        ):
            self._alive.append(self._pending.pop(0))
            self._alive[-1].opening.start()

    def put(self, value):
        return value

    def wait(self, known, num_returns, timeout):
        first = min(known, key=lambda reference: reference.ready_ms)
        if first.ready_ms == inf:
            return [], known
        self.now_ms = max(self.now_ms, first.ready_ms)
        return [first], [reference for reference in known if reference is not first]

    def get(self, reference):
        outcome = reference.call()
        if isinstance(outcome, RayActorError):
            raise outcome
        if isinstance(outcome, Exception):
            raise RayTaskError('open', 'where it was', outcome, 'worker', 1, '127.0.0.1')
        return outcome

    def kill(self, worker):
        (self._alive if worker in self._alive else self._pending).remove(worker)
        self._place()


def _opened(fate):
    if isinstance(fate, Exception):
        return fate
    return label_versions() | (fate if isinstance(fate, dict) else MODEL)


def perform(patch, output, *fates, num_cores=4, reference=None, most_failures=100, drives='a'):
    """Let a crew do chunks; return those that were done, sorted, and the cluster.

    A drive is given up as a fleet does it; ``ray.attempts`` counts the failures of each. After so
    many failures no chunk is tried again.
    """
    ray = PlayedRay(fates, num_cores)
    patch.setattr(cluster, 'ray', ray)
    evaluation = Evaluation(SeveralSources({}), Model(), output, reference)
    names = sorted(drives[at % len(drives)] for at in range(NUM_CHUNKS))
    waiting = deque((None, Chunk(name, at, at + 1, str(at))) for at, name in enumerate(names))
    done, attempts = [], Counter()
    for task, outcome in cluster.Crew(evaluation).perform(waiting):
        chunk = task[1]
        if not isinstance(outcome, Exception):
            done.append(int(outcome))
            continue
        attempts[chunk] += 1
        ray.attempts[chunk.drive] += 1
        if attempts[chunk] == MAX_ATTEMPTS:
            left = [entry for entry in waiting if entry[1].drive != chunk.drive]
            waiting.clear()
            waiting.extend(left)
        elif attempts.total() <= most_failures:
            waiting.append(task)
    return sorted(done), ray
