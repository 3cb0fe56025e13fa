"""Every encoding against pixels made by hand, and what contradicts itself."""

from array import array
import re

import cv2
from hypothesis import given, settings
from hypothesis import strategies as st
import numpy as np
import pytest
from sensor_msgs.msg import CompressedImage, Image

from offroad_seg_ros.conversions import (
    ENCODINGS,
    FrameError,
    image_from_compressed,
    image_from_message,
)

# Row 0: blue, green; row 1: red, white, as (b, g, r).
BGR = np.array([[[255, 0, 0], [0, 255, 0]], [[0, 0, 255], [255, 255, 255]]], np.uint8)


def _message(rows, width, encoding, height=None, step=None, big_endian=False):
    """Build an image from an array of bytes (rows, row_bytes); rows are padded up to `step`."""
    rows = np.atleast_2d(np.asarray(rows, np.uint8))
    step = step or rows.shape[1]
    padded = np.full((len(rows), step), 0xAB, np.uint8)
    padded[:, : rows.shape[1]] = rows
    return Image(
        height=height or len(rows),
        width=width,
        encoding=encoding,
        step=step,
        is_bigendian=int(big_endian),
        data=array('B', padded.tobytes()),
    )


def _channels(order, alpha=200):
    planes = {'b': BGR[..., 0], 'g': BGR[..., 1], 'r': BGR[..., 2]}
    planes['a'] = np.full((2, 2), alpha, np.uint8)
    return np.stack([planes[letter] for letter in order], axis=-1).reshape(2, -1)


@pytest.mark.parametrize('padding', [0, 5])
@pytest.mark.parametrize(
    ('encoding', 'layout', 'color_order'),
    [
        ('bgr8', 'bgr', 'bgr'),
        ('rgb8', 'rgb', 'rgb'),
        ('bgra8', 'bgra', 'bgra'),
        ('rgba8', 'rgba', 'rgba'),
        ('8UC3', 'bgr', 'bgr'),
        ('8UC4', 'bgra', 'bgra'),
    ],
)
def test_colour_is_a_view(encoding, layout, color_order, padding):
    rows = _channels(layout)
    message = _message(rows, 2, encoding, step=rows.shape[1] + padding)
    image = image_from_message(message)
    assert image.color_order == color_order
    assert image.size == (2, 2)
    np.testing.assert_array_equal(image.bgr(), BGR)
    assert np.shares_memory(image.pixels, np.frombuffer(message.data, np.uint8))


@pytest.mark.parametrize('encoding', ['mono8', '8UC1'])
@pytest.mark.parametrize('step', [3, 8])
def test_mono_is_a_view(encoding, step):
    rows = [[1, 2, 3], [40, 50, 60]]
    message = _message(rows, 3, encoding, step=step)
    image = image_from_message(message)
    assert image.color_order == 'mono'
    np.testing.assert_array_equal(image.pixels, rows)
    np.testing.assert_array_equal(image.bgr(), np.repeat(np.array(rows)[..., None], 3, axis=2))
    assert np.shares_memory(image.pixels, np.frombuffer(message.data, np.uint8))


@pytest.mark.parametrize('big_endian', [False, True])
@pytest.mark.parametrize('step', [4, 7])
@pytest.mark.parametrize('encoding', ['mono16', '16UC1'])
def test_16_bit_keeps_the_high_byte(encoding, step, big_endian):
    values = np.array([[0x0102, 0xFFFE], [0x00FF, 0x8000]], '>u2' if big_endian else '<u2')
    rows = np.frombuffer(values.tobytes(), np.uint8).reshape(2, 4)
    image = image_from_message(_message(rows, 2, encoding, step=step, big_endian=big_endian))
    assert image.color_order == 'mono'
    np.testing.assert_array_equal(image.pixels, [[0x01, 0xFF], [0x00, 0x80]])


@pytest.mark.parametrize('big_endian', [False, True])
@pytest.mark.parametrize(
    ('encoding', 'layout'),
    [
        ('bgr16', 'bgr'),
        ('rgb16', 'rgb'),
        ('bgra16', 'bgra'),
        ('rgba16', 'rgba'),
        ('16UC3', 'bgr'),
        ('16UC4', 'bgra'),
    ],
)
def test_16_bit_colour(encoding, layout, big_endian):
    values = (_channels(layout).astype(np.uint16) << 8 | 0x7F).astype(
        '>u2' if big_endian else '<u2'
    )
    rows = np.frombuffer(values.tobytes(), np.uint8).reshape(2, -1)
    image = image_from_message(_message(rows, 2, encoding, big_endian=big_endian))
    np.testing.assert_array_equal(image.bgr(), BGR)


@pytest.mark.parametrize('bits', [8, 16])
@pytest.mark.parametrize('pattern', ['rggb', 'bggr', 'gbrg', 'grbg'])
def test_bayer(pattern, bits):
    # An evenly coloured scene: each sensor pixel shows its filter's share of that colour.
    color = {'r': 200, 'g': 100, 'b': 50}
    block = np.array([color[letter] for letter in pattern], np.uint8).reshape(2, 2)
    rows = np.tile(block, (4, 4))
    if bits == 16:
        rows = np.stack([np.zeros_like(rows), rows], axis=-1).reshape(8, 16)
    image = image_from_message(_message(rows, 8, f'bayer_{pattern}{bits}', step=19))
    assert image.color_order == 'bgr'
    np.testing.assert_array_equal(image.pixels, np.full((8, 8, 3), (50, 100, 200), np.uint8))


# BT.601, limited range: Y=81 U=90 V=240 is pure red, Y=41 U=240 V=110 pure blue.
RED, BLUE = (81, 90, 240), (41, 240, 110)


def _assert_red_left_blue_right(pixels, half):
    assert np.abs(pixels[:, :half].astype(int) - (0, 0, 255)).max() <= 2
    assert np.abs(pixels[:, half:].astype(int) - (255, 0, 0)).max() <= 2


@pytest.mark.parametrize('step', [8, 11])
@pytest.mark.parametrize(
    ('encoding', 'order'),
    [('yuv422', 'uyvy'), ('uyvy', 'uyvy'), ('yuv422_yuy2', 'yuyv'), ('yuyv', 'yuyv')],
)
def test_packed_yuv(encoding, order, step):
    row = []
    for y, u, v in (RED, BLUE):
        row += [{'y': y, 'u': u, 'v': v}[letter] for letter in order]
    image = image_from_message(_message([row, row], 4, encoding, step=step))
    assert image.pixels.shape == (2, 4, 3)
    _assert_red_left_blue_right(image.pixels, 2)


@pytest.mark.parametrize('step', [4, 6])
@pytest.mark.parametrize('encoding', ['nv12', 'nv21'])
def test_planar_yuv_420(encoding, step):
    luma = [RED[0]] * 2 + [BLUE[0]] * 2
    first, second = (1, 2) if encoding == 'nv12' else (2, 1)
    chroma = [RED[first], RED[second], BLUE[first], BLUE[second]]
    message = _message([luma, luma, chroma], 4, encoding, height=2, step=step)
    image = image_from_message(message)
    assert image.pixels.shape == (2, 4, 3)
    _assert_red_left_blue_right(image.pixels, 2)


def test_planar_yuv_444():
    luma = [RED[0]] * 2 + [BLUE[0]] * 2
    chroma = [RED[1], RED[2]] * 2 + [BLUE[1], BLUE[2]] * 2
    rows = np.array([luma, luma, chroma[:4], chroma[4:], chroma[:4], chroma[4:]], np.uint8)
    image = image_from_message(_message(rows, 4, 'nv24', height=2))
    assert image.pixels.shape == (2, 4, 3)
    _assert_red_left_blue_right(image.pixels, 2)


def test_each_encoding_named_is_converted():
    for encoding in ENCODINGS:
        message = _message(np.zeros((48, 64), np.uint8), 4, encoding, height=4, step=64)
        rows = {'nv12': 6, 'nv21': 6, 'nv24': 12}.get(encoding, 4)
        message.data = message.data[: rows * 64]
        assert image_from_message(message).size == (4, 4)


@settings(max_examples=60, deadline=None)
@given(
    height=st.integers(1, 40),
    width=st.integers(1, 40),
    padding=st.integers(0, 20),
    encoding=st.sampled_from(['bgr8', 'rgb8', 'bgra8', 'rgba8', 'mono8', 'mono16']),
    big_endian=st.booleans(),
    cut_last_padding=st.booleans(),
    seed=st.integers(0, 2**32 - 1),
)
def test_any_size_and_padding(
    height, width, padding, encoding, big_endian, cut_last_padding, seed
):
    channels = {'bgr8': 3, 'rgb8': 3, 'bgra8': 4, 'rgba8': 4}.get(encoding, 1)
    random = np.random.default_rng(seed)
    samples = random.integers(0, 256, (height, width, channels), np.uint8)
    raw = samples
    if encoding == 'mono16':
        low = random.integers(0, 256, samples.shape, np.uint8)
        raw = np.stack([samples, low] if big_endian else [low, samples], axis=-1)
    raw = raw.reshape(height, -1)
    message = _message(raw, width, encoding, step=raw.shape[1] + padding, big_endian=big_endian)
    if cut_last_padding and padding:
        message.data = message.data[:-padding]
    pixels = image_from_message(message).pixels
    np.testing.assert_array_equal(pixels.reshape(samples.shape), samples)


@settings(max_examples=80, deadline=None)
@given(
    height=st.integers(0, 5),
    width=st.integers(0, 5),
    step=st.integers(0, 40),
    length=st.integers(0, 200),
    encoding=st.sampled_from([*ENCODINGS, 'nonsense', '']),
)
def test_any_message_gives_pixels_or_a_frame_error(height, width, step, length, encoding):
    message = Image(
        height=height, width=width, step=step, encoding=encoding, data=array('B', bytes(length))
    )
    try:
        image = image_from_message(message)
    except FrameError as error:
        text = str(error)
    else:
        text = 'got an image, expected none; fix: none'
        assert image.size == (height, width)
        assert image.pixels.dtype == np.uint8
    assert re.search('got .*expected .*fix: ', text)


@pytest.mark.parametrize(
    ('encoding', 'height', 'width', 'message'),
    [
        ('nv12', 3, 4, 'image height: got 3, expected a multiple of 2 for nv12'),
        ('nv21', 2, 3, 'image width: got 3, expected a multiple of 2 for nv21'),
        ('uyvy', 2, 3, 'image width: got 3, expected a multiple of 2 for uyvy'),
    ],
)
def test_odd_sizes_of_subsampled_formats(encoding, height, width, message):
    with pytest.raises(FrameError, match=message):
        image_from_message(_message(np.zeros((6, 8)), width, encoding, height=height))


@pytest.mark.parametrize('extension', ['.png', '.jpg'])
def test_compressed(extension):
    picture = np.full((16, 24, 3), (30, 120, 220), np.uint8)
    data = cv2.imencode(extension, picture)[1].tobytes()
    image = image_from_compressed(CompressedImage(format=extension, data=data))
    assert image.color_order == 'bgr'
    assert np.abs(image.pixels.astype(int) - picture).max() <= (0 if extension == '.png' else 4)


def test_compressed_grey_becomes_bgr():
    data = cv2.imencode('.png', np.full((4, 5), 77, np.uint8))[1].tobytes()
    pixels = image_from_compressed(CompressedImage(format='png', data=data)).pixels
    np.testing.assert_array_equal(pixels, np.full((4, 5, 3), 77))


@settings(max_examples=50, deadline=None)
@given(data=st.binary(max_size=300), head=st.sampled_from([b'', b'\xff\xd8\xff', b'\x89PNG\r\n']))
def test_any_compressed_garbage_is_a_frame_error(data, head):
    with pytest.raises(FrameError, match='compressed image: got'):
        image_from_compressed(CompressedImage(format='jpeg', data=head + data))
