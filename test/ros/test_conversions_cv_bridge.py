"""Encodings that are left to cv_bridge, where it is there and where it is not."""

import sys
import types

import numpy as np
import pytest
from sensor_msgs.msg import Image

from offroad_seg_ros import conversions
from offroad_seg_ros.conversions import FrameError, image_from_message

BGR = np.array([[[255, 0, 0], [0, 255, 0]], [[0, 0, 255], [255, 255, 255]]], np.uint8)


def _thermal():
    return Image(height=1, width=1, encoding='thermal14', step=2, data=b'\0\0')


@pytest.fixture(autouse=True)
def _look_for_cv_bridge_anew():
    conversions._find_cv_bridge.cache_clear()
    yield
    conversions._find_cv_bridge.cache_clear()


def test_an_unknown_encoding_names_both_ways_out(monkeypatch):
    monkeypatch.setitem(sys.modules, 'cv_bridge', None)
    with pytest.raises(FrameError, match=r'(?s)thermal14.*one of bgr8, rgb8.*install cv_bridge'):
        image_from_message(_thermal())


def _bridge(convert):
    module = types.ModuleType('cv_bridge')
    module.CvBridgeError = type('CvBridgeError', (TypeError,), {})
    module.CvBridge = lambda: types.SimpleNamespace(imgmsg_to_cv2=convert)
    return module


def test_cv_bridge_takes_the_rest(monkeypatch):
    monkeypatch.setitem(sys.modules, 'cv_bridge', _bridge(lambda message, encoding: BGR))
    image = image_from_message(_thermal())
    assert image.color_order == 'bgr'
    np.testing.assert_array_equal(image.pixels, BGR)


def test_cv_bridge_may_not_know_it_either(monkeypatch):
    def refuse(message, encoding):
        raise TypeError('unknown to me')

    monkeypatch.setitem(sys.modules, 'cv_bridge', _bridge(refuse))
    with pytest.raises(FrameError, match='cv_bridge says: unknown to me'):
        image_from_message(_thermal())


@pytest.mark.parametrize('error', [ImportError, AttributeError, SystemError])
def test_a_cv_bridge_built_for_another_numpy_names_both_ways_out(monkeypatch, error):
    def fail(message, encoding):
        raise error('_ARRAY_API not found')

    monkeypatch.setitem(sys.modules, 'cv_bridge', _bridge(fail))
    with pytest.raises(FrameError, match=r'bgr8.*install cv_bridge.*_ARRAY_API not found'):
        image_from_message(_thermal())


def test_a_missing_cv_bridge_is_looked_for_once(monkeypatch):
    asked = []

    def look(name):
        asked.append(name)
        raise ModuleNotFoundError(name)

    monkeypatch.setattr(conversions, 'import_module', look)
    for _ in range(3):
        with pytest.raises(FrameError, match='cv_bridge'):
            image_from_message(_thermal())
    assert asked == ['cv_bridge']
