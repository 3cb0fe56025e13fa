"""The node answers while its engine is being made ready, and ends when it is told to."""

from importlib.util import find_spec
import json
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
from offroad_seg_core.inference.engines import EngineError, stopping

DEADLINE_S = 90.0


@pytest.fixture
def slow_engine(monkeypatch):
    """ONNX Runtime whose loading waits for the event `go` and tells `opening`."""
    original = engines.ENGINES['onnxruntime']
    opening, go, made = threading.Event(), threading.Event(), []

    def make(*arguments):
        assert threading.current_thread().name == 'engine_preparation'
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

    def change(self, transition):
        request = ChangeState.Request(transition=Transition(id=transition))
        return self.begin(ChangeState, 'change_state', request)

    def configure(self):
        return self.change(Transition.TRANSITION_CONFIGURE)

    def set(self, name, value):
        parameter = Parameter(name, value=value).to_parameter_msg()
        request = SetParameters.Request(parameters=[parameter])
        assert self.call(SetParameters, 'set_parameters', request).results[0].successful

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
    services.set('tta', 'flip')
    assert not services.end(services.configure()).success  # one is under way
    assert not configuring.done()
    go.set()
    assert services.end(configuring).success
    assert node.state() == 'inactive'
    # The parameters are others than it was opened with: it was opened again, and the first closed.
    assert len(made) == 2
    with pytest.raises(EngineError, match='closed'):
        made[0].run(None)


def test_what_can_change_at_run_time_does_not_open_it_again(
    start_node, probe, services, slow_engine
):
    opening, go, made = slow_engine
    node = start_node(autostart=False)
    configuring = services.configure()
    probe.wait(opening.is_set, 'the engine to be opened')
    services.set('confidence_threshold', 0.25)
    services.set('overlay_alpha', 0.75)
    go.set()
    assert services.end(configuring).success
    assert len(made) == 1
    pipeline = node.node._pipeline
    assert pipeline.segmenter.options.confidence_threshold == 0.25
    assert pipeline.params.overlay_alpha == 0.75


def test_what_is_wrong_at_first_can_be_mended_meanwhile(start_node, probe, services, slow_engine):
    opening, go, made = slow_engine
    start_node(autostart=False, absent_classes=['Cactus'])
    configuring = services.configure()
    probe.wait(opening.is_set, 'the engine to be opened')
    services.set('absent_classes', ['Sky'])
    go.set()
    assert services.end(configuring).success
    assert len(made) == 2
    with pytest.raises(EngineError, match='closed'):
        made[0].run(None)


def test_shutdown_ends_a_build(start_node, probe, services, monkeypatch):
    opening = threading.Event()

    def build(*_):
        opening.set()
        while True:
            stopping.check_not_stopped()
            time.sleep(0.01)

    monkeypatch.setitem(engines.ENGINES, 'onnxruntime', build)
    node = start_node(autostart=False)
    node.run(lambda: node.node.set_parameters([Parameter('autostart', value=True)]))
    starting = node._executor.create_task(node.node.start)
    probe.wait(opening.is_set, 'the engine to be opened')
    assert services.end(services.change(Transition.TRANSITION_UNCONFIGURED_SHUTDOWN)).success
    assert 'engine_preparation' not in {thread.name for thread in threading.enumerate()}
    assert services.state() == 'finalized'
    probe.wait(starting.done, 'the end of the start')
    assert services.state() == 'finalized'


def test_the_sizes_of_augmentation_are_opened_too(start_node, services, slow_engine):
    _, go, _ = slow_engine
    go.set()
    node = start_node(autostart=False, tta='flip_scales')
    assert services.end(services.configure()).success
    segmenter = node.node._pipeline.segmenter
    sizes = []
    segmenter.engine.run = lambda images: sizes.append(images.shape)
    segmenter.open_views()
    assert sizes == []


def test_deactivate_ends_the_build_that_a_frame_waits_for(
    start_node, probe, services, halves, frame
):
    node = start_node()
    engine, building = node.node._pipeline.segmenter.engine, threading.Event()
    run = engine.run

    def build(images):
        while images.shape[1:3] != (64, 96):
            building.set()
            stopping.check_not_stopped()
            time.sleep(0.01)
        return run(images)

    engine.run = build
    services.set('tta', 'flip_scales')
    probe.listen('mask')
    driver = probe.driver()

    def is_building():
        driver.publish(frame(halves(2, 7)))
        return building.is_set()

    probe.wait(is_building, 'a frame that needs another size')
    assert services.end(services.change(Transition.TRANSITION_DEACTIVATE)).success
    engine.run = run
    assert services.end(services.change(Transition.TRANSITION_ACTIVATE)).success
    probe.send(probe.driver(), frame(halves(2, 7)))


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
    node.node._preparation.close()
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
    if code == 0:  # auto's choices, of one thread and of two cameras, are kept there
        one, two = (json.loads(file.read_text()) for file in (tmp_path / 'choices').iterdir())
        assert (one['engine'], one['precision']) == (two['engine'], two['precision'])


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


BUILD = """
import sys, time
from offroad_seg_core.inference import engines
from offroad_seg_core.inference.engines.stopping import check_not_stopped
from offroad_seg_ros import segmentation_node

def build(*_):
    print('building', flush=True)
    while True:
        check_not_stopped()
        time.sleep(0.01)

engines.ENGINES['onnxruntime'] = build
sys.exit(segmentation_node.main(sys.argv[1:]))
"""


@pytest.mark.parametrize('number', [signal.SIGINT, signal.SIGTERM], ids=['int', 'term'])
def test_a_build_only_can_be_stopped(palette_bundle, number):
    parameters = f'bundle:={palette_bundle}', 'engine:=onnxruntime', 'build_only:=true'
    arguments = [part for parameter in parameters for part in ('-p', parameter)]
    process = subprocess.Popen(
        [sys.executable, '-c', BUILD, '--ros-args', *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        for line in process.stdout:
            if line == 'building\n':
                process.send_signal(number)
                break
        output, _ = process.communicate(timeout=DEADLINE_S)
    finally:
        process.kill()
    assert process.returncode == 1, output
    assert 'Traceback' not in output
