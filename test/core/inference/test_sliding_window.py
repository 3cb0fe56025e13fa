"""Windows of an image, blended, against what the network says of the image as a whole."""

from itertools import product
import tracemalloc

from hypothesis import given, settings
from hypothesis import strategies as st
import numpy as np
from pydantic import ValidationError
import pytest

from offroad_seg_core.config import ConfigError, load_config
from offroad_seg_core.inference.engines import EngineError
from offroad_seg_core.inference.manifest import InputSpec
from offroad_seg_core.inference.sliding_window import (
    SlidingWindow,
    WindowRunner,
    blend_weights,
    parse_sliding_window,
    window_starts,
)
from offroad_seg_core.inference.tta import ViewRunner

STRIDE = 4  # of the networks here, in and out
SPEC = InputSpec(size=(32, 48), mean=(10, 20, 30), std=(1, 1, 1), stride=STRIDE)


def per_block(images):
    """A network that looks at no neighbours: blocks' sums of colours in five classes."""
    count, height, width, _ = images.shape
    blocks = images.reshape(count, height // STRIDE, STRIDE, width // STRIDE, STRIDE, 3)
    sums = blocks.sum(axis=(2, 4), dtype=np.float32)
    classes = np.random.default_rng(0).normal(size=(3, 5)).astype(np.float32)
    return (sums @ classes).transpose(0, 3, 1, 2)


def place_dependent(images):
    """A network whose answer depends on where in its input something is."""
    logits = per_block(images)
    rows, columns = np.ogrid[: logits.shape[2], : logits.shape[3]]
    return logits * (1 + 0.1 * rows) - 7 * columns


def picture(height, width, seed=0):
    rng = np.random.default_rng(seed)
    return rng.integers(0, 256, (1, height, width, 3)).astype(np.uint8)


class TestStarts:
    def test_the_last_window_is_flush_with_the_border(self):
        assert window_starts(2048, 896, 384) == [0, 384, 768, 1152]
        assert window_starts(1024, 896, 384) == [0, 128]
        assert window_starts(1280, 896, 384) == [0, 384]
        assert window_starts(896, 896, 384) == [0]


class TestWeights:
    def test_uniform_by_hand(self):
        first, second = blend_weights([0, 2], 4, 'uniform')
        np.testing.assert_array_equal(first, [1, 1, 0.5, 0.5])
        np.testing.assert_array_equal(second, [0.5, 0.5, 1, 1])

    def test_gaussian_by_hand(self):
        # Sigma is 4 / 8 px; pixels lie 1.5, 0.5, 0.5 and 1.5 px from the centre.
        near, far = np.exp(-0.5), np.exp(-4.5)
        first, second = blend_weights([0, 2], 4, 'gaussian')
        share = near / (near + far)  # 0.982: of the window whose centre is nearer
        np.testing.assert_allclose(first, [1, 1, share, 1 - share], rtol=1e-6)
        np.testing.assert_allclose(second, [1 - share, share, 1, 1], rtol=1e-6)
        assert first.dtype == np.float32

    @given(
        st.integers(1, 60), st.integers(1, 20), st.integers(1, 20),
        st.sampled_from(['gaussian', 'uniform']),
    )  # fmt: skip
    def test_they_add_up_to_1(self, length, window, stride, blend):
        window = min(window, length)
        starts = window_starts(length, window, min(stride, window))
        total = np.zeros(length)
        for start, weight in zip(starts, blend_weights(starts, window, blend), strict=True):
            assert (weight > 0).all()
            total[start : start + window] += weight
        np.testing.assert_allclose(total, 1, rtol=1e-6)


sizes = st.tuples(st.integers(1, 12), st.integers(1, 12)).map(
    lambda size: (size[0] * STRIDE, size[1] * STRIDE)
)


class TestRunner:
    @settings(max_examples=60, deadline=None)
    @given(
        size=sizes,
        window=sizes,
        step=sizes,
        blend=st.sampled_from(['gaussian', 'uniform']),
        batch_size=st.integers(1, 4),
    )
    def test_a_network_without_neighbours_gives_the_same(
        self, size, window, step, blend, batch_size
    ):
        step = tuple(min(pair) for pair in zip(step, window, strict=True))
        runner = WindowRunner(per_block, SlidingWindow(window, step, blend, batch_size), SPEC)
        image = picture(*size)
        expected = per_block(image)
        np.testing.assert_allclose(runner(image), expected, rtol=1e-5, atol=1e-2)

    @pytest.mark.parametrize('batch_size', [1, 3])
    def test_against_sums_and_weights_of_whole_images(self, batch_size):
        sliding = SlidingWindow((16, 24), (8, 12), batch_size=batch_size)
        image = picture(44, 60)
        logits = np.zeros((5, 11, 15))
        total = np.zeros((11, 15))
        bell = [
            np.exp(-0.5 * ((np.arange(side) + 0.5 - side / 2) / (side / 8)) ** 2)
            for side in (4, 6)
        ]
        for top, left in product([0, 8, 16, 24, 28], [0, 12, 24, 36]):
            window = image[:, top : top + 16, left : left + 24]
            place = np.s_[..., top // 4 : top // 4 + 4, left // 4 : left // 4 + 6]
            logits[place] += np.outer(*bell) * place_dependent(window)[0]
            total[place] += np.outer(*bell)
        found = WindowRunner(place_dependent, sliding, SPEC)(image)
        np.testing.assert_allclose(found[0], logits / total, rtol=1e-4, atol=1e-2)
        assert found.dtype == np.float32
        assert np.abs(found - place_dependent(image)).max() > 100

    def test_the_mean_colour_lies_beyond_a_small_image(self):
        seen = []

        def network(images):
            seen.append(images.copy())
            return per_block(images)

        image = picture(8, 20)
        found = WindowRunner(network, SlidingWindow((16, 24), (4, 4)), SPEC)(image)
        assert found.shape == (1, 5, 2, 5)
        (window,) = seen
        assert window.shape == (1, 16, 24, 3)
        np.testing.assert_array_equal(window[:, :8, :20], image)
        assert (window[:, 8:] == [10, 20, 30]).all()
        assert (window[:, :, 20:] == [10, 20, 30]).all()

    def test_batches_and_reused_buffers(self):
        shapes, buffer = [], np.empty((3, 5, 4, 6), np.float32)

        def network(images):
            shapes.append(len(images))
            buffer[: len(images)] = per_block(images)
            return buffer[: len(images)]

        image = picture(16, 72)
        sliding = SlidingWindow((16, 24), (16, 8), batch_size=3)
        found = WindowRunner(network, sliding, SPEC)(image)
        assert shapes == [3, 3, 1]
        np.testing.assert_allclose(found, per_block(image), rtol=1e-5, atol=1e-2)

    def test_memory_is_that_of_the_result_and_one_batch(self):
        num_classes = 64
        answer = np.ones((2, num_classes, 32, 32), np.float32)
        image = np.zeros((1, 512, 1024, 3), np.uint8)
        sliding = SlidingWindow((128, 128), (32, 32), batch_size=2)
        runner = WindowRunner(lambda images: answer[: len(images)], sliding, SPEC)
        num_windows = 13 * 29
        result_bytes = 4 * num_classes * 128 * 256
        tracemalloc.start()
        found = runner(image)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert found.nbytes == result_bytes
        assert peak < 1.25 * result_bytes  # all windows together have 24 times as much
        assert num_windows * answer[0].nbytes > 10 * result_bytes

    def test_mirrored_and_scaled_views(self):
        # Views of a network without neighbours are the same with windows and without.
        image = picture(32, 48)
        sliding = SlidingWindow((16, 16), (8, 12))
        whole, _ = ViewRunner(per_block, STRIDE)(image, 'flip_scales', np.inf)
        windows = ViewRunner(WindowRunner(per_block, sliding, SPEC), STRIDE)
        found, passes = windows(image, 'flip_scales', np.inf)
        assert passes == 6
        np.testing.assert_allclose(np.exp(found), np.exp(whole), atol=1e-4)


class TestMistakes:
    def test_gaps(self):
        with pytest.raises(ValidationError, match=r'got stride \(384, 900\) of windows .* gaps'):
            SlidingWindow(stride=(384, 900))
        with pytest.raises(ValidationError, match='expected 1 px up to a window'):
            SlidingWindow(stride=(0, 384))

    @pytest.mark.parametrize(
        ('given', 'told'),
        [
            ({'window': [18, 24], 'stride': [4, 4]}, r'window: got \(18, 24\).*fix: \(16, 24\)'),
            ({'stride': [6, 4]}, r'stride: got \(6, 4\), expected multiples of 4'),
            ({'frame_size': [400, 1]}, r'frame_size: got \(400, 1\).*fix: \(400, 4\)'),
        ],
    )
    def test_sizes_that_do_not_fit_the_network(self, given, told):
        with pytest.raises(ValueError, match=told):
            WindowRunner(per_block, load_config(SlidingWindow, given), SPEC)

    @pytest.mark.parametrize(
        ('text', 'told'),
        [
            ('896', 'holds no mapping'),
            ('{window: [896', 'not valid YAML'),
            ('{windows: [896, 896]}', 'window'),
            ('{blend: soft}', 'gaussian'),
            ('{batch_size: 0}', 'batch_size'),
        ],
    )
    def test_command_line(self, text, told):
        with pytest.raises(ConfigError, match=told):
            parse_sliding_window(text)

    def test_command_line_that_is_right(self):
        assert parse_sliding_window('') is None
        assert parse_sliding_window('{}') == SlidingWindow((896, 896), (384, 384), 'gaussian', 1)
        assert parse_sliding_window('{stride: [8, 4]}').stride == (8, 4)

    def test_a_network_of_one_input_size(self):
        def network(images):
            if images.shape != (1, 32, 48, 3):
                raise EngineError('got invalid dimensions')
            return per_block(images)

        image = picture(64, 96)
        whole = WindowRunner(network, SlidingWindow((32, 48), (16, 24)), SPEC)
        np.testing.assert_allclose(whole(image), per_block(image), rtol=1e-5, atol=1e-2)
        fix = r'invalid dimensions; got 1 windows of \[16, 24\] .*window: \[32, 48\]'
        with pytest.raises(EngineError, match=fix):
            WindowRunner(network, SlidingWindow((16, 24), (8, 8)), SPEC)(image)

    def test_a_network_that_fails_on_its_own_size_says_no_more(self):
        def network(images):
            raise EngineError('out of memory')

        runner = WindowRunner(network, SlidingWindow((32, 48), (16, 24)), SPEC)
        with pytest.raises(EngineError, match=r'^out of memory$'):
            runner(picture(64, 96))

    def test_logits_of_an_odd_size(self):
        answer, sliding = np.zeros((1, 2, 3, 6), np.float32), SlidingWindow((16, 24), (8, 8))
        runner = WindowRunner(lambda images: answer, sliding, SPEC)
        with pytest.raises(ValueError, match=r'got logits of \[3, 6\] px from .* \[16, 24\], exp'):
            runner(picture(64, 96))
