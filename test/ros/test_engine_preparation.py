"""The node answers while its engine is being made ready, and ends when it is told to."""

from importlib.util import find_spec
import os
import signal
import subprocess
import sys
import threading
import time

from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState, GetState
import pytest
from rcl_interfaces.srv import SetParameters
from rclpy.parameter import Parameter

from offroad_seg_core.inference import engines
from offroad_seg_core.inference.engines import EngineError

DEADLINE_S = 90.0


@pytest.fixture
def slow_engine(monkeypatch):
    """ONNX Runtime whose loading waits for the event `go` and tells `opening`."""
    original = engines.ENGINES['onnxruntime']
    opening, go, made = threading.Event(), threading.Event(), []

    def make(*arguments):
        opening.set()
        assert go.wait(DEADLINE_S)
        made.append(original(*arguments))
        return made[-1]

    monkeypatch.setitem(engines.ENGINES, 'onnxruntime', make)
    yield opening, go, made
    go.set()


class Services:
    def __init__(self, probe):
        self._probe = probe

    def begin(self, kind, name, request):
        client = self._probe.node.create_client(kind, f'segmentation_node/{name}')
        self._probe.wait(client.service_is_ready, name)
        return client.call_async(request)

    def call(self, kind, name, request):
        return self.end(self.begin(kind, name, request))

    def end(self, future):
        self._probe.wait(future.done, 'the answer', DEADLINE_S)
        return future.result()

    def configure(self):
        request = ChangeState.Request(transition=Transition(id=Transition.TRANSITION_CONFIGURE))
        return self.begin(ChangeState, 'change_state', request)

    def state(self):
        return self.call(GetState, 'get_state', GetState.Request()).current_state.label


@pytest.fixture
def services(probe):
    return Services(probe)


def test_it_answers_meanwhile(start_node, probe, services, slow_engine):
    opening, go, made = slow_engine
    node = start_node(autostart=False)
    configuring = services.configure()
    probe.wait(opening.is_set, 'the engine to be opened')
    assert services.state() == 'unconfigured'
    text = 'preparing the engine, which takes minutes if it must be built'
    values = probe.wait_value('engine', 'message', lambda message: message == text)
    assert values['level'] == 1
    parameter = Parameter('tta', value='flip').to_parameter_msg()
    request = SetParameters.Request(parameters=[parameter])
    assert services.call(SetParameters, 'set_parameters', request).results[0].successful
    assert not services.end(services.configure()).success  # one is under way
    assert not configuring.done()
    go.set()
    assert services.end(configuring).success
    assert node.state() == 'inactive'
    # The parameters are others than it was opened with: it was opened again, and the first closed.
    assert len(made) == 2
    with pytest.raises(EngineError, match='closed'):
        made[0].run(None)


def test_what_was_prepared_is_used(start_node, probe, services, slow_engine):
    _, go, made = slow_engine
    go.set()
    node = start_node(autostart=False)
    assert services.end(services.configure()).success
    assert len(made) == 1
    assert node.node._pipeline.segmenter.engine is made[0]


def test_what_goes_wrong_is_told_by_configure(start_node, services, probe):
    start_node(autostart=False, bundle='/nowhere')
    assert not services.end(services.configure()).success
    assert services.state() == 'unconfigured'
    probe.wait_value('engine', 'message', lambda message: 'no such folder' in message)


def test_a_node_that_is_destroyed_waits_for_the_thread(start_node, probe, services, slow_engine):
    opening, go, made = slow_engine
    node = start_node(autostart=False)
    services.configure()
    probe.wait(opening.is_set, 'the engine to be opened')
    node._executor.shutdown()
    node._thread.join()
    threading.Timer(0.1, go.set).start()
    node.node._preparation.stop()
    assert 'engine_preparation' not in {thread.name for thread in threading.enumerate()}
    with pytest.raises(EngineError, match='closed'):
        made[0].run(None)


def _node(*parameters):
    arguments = [part for parameter in parameters for part in ('-p', parameter)]
    command = [sys.executable, '-m', 'offroad_seg_ros.segmentation_node', '--ros-args', *arguments]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


@pytest.mark.parametrize(
    ('parameters', 'code', 'text'),
    [
        ((), 0, 'built only'),
        (('engine:=tensorrt',), 1, 'tensorrt does not import'),
        (('engine:=tensorrt', 'fallback:=true'), 0, 'auto takes its place'),
    ],
    ids=['works', 'refused', 'falls_back'],
)
def test_build_only_ends_and_tells_by_its_status(palette_bundle, tmp_path, parameters, code, text):
    if 'engine:=tensorrt' in parameters and find_spec('tensorrt'):
        pytest.skip('TensorRT is installed')
    fixed = f'bundle:={palette_bundle}', f'engine_cache:={tmp_path}', 'build_only:=true'
    process = _node(*fixed, *parameters)
    output, _ = process.communicate(timeout=DEADLINE_S)
    assert process.returncode == code, output
    assert text in output
    if code == 0:  # auto's choice, kept where the parameter says
        assert len(list((tmp_path / 'choices').iterdir())) == 1


def test_ended_while_an_engine_is_opened(palette_bundle, tmp_path):
    pipe = tmp_path / 'costs.yaml'  # opening the segmenter waits for a writer
    os.mkfifo(pipe)
    process = _node(f'bundle:={palette_bundle}', f'cost_overrides_file:={pipe}')
    writer = os.open(pipe, os.O_WRONLY)
    process.send_signal(signal.SIGINT)
    time.sleep(0.1)
    os.close(writer)
    output, _ = process.communicate(timeout=DEADLINE_S)
    assert process.returncode == 0, output
    assert 'Traceback' not in output
