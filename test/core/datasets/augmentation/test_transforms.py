import numpy as np
import pytest

albumentations = pytest.importorskip('albumentations')

from offroad_seg_core.datasets.augmentation.conditions import LensSpots  # noqa: E402
from offroad_seg_core.datasets.augmentation.library import (  # noqa: E402
    DROPOUTS,
    IMAGE_ONLY,
    PAIRED,
)
from offroad_seg_core.datasets.augmentation.style_transforms import (  # noqa: E402
    STYLE_TRANSFORMS,
)

CROP = (64, 96)
MEAN = [124, 116, 104]
STYLES = {cls.__name__ for cls in STYLE_TRANSFORMS}


def rng(*seed):
    return np.random.default_rng(seed or 0)


def is_aligned(image, labels):
    """Return the share of labelled pixels whose colour is their label's."""
    inside = labels != 255
    difference = np.abs(image[..., 0].astype(int) - 20 * labels.astype(int))
    return (difference[inside] <= 10).mean()


class TestGeometry:
    @pytest.mark.parametrize('name', sorted(PAIRED))
    def test_labels_follow_the_image(self, build, only, frame, name):
        augmentation = build(only(name))
        for seed in range(6):
            image, labels = augmentation(*frame, rng(seed))
            assert image.shape == (*CROP, 3)
            assert labels.shape == CROP
            assert image.dtype == labels.dtype == np.uint8
            assert set(np.unique(labels)) <= set(np.unique(frame[1])) | {255}
            if name not in DROPOUTS and (labels != 255).sum() > 300:
                assert is_aligned(image, labels) > 0.85

    @pytest.mark.parametrize('name', ['Affine', 'Rotate', 'Perspective', 'Pad', 'SafeRotate'])
    def test_padding_is_ignored_and_of_the_mean_colour_whatever_the_light(self, build, only, name):
        white = np.full((60, 90, 3), 255, np.uint8)
        labels = np.full((60, 90), 3, np.uint8)
        options = {
            'Affine': {'scale': [0.6, 0.7]},
            'Rotate': {'limit': [20, 30]},
            'Perspective': {'scale': [0.1, 0.2], 'fit_output': True},
        }.get(name, {})
        limits = {'brightness_limit': [-0.5, -0.4], 'contrast_limit': [0, 0]}
        dark = only('RandomBrightnessContrast', **limits)
        augmentation = build(only(name, **options), dark, crop_size=(60, 90))
        for seed in range(4):
            image, result = augmentation(white, labels, rng(seed))
            outside = result == 255
            assert 0 < outside.mean() < 0.9
            assert np.unique(image[outside], axis=0).tolist() == [MEAN]
            assert image[~outside].max() < 200

    def test_small_frames_are_padded_and_large_ones_cut(self, build, only):
        image = np.full((20, 300, 3), 9, np.uint8)
        labels = np.full((20, 300), 4, np.uint8)
        view, result = build(only('NoOp'))(image, labels, rng())
        assert (result == 4).sum() == 20 * 96
        assert (view[result == 4] == 9).all()
        assert np.unique(view[result == 255], axis=0).tolist() == [MEAN]

    def test_unlabelled_pixels_inside_keep_their_colour(self, build, only, frame):
        image, _ = frame
        labels = np.full(image.shape[:2], 255, np.uint8)
        view, _ = build(only('HorizontalFlip'), crop_size=(110, 180))(image, labels, rng())
        assert np.array_equal(view, image[:, ::-1])

    def test_zoom_is_relative_to_the_given_size(self, build, only):
        image = np.zeros((24, 40, 3), np.uint8)
        labels = np.zeros((24, 40), np.uint8)
        zoom = only('RandomZoom', fit_size='input_size', scale_range=[0.5, 0.5])
        _, result = build(zoom)(image, labels, rng())
        assert (result == 0).sum() == 48 * 80  # 24x40 fits 96x160 at 4, and half of that

    def test_resized_labels_are_not_shifted(self, build, only):
        # A grid of 4x4 blocks, reduced to a quarter: each label appears once, where it was.
        labels = np.kron(np.arange(24).reshape(4, 6), np.ones((4, 4))).astype(np.uint8)
        image = np.repeat(labels[..., None], 3, axis=2)
        small = only('Resize', height=4, width=6)
        _, result = build(small, crop_size=(4, 6))(image, labels, rng())
        assert np.array_equal(result, np.arange(24).reshape(4, 6))

    def test_crops_of_one_class_are_drawn_again(self, build, only):
        labels = np.zeros((64, 64), np.uint8)
        labels[:, 48:] = 1
        image = np.zeros((64, 64, 3), np.uint8)

        def share_of_uniform(tries):
            crop = only('ClassBalancedCrop', size='crop_size', max_class_share=0.9, tries=tries)
            augmentation = build(crop, crop_size=(16, 16))
            views = [augmentation(image, labels, rng(n))[1] for n in range(80)]
            return np.mean([np.ptp(view) == 0 for view in views])

        assert share_of_uniform(8) < 0.5 * share_of_uniform(1)


class TestImageOnly:
    @pytest.mark.parametrize('name', sorted(set(IMAGE_ONLY) - STYLES))
    def test_labels_stay_and_draws_repeat(self, build, only, frame, name):
        augmentation = build(only(name), crop_size=(110, 180))
        image, labels = augmentation(*frame, rng(1))
        assert np.array_equal(labels, frame[1])
        assert image.shape == frame[0].shape
        augmentation(*frame, rng(2))
        assert np.array_equal(augmentation(*frame, rng(1))[0], image)

    def test_results_never_share_memory_with_the_frame(self, build, only, frame):
        image, labels = build(only('NoOp'), crop_size=(110, 180))(*frame, rng())
        assert image.flags.writeable
        assert labels.flags.writeable
        assert not np.may_share_memory(image, frame[0])
        assert not np.may_share_memory(labels, frame[1])

    def test_photometric_distortion_by_hand(self, build, only):
        image = np.full((64, 96, 3), (200, 100, 100), np.uint8)
        labels = np.zeros((64, 96), np.uint8)
        neutral = {'brightness_delta': 0, 'contrast_range': [1, 1], 'saturation_range': [1, 1]}

        def distort(**options):
            options = {**neutral, 'hue_delta': 0, 'each_p': 1.0, **options}
            augmentation = build(only('PhotometricDistortion', **options))
            return augmentation(image, labels, rng())[0][0, 0].tolist()

        assert distort() == [200, 100, 100]
        assert distort(contrast_range=[0.5, 0.5]) == [100, 50, 50]
        assert distort(saturation_range=[0, 0]) == [200, 200, 200]
        assert distort(contrast_range=[0.5, 0.5], each_p=0.0) == [200, 100, 100]

    def test_fields_are_seen_in_the_picture(self, build, only):
        image = np.full((120, 160, 3), 100, np.uint8)
        labels = np.zeros((120, 160), np.uint8)

        def view(name, **options):
            augmentation = build(only(name, **options), crop_size=(120, 160))
            return augmentation(image, labels, rng(4))[0].astype(int)

        dust = view('DustHaze')
        assert dust[:20].mean() > 110 > dust[-5:].mean()  # far away; near the wheels it is clear
        assert dust[..., 0].mean() > dust[..., 2].mean()  # tan
        assert view('SunGlare').min() >= 100
        dark = view('LowLight', light_range=[0.5, 0.5], noise_range=[4, 4])
        assert 48 < dark.mean() < 52
        assert 1 < dark.std() < 4
        dirt = view('LensSpots', mode='dirt', num_range=[8, 8])
        assert dirt.min() < 80
        assert dirt.max() == 100
        # Drops show an average of what is behind, not single pixels of it.
        lines = np.zeros((256, 256, 3), np.uint8)
        lines[:, 7::16] = lines[:, 8::16] = 255
        spots = np.array([[0.5, 0.5, 0.3, 1.0, 1.0]])
        drop = LensSpots(mode='drops').apply(lines, spots=spots)
        assert abs(drop[128, 112:144].mean() - 255 / 8) < 4
        assert (view('LensSpots', mode='drops', num_range=[0, 0]) == 100).all()
