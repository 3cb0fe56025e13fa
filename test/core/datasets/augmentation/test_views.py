from dataclasses import replace

import numpy as np
import pytest

from offroad_seg_core.config import ConfigError, load_config
from offroad_seg_core.datasets.augmentation.photometric import PhotometricConfig
from offroad_seg_core.datasets.augmentation.views import ViewsConfig, augment
from offroad_seg_core.inference.manifest import InputSpec

STILL = ViewsConfig(
    scale_range=(1.0, 1.0),
    rotation_deg=0.0,
    flip_probability=0.0,
    max_class_share=1.0,
    photometric=PhotometricConfig(strength=0.0),
)


def spec(size):
    return InputSpec(size=size, mean=(123.675, 116.28, 103.53), std=(58.0, 57.0, 57.0), stride=1)


def rng(*seed):
    return np.random.default_rng(seed or 0)


@pytest.fixture
def frame():
    """Return an image whose red channel is ten times its label, in blocks of 8 pixels."""
    labels = np.kron(np.arange(48).reshape(6, 8) % 10, np.ones((8, 8))).astype(np.uint8)
    image = np.zeros((*labels.shape, 3), np.uint8)
    image[..., 0] = 10 * labels
    return image, labels


class TestAugment:
    def test_nothing_to_vary_returns_the_frame(self, frame):
        image, labels = augment(*frame, (48, 64), spec((48, 64)), STILL, rng())
        assert np.array_equal(image, frame[0])
        assert np.array_equal(labels, frame[1])

    def test_mirror(self, frame):
        config = replace(STILL, flip_probability=1.0)
        image, labels = augment(*frame, (48, 64), spec((48, 64)), config, rng())
        assert np.array_equal(image, frame[0][:, ::-1])
        assert np.array_equal(labels, frame[1][:, ::-1])

    def test_zoom_is_relative_to_the_network_s_input(self, frame):
        # The frame is enlarged twice to fit the input, and then halved again.
        config = replace(STILL, scale_range=(0.5, 0.5))
        image, labels = augment(*frame, (48, 64), spec((96, 128)), config, rng())
        assert np.array_equal(labels, frame[1])
        assert np.array_equal(image, frame[0])

    def test_pixels_from_outside_are_ignored(self, frame):
        _, labels = augment(*frame, (96, 128), spec((24, 32)), STILL, rng(3))
        inside = labels != 255
        assert inside.sum() == 24 * 32
        rows, columns = np.flatnonzero(inside.any(1)), np.flatnonzero(inside.any(0))
        assert (np.ptp(rows) + 1, np.ptp(columns) + 1) == (24, 32)

    def test_pixels_from_outside_have_the_mean_colour_whatever_the_light(self, frame):
        config = ViewsConfig(scale_range=(0.5, 0.5), max_class_share=1.0)
        for seed in range(6):
            white = np.full_like(frame[0], 255)
            image, labels = augment(white, frame[1], (48, 64), spec((48, 64)), config, rng(seed))
            outside = labels == 255
            assert 0.5 < outside.mean() < 0.9
            assert np.unique(image[outside], axis=0).tolist() == [[124, 116, 104]]

    def test_the_rim_of_the_frame_is_not_mixed_with_what_is_outside(self, frame):
        white = np.full_like(frame[0], 255)
        config = replace(STILL, scale_range=(0.7, 0.7), rotation_deg=20.0)
        image, labels = augment(white, frame[1], (48, 64), spec((48, 64)), config, rng(2))
        assert (labels == 255).any()
        assert (image[labels != 255] == 255).all()

    def test_unlabelled_pixels_inside_keep_their_colour(self, frame):
        labels = np.full_like(frame[1], 255)
        image, _ = augment(frame[0], labels, (48, 64), spec((48, 64)), STILL, rng())
        assert np.array_equal(image, frame[0])

    @pytest.mark.parametrize('seed', range(8))
    def test_image_and_labels_stay_together(self, frame, seed):
        config = replace(STILL, scale_range=(0.7, 2.0), rotation_deg=10.0, flip_probability=0.5)
        image, labels = augment(*frame, (40, 56), spec((48, 64)), config, rng(seed))
        assert image.shape == (40, 56, 3)
        inside = labels != 255
        expected = 10.0 * labels
        agree = np.abs(image[..., 0] - expected)[inside] <= 3  # all but pixels on block edges
        assert agree.mean() > 0.6
        # One pixel to the side agrees less: there is no offset between the two.
        shifted = np.abs(np.roll(image[..., 0], 2, axis=1) - expected)[inside] <= 3
        assert agree.mean() > shifted.mean() + 0.05

    def test_same_key_same_view_and_other_keys_differ(self, frame):
        config = ViewsConfig()

        def view(*key):
            return augment(*frame, (32, 32), spec((48, 64)), config, rng(*key))

        for a, b in zip(view(1, 2, 3), view(1, 2, 3), strict=True):
            assert np.array_equal(a, b)
        for key in ((2, 2, 3), (1, 3, 3), (1, 2, 4)):
            assert not np.array_equal(view(1, 2, 3)[0], view(*key)[0])

    def test_crops_of_one_class_are_drawn_again(self):
        labels = np.zeros((64, 64), np.uint8)
        labels[:, 48:] = 1
        image = np.zeros((64, 64, 3), np.uint8)

        def share_of_uniform(tries):
            config = replace(STILL, max_class_share=0.9, crop_tries=tries)
            views = [
                augment(image, labels, (16, 16), spec((64, 64)), config, rng(n))[1]
                for n in range(80)
            ]
            return np.mean([np.ptp(view) == 0 for view in views])

        assert share_of_uniform(8) < 0.5 * share_of_uniform(1)

    @pytest.mark.parametrize('scales', [[0, 1], [2, 1], [-1, 1]])
    def test_bad_scale_range(self, scales):
        with pytest.raises(ConfigError, match='expected 0 < low <= high'):
            load_config(ViewsConfig, {'scale_range': scales})
