"""Transitions: under load, out of order, failing, and back."""

import gc
import os
import threading

from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState
import pytest
from sensor_msgs.msg import CameraInfo


def _change_state(probe, transition):
    client = probe.node.create_client(ChangeState, 'segmentation_node/change_state')
    probe.wait(client.service_is_ready, 'the service')
    future = client.call_async(ChangeState.Request(transition=Transition(id=transition)))
    probe.wait(future.done, 'the answer')
    probe.node.destroy_client(client)
    return future.result().success


def _memory_mib() -> float:
    with open('/proc/self/statm') as stream:
        return int(stream.read().split()[1]) * os.sysconf('SC_PAGE_SIZE') / 2**20


def _cycle(node) -> None:
    for transition in (
        node.node.trigger_deactivate,
        node.node.trigger_cleanup,
        node.node.trigger_configure,
        node.node.trigger_activate,
    ):
        assert transition().name == 'SUCCESS'


def test_a_hundred_cycles_under_load(start_node, probe, halves, frame):
    node = start_node()
    probe.listen('mask', 'overlay', 'traversability')
    driver = probe.driver()
    probe.send(driver, frame(halves(2, 7)))
    flooding = threading.Event()
    message = frame(halves(2, 7, (240, 320)))

    def flood():
        while not flooding.wait(0.002):
            driver.publish(message)

    publisher = threading.Thread(target=flood)
    publisher.start()
    try:
        for number in range(100):
            node.run(lambda: _cycle(node))
            probe.spin(0.01)
            probe.got.clear()  # keeps every message
            if number == 40:
                gc.collect()
                threads, memory_mib = threading.active_count(), _memory_mib()
        gc.collect()
        assert threading.active_count() == threads
        assert _memory_mib() - memory_mib < 30
    finally:
        flooding.set()
        publisher.join()
    assert node.state() == 'active'
    probe.send(driver, frame(halves(2, 7), sec=77))


def test_deactivate_stops_the_outputs_and_keeps_the_topics(start_node, probe, halves, frame):
    node = start_node()
    probe.listen('mask')
    driver = probe.driver()
    probe.send(driver, frame(halves(0, 0)))
    assert _change_state(probe, Transition.TRANSITION_DEACTIVATE)
    probe.spin(0.1)
    probe.got['mask'].clear()
    probe.wait(lambda: driver.get_subscription_count() == 0, 'the node to unsubscribe')
    driver.publish(frame(halves(0, 0)))
    probe.spin(0.3)
    assert not probe.got['mask']
    assert probe.node.count_publishers(
        f'{probe.node.get_namespace()}/windshield/segmentation/mask'
    )
    values = probe.wait_value('windshield', 'message', lambda text: text == 'inactive')
    assert values['level'] == 0
    assert _change_state(probe, Transition.TRANSITION_ACTIVATE)
    probe.send(driver, frame(halves(0, 0)))
    assert node.state() == 'active'


def test_a_calibration_of_before_a_rest_is_forgotten(start_node, probe, halves, frame):
    node = start_node()
    stream = node.node._pipeline.streams['windshield']
    driver = probe.node.create_publisher(CameraInfo, 'windshield/camera_info', 1)
    probe.wait(driver.get_subscription_count, 'the node to want the calibration')
    driver.publish(CameraInfo(width=192, height=128))
    probe.wait(lambda: stream.camera_info is not None, 'the calibration')
    probe.node.destroy_publisher(driver)
    assert _change_state(probe, Transition.TRANSITION_DEACTIVATE)
    assert _change_state(probe, Transition.TRANSITION_ACTIVATE)
    probe.listen('mask')
    probe.send(probe.driver(), frame(halves(2, 7)))
    assert stream.camera_info is None


def test_a_transition_that_the_state_does_not_allow_is_refused(start_node, probe, halves, frame):
    node = start_node(autostart=False)
    assert node.state() == 'unconfigured'
    assert not _change_state(probe, Transition.TRANSITION_ACTIVATE)
    assert _change_state(probe, Transition.TRANSITION_CONFIGURE)
    assert not _change_state(probe, Transition.TRANSITION_CONFIGURE)
    assert node.state() == 'inactive'
    assert _change_state(probe, Transition.TRANSITION_ACTIVATE)
    probe.listen('mask')
    probe.send(probe.driver(), frame(halves(0, 0)))


def test_shutdown_from_active_frees_everything(start_node, probe, halves, frame):
    node = start_node()
    probe.listen('mask')
    probe.send(probe.driver(), frame(halves(0, 0)))
    assert _change_state(probe, Transition.TRANSITION_ACTIVE_SHUTDOWN)
    assert node.state() == 'finalized'
    assert node.node._pipeline is None
    assert 'segmentation' not in {thread.name for thread in threading.enumerate()}


def test_an_unforeseen_error_in_a_transition_is_told(start_node, probe, capfd, monkeypatch):
    node = start_node(autostart=False)

    def fail(*_):
        raise RuntimeError('unforeseen')

    monkeypatch.setattr('offroad_seg_ros.segmentation_node.Pipeline', fail)
    capfd.readouterr()
    assert not _change_state(probe, Transition.TRANSITION_CONFIGURE)
    assert 'RuntimeError: unforeseen' in capfd.readouterr().err
    assert node.state() == 'unconfigured'
    text = 'configure failed: RuntimeError: unforeseen'
    values = probe.wait_value('engine', 'message', lambda message: message == text)
    assert values['level'] == 2
    monkeypatch.undo()
    assert _change_state(probe, Transition.TRANSITION_CONFIGURE)
    monkeypatch.setattr(node.node._pipeline, 'activate', fail)
    assert not _change_state(probe, Transition.TRANSITION_ACTIVATE)
    text = 'activate failed: RuntimeError: unforeseen'
    probe.wait_value('engine', 'message', lambda message: message == text)
    assert _change_state(probe, Transition.TRANSITION_CONFIGURE)
    probe.wait_value('engine', 'message', lambda message: message.startswith('inactive: '))


@pytest.mark.parametrize(
    ('parameters', 'reason'),
    [
        ({'engine': 'torch', 'precision': 'int8'}, 'int8'),
        ({'absent_classes': ['Cactus']}, 'Cactus'),
        ({'cost_overrides_file': '/nowhere/costs.yaml'}, '/nowhere/costs.yaml'),
        ({'windshield.ego_mask': '/nowhere/hood.png'}, 'windshield.ego_mask'),
    ],
)
def test_configure_fails_with_the_reason(start_node, capfd, parameters, reason):
    node = start_node(**parameters)
    assert node.state() == 'unconfigured'
    assert reason in capfd.readouterr().err


def test_a_configure_that_fails_late_leaves_no_topics(start_node, monkeypatch):
    node = start_node(autostart=False)
    before = len(list(node.node.publishers))

    def fail(*_):
        raise ValueError('too late')

    with monkeypatch.context() as patch:
        patch.setattr('offroad_seg_ros.labels.LabelTopics.publish', fail)
        assert node.run(node.node.trigger_configure).name == 'FAILURE'
    assert len(list(node.node.publishers)) == before
    assert node.run(node.node.trigger_configure).name == 'SUCCESS'
