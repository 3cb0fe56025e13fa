import numpy as np
import pytest

from offroad_seg_core.datasets.augmentation.photometric import PhotometricConfig, distort_colors


def rng(*seed):
    return np.random.default_rng(seed or 0)


class TestPhotometric:
    @pytest.fixture
    def image(self):
        return rng(5).integers(40, 200, (32, 48, 3)).astype(np.uint8)

    def test_strength_zero_is_off(self, image):
        assert distort_colors(image, PhotometricConfig(strength=0.0), rng()) is image

    def test_changes_grow_with_the_strength_and_keep_the_type(self, image):
        def change(strength):
            config = PhotometricConfig(strength=strength, gray_probability=0.0)
            results = [distort_colors(image, config, rng(n)) for n in range(20)]
            assert all(r.shape == image.shape and r.dtype == np.uint8 for r in results)
            return np.mean([np.abs(r.astype(int) - image).mean() for r in results])

        assert 1 < change(0.2) < change(1.0)

    def test_grey(self, image):
        off = dict.fromkeys(('white_balance', 'noise', 'hue_deg'), 0.0)
        result = distort_colors(image, PhotometricConfig(gray_probability=1.0, **off), rng())
        assert np.ptp(result.astype(int), axis=2).max() <= 1

    def test_hue_keeps_grey_and_turns_red_to_green(self):
        off = dict.fromkeys(
            ('exposure', 'gamma', 'contrast', 'white_balance', 'saturation', 'blur_px', 'noise'),
            0.0,
        )
        config = PhotometricConfig(hue_deg=120.0, gray_probability=0.0, **off)
        image = np.array([[[90, 90, 90], [90, 0, 0]]], np.uint8)

        class Highest(np.random.Generator):
            def uniform(self, low=0.0, high=1.0, size=None):
                return np.full(size, high) if size else high

        result = distort_colors(image, config, Highest(np.random.PCG64(0)))
        assert result[0].tolist() == [[90, 90, 90], [0, 90, 0]]

    def test_does_not_write_into_its_input(self, image):
        before = image.copy()
        for seed in range(5):
            distort_colors(image, PhotometricConfig(), rng(seed))
        assert np.array_equal(image, before)
