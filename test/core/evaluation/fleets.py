"""What the tests of fleets share: workers in this process, a cluster on this machine."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
import os
from pathlib import Path
import pickle
import socket
import time

import psutil

from offroad_seg_core.bags.reading import open_bag
from offroad_seg_core.evaluation.evaluate import Evaluation, evaluate
from offroad_seg_core.evaluation.inputs import LabelOptions, TruthOptions, open_frames, with_labels
from offroad_seg_core.evaluation.outputs.label_bag import LabelBag
from offroad_seg_core.evaluation.outputs.labels import LabelFiles
from offroad_seg_core.evaluation.outputs.report_frames import ReportFrames
from offroad_seg_core.evaluation.sources.combining import SeveralSources
from offroad_seg_core.fleet.run import Fleet
from offroad_seg_core.fleet.worker import Worker

NODE = {
    'num_cpus': 1,
    'object_store_memory': 100 << 20,
    'node_ip_address': '127.0.0.1',
    'include_dashboard': False,
    'include_log_monitor': False,
    'no_monitor': True,
}
_PATIENCE_S = 600


def drive(place, taxonomy):
    """Return the frames of a drive with the truth that it holds."""
    return with_labels(open_frames(place), LabelOptions(taxonomy, TruthOptions()))


def evaluation_of(sources, predictor, output):
    """Return an evaluation of drives by name, or of one, that writes files and a bag."""
    source = SeveralSources(sources) if isinstance(sources, dict) else sources
    sinks = LabelFiles(), ReportFrames(), LabelBag(predictor.cost_table, '{"names": []}')
    return Evaluation(source, predictor, output, sinks=sinks, title='fleet')


def in_this_process(evaluation, done=None, fail=lambda chunk: None):
    """Return a Perform whose worker gets all as bytes; the last chunk comes first.

    ``done`` collects the chunks; ``fail`` may raise.
    """

    def perform(waiting):
        worker = Worker(pickle.dumps(replace(evaluation, source=SeveralSources({}))), 1)
        worker.open()
        while waiting:
            source, chunk = waiting.pop()
            try:
                fail(chunk)
                content = worker.run(pickle.loads(pickle.dumps(source)), chunk)
            except (ValueError, OSError) as error:
                content = error
            if done is not None:
                done.append(chunk)
            yield (source, chunk), content

    return perform


def no_matter(*_):
    """Stands for a progress bar."""


def in_one_go(evaluation):
    """Evaluate without a fleet; return the folder of the result."""
    return evaluate(evaluation, no_matter)


def result(evaluation, **options):
    """Evaluate with workers in this process; return the folder of the result."""
    given = {name: options.pop(name) for name in ('done', 'fail') if name in options}
    fleet = Fleet(evaluation, options.pop('on_chunk', no_matter), **options)
    return fleet.evaluate(in_this_process(evaluation, **given))


def said(drives, folder):
    """Return what an evaluation says but for times: files, messages, numbers."""
    files = [path for path in folder.rglob('*') if path.suffix in ('.png', '.js')]
    messages = {}
    for metadata in sorted(folder.rglob('metadata.yaml')):
        with open_bag(metadata.parent) as bag:
            told = [(entry.topic, t, bytes(data)) for entry, t, data in bag.messages()]
        messages[str(metadata.relative_to(folder))] = told
    summary = drives.summary(folder)
    keys = ('scores', 'counts', 'means', 'notes', 'num_frames', 'num_labelled', 'recording')
    return {
        'files': {str(path.relative_to(folder)): path.read_bytes() for path in files},
        'messages': messages,
        'table': drives.table(folder),
        **{key: summary[key] for key in keys},
    }


@contextmanager
def two_nodes(patch, of_second=None) -> Iterator:
    """Start a cluster of two nodes of one core, which nothing outside this machine reaches.

    ``of_second`` are variables of the environment that the second one has beside those of here.
    """
    patch.setenv('RAY_USAGE_STATS_ENABLED', '0')
    patch.setenv('RAY_agent_register_timeout_ms', str(_PATIENCE_S * 1000))
    patch.setenv('RAY_health_check_timeout_ms', '60000')
    patch.setenv('RAY_worker_register_timeout_seconds', str(_PATIENCE_S))
    # Workers import this package from where it is imported here.
    patch.setenv('PYTHONPATH', os.getcwd())
    from ray._private import ray_constants, services
    from ray.cluster_utils import Cluster

    # An address 127.0.0.1 is meant as it stands, not as this machine's own in a network.
    patch.setattr(ray_constants, 'ENABLE_RAY_CLUSTER', False)
    patch.setattr(services, 'start_raylet', _with_known_ports(services.start_raylet))
    cluster = _patiently(lambda: Cluster(initialize_head=True, head_node_args=_node()))
    more = {'env_vars': of_second} if of_second else {}
    try:
        yield cluster, _patiently(lambda: cluster.add_node(**_node(), **more))
    finally:
        cluster.shutdown()


def _node():
    with socket.socket() as free:
        free.bind(('127.0.0.1', 0))
        return {**NODE, 'runtime_env_agent_port': free.getsockname()[1]}


def _with_known_ports(start_raylet):
    """Return a function that tells a node the ports of its agents before they are up.

    It would wait for them for 15 s and end then, which is not enough on a busy machine.
    """

    def start(*given, **options):
        node_id, session = given[2], Path(given[11])
        unused = ('metrics_agent_port', 'metrics_export_port', 'dashboard_agent_listen_port')
        known = {'runtime_env_agent_port': options['runtime_env_agent_port']}
        for name, port in {**dict.fromkeys(unused, -1), **known}.items():
            (session / f'{name}_{node_id}').write_text(str(port))
        return start_raylet(*given, **options)

    return start


def _patiently(start):
    """Start a node; again if Ray gave up, as it does after seconds on a busy machine."""
    deadline, known = time.monotonic() + _PATIENCE_S, processes()
    while True:
        try:
            return start()
        except Exception:  # Ray raises no narrower one
            if time.monotonic() > deadline:
                raise
        for process in processes() - known:
            process.kill()


def processes():
    """Return the processes that were started from here and still run."""
    found = psutil.Process().children(recursive=True)
    return {process for process in found if process.status() != psutil.STATUS_ZOMBIE}
