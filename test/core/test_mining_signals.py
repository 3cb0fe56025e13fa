"""Flicker by hand: labels that follow the picture are steady, whatever the camera does."""

from types import SimpleNamespace

import cv2
import numpy as np
import pytest

from offroad_seg_core.bags.camera_images import CameraImage
from offroad_seg_core.datasets.analysis.features import NUM_FEATURES, describe_image
from offroad_seg_core.mining.signals import FrameSignals, View, features_of, flicker

SIZE = (72, 128)


def picture(shift=0):
    """Random blobs, seen by a camera that turned by ``shift`` pixels."""
    noise = np.random.default_rng(0).integers(0, 256, (72, 192)).astype(np.uint8)
    gray = cv2.normalize(cv2.GaussianBlur(noise, (0, 0), 3), None, 0, 255, cv2.NORM_MINMAX)
    return np.ascontiguousarray(gray[:, 20 + shift : 20 + shift + SIZE[1]])


def labels_of(gray):
    return (gray > 128).astype(np.uint8)


def view(gray, label_map):
    return View(gray, label_map, 0, np.zeros(0, np.float32))


def test_labels_that_move_with_the_picture_do_not_flicker():
    earlier, later = picture(0), picture(6)
    moved = flicker(view(earlier, labels_of(earlier)), view(later, labels_of(later)))
    unmoved = (labels_of(earlier) != labels_of(later)).mean()
    assert moved < 0.03
    assert unmoved > 0.2


def test_flicker_is_the_share_of_pixels_that_changed():
    gray = picture()
    before, now = np.zeros(SIZE, np.uint8), np.zeros(SIZE, np.uint8)
    now[:, :32] = 5  # a quarter
    assert flicker(view(gray, before), view(gray, now)) == 0.25
    assert flicker(view(gray, now), view(gray, now)) == 0.0
    # What has no label in one of them says nothing: of the right half nothing changed.
    before[:, :64] = 255
    assert flicker(view(gray, before), view(gray, now)) == 0.0
    before[:] = 255
    assert flicker(view(gray, before), view(gray, now)) is None


def test_sizes_that_cannot_be_compared():
    small = np.zeros((8, 128), np.uint8)
    assert flicker(view(small, small), view(small, small)) is None
    gray = picture()
    other = np.zeros((36, 64), np.uint8)
    assert flicker(view(other, other), view(gray, gray)) is None


def labelled(gray, label_map, stamp_ns, camera='front'):
    image = CameraImage(cv2.cvtColor(gray, cv2.COLOR_GRAY2BGR), 'bgr')
    return SimpleNamespace(
        image=image,
        prediction=SimpleNamespace(label_map=label_map),
        frame=SimpleNamespace(camera=camera, stamp_ns=stamp_ns),
        row={},
    )


@pytest.fixture
def add(tmp_path):
    """Return a function that gives a frame to the sink and returns what its row got."""
    sink = FrameSignals()
    sink.begin(tmp_path, tmp_path)

    def add_frame(*given):
        frame = labelled(*given)
        sink.add(frame, sink.prepare(frame))
        return frame.row

    return add_frame


def test_rows_get_flicker_against_the_same_cameras_last_frame(add):
    gray, zeros, ones = picture(), np.zeros(SIZE, np.uint8), np.ones(SIZE, np.uint8)
    first = add(gray, zeros, 1_000_000_000)
    assert (first['flicker'], len(first['image_hash'])) == (None, 16)
    assert add(gray, ones, 1_000_000_000, 'rear')['flicker'] is None
    assert add(gray, zeros, 1_200_000_000)['flicker'] == 0.0
    assert add(gray, ones, 1_400_000_000)['flicker'] == 1.0
    assert add(gray, zeros, 5_000_000_000)['flicker'] is None  # too long ago
    assert add(gray, ones, 5_000_000_001)['flicker'] is None  # frames of a data set, no drive


def test_a_part_starts_anew(tmp_path):
    """As it must after an interruption, which forgets the frame before."""
    sink, gray, zeros = FrameSignals(), picture(), np.zeros(SIZE, np.uint8)
    for stamp_ns in (1_000_000_000, 1_200_000_000):
        sink.begin(tmp_path, tmp_path)
        frame = labelled(gray, zeros, stamp_ns)
        sink.add(frame, sink.prepare(frame))
        assert frame.row['flicker'] is None


def test_hashes_tell_pictures_apart_and_not_colour_orders(add):
    gray, zeros = picture(), np.zeros(SIZE, np.uint8)
    hashes = [add(each, zeros, 0)['image_hash'] for each in (gray, gray, picture(30))]
    assert hashes[0] == hashes[1] != hashes[2]


def test_features_are_kept_to_half_a_level(add):
    gray, zeros = picture(), np.zeros(SIZE, np.uint8)
    texts = [add(each, zeros, 0)['image_features'] for each in (gray, picture(30))]
    found = features_of(texts)
    expected = describe_image(np.dstack([gray] * 3))
    np.testing.assert_allclose(found[0], expected, atol=0.5 / 765 + 1e-6)
    assert found.shape == (2, NUM_FEATURES)
    assert not np.array_equal(found[0], found[1])
