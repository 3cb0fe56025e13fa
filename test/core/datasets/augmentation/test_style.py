import cv2
from hypothesis import given, settings
from hypothesis import strategies as st
import numpy as np
import pytest

albumentations = pytest.importorskip('albumentations')

from offroad_seg_core.config import ConfigError  # noqa: E402
from offroad_seg_core.datasets.augmentation import create_augmentation, style  # noqa: E402
from offroad_seg_core.datasets.augmentation.pipeline import PipelineConfig  # noqa: E402
from offroad_seg_core.datasets.augmentation.style_transforms import (  # noqa: E402
    AdaINTransfer,
    FourierAdaptation,
    HistogramTransfer,
    ReinhardTransfer,
)

TRANSFERS = (FourierAdaptation, ReinhardTransfer, HistogramTransfer, AdaINTransfer)


def smooth(seed, size=(48, 64), low=60, high=190):
    """Return a picture with structure at every scale, away from 0 and 255."""
    source = np.random.default_rng(seed)
    field = cv2.resize(source.random((5, 6, 3)), size[::-1], interpolation=cv2.INTER_LINEAR)
    field = 0.8 * field + 0.2 * source.random((*size, 3))
    return (low + (high - low) * field).astype(np.uint8)


def spectrum(image):
    return np.fft.fft2(image.astype(float), axes=(0, 1))


def low_band(size, cycles):
    rows = np.abs(np.fft.fftfreq(size[0], 1 / size[0])) <= cycles
    columns = np.abs(np.fft.fftfreq(size[1], 1 / size[1])) <= cycles
    return rows[:, None] & columns


class TestFourier:
    def test_amplitudes_are_those_of_the_fft(self):
        image = smooth(1)
        measured = style.measure_amplitudes(image, 3)
        expected = np.abs(spectrum(image)) / image[..., 0].size
        assert measured.shape == (3, 7, 4)
        rows = np.arange(-3, 4)
        assert np.allclose(measured, expected[rows][:, :4].transpose(2, 0, 1), atol=1e-3)

    def test_beta_zero_is_the_picture(self):
        image = smooth(1)
        assert style.adapt_fourier(image, style.measure_amplitudes(smooth(2), 5), 0.0) is image

    def test_the_picture_s_own_style_changes_nothing(self):
        image = smooth(1)
        result = style.adapt_fourier(image, style.measure_amplitudes(image, 9), 0.2)
        assert np.abs(result.astype(int) - image).max() <= 1

    def test_only_the_mean_below_one_cycle(self):
        image, target = smooth(1), np.full((48, 64, 3), (100, 120, 140), np.uint8)
        result = style.adapt_fourier(image, style.measure_amplitudes(target, 2), 0.01)
        assert np.allclose(result.mean((0, 1)), [100, 120, 140], atol=0.51)
        shift = result.astype(int) - image
        assert np.ptp(shift.reshape(-1, 3), axis=0).max() <= 1

    @given(st.integers(0, 2**16), st.sampled_from([(48, 64), (45, 61), (64, 48)]))
    @settings(max_examples=15, deadline=None)
    def test_low_amplitudes_are_the_target_s_and_phases_are_kept(self, seed, size):
        # Alike enough that nothing is clipped to 0..255.
        image, target = smooth(seed, size), smooth(seed + 1, (40, 80), 70, 180)
        cycles = 4
        result = style.adapt_fourier(image, style.measure_amplitudes(target, 9), 0.1)
        before, after = spectrum(image), spectrum(result)
        assert cycles == int(0.1 * min(size))
        wanted = np.abs(spectrum(target)) * (size[0] * size[1]) / (40 * 80)
        scale = size[0] * size[1]
        for ky in range(-cycles, cycles + 1):
            for kx in range(-cycles, cycles + 1):
                assert np.abs(after[ky, kx]) / scale == pytest.approx(
                    wanted[ky, kx] / scale, abs=0.05
                )
                strong = (np.abs(before[ky, kx]) > 0.5 * scale) & (wanted[ky, kx] > 0.5 * scale)
                turn = np.angle(after[ky, kx] / before[ky, kx])[strong]
                assert np.abs(turn).max(initial=0) < 0.15
        outside = ~low_band(size, cycles)
        assert np.abs(after - before)[outside].max() / scale < 0.1  # rounding to whole values

    def test_a_band_larger_than_what_was_measured_ends_there(self):
        image, target = smooth(1), style.measure_amplitudes(smooth(2), 3)
        assert np.array_equal(
            style.adapt_fourier(image, target, 0.4), style.adapt_fourier(image, target, 3.5 / 48)
        )


class TestReinhard:
    def test_mean_and_deviation_are_the_target_s(self):
        image, target = smooth(1), style.measure_lab(smooth(2, low=90, high=160))
        result = style.measure_lab(style.transfer_reinhard(image, target))
        assert np.allclose(result, target, atol=0.4)

    def test_blend(self):
        image, target = smooth(1), style.measure_lab(smooth(2, low=90, high=160))
        own = style.measure_lab(image)
        assert np.abs(style.transfer_reinhard(image, target, 0.0).astype(int) - image).max() <= 1
        half = style.measure_lab(style.transfer_reinhard(image, target, 0.5))
        assert np.allclose(half, (own + target) / 2, atol=0.4)

    def test_grey_has_no_contrast_to_stretch(self):
        gray = np.full((8, 8, 3), 128, np.uint8)
        target = style.measure_lab(np.full((8, 8, 3), 60, np.uint8))
        assert np.unique(style.transfer_reinhard(gray, target)).tolist() == [60]


class TestHistogram:
    def test_by_hand(self):
        image = np.repeat(np.array([[10, 10, 20, 30]], np.uint8)[..., None], 3, axis=2)
        target = np.repeat(np.array([[100, 100, 100, 200]], np.uint8)[..., None], 3, axis=2)
        result = style.transfer_histogram(image, style.measure_cdf(target))
        assert result[0, :, 0].tolist() == [100, 100, 100, 200]

    @given(st.integers(0, 2**16))
    @settings(max_examples=20, deadline=None)
    def test_the_distributions_match(self, seed):
        # Every value of the source maps to a value of the target whose share below is as large.
        image, target = smooth(seed), smooth(seed + 1, (80, 90), 0, 255)
        result = style.measure_cdf(style.transfer_histogram(image, style.measure_cdf(target)))
        wanted = style.measure_cdf(target)
        largest_step = np.diff(style.measure_cdf(image), axis=1).max()
        assert np.abs(result - wanted).max() <= largest_step + 1e-5

    def test_own_histogram_changes_nothing(self):
        image = smooth(3)
        assert np.array_equal(style.transfer_histogram(image, style.measure_cdf(image)), image)

    def test_blend_zero_changes_nothing(self):
        image, target = smooth(3), style.measure_cdf(smooth(4))
        assert np.array_equal(style.transfer_histogram(image, target, 0.0), image)

    def test_order_of_values_is_kept(self):
        ramp = np.repeat(np.arange(256, dtype=np.uint8)[None, :, None], 3, axis=2)
        result = style.transfer_histogram(ramp, style.measure_cdf(smooth(4)))
        assert (np.diff(result[0, :, 0].astype(int)) >= 0).all()


class TestBands:
    def test_own_bands_change_nothing(self):
        image = smooth(1, (45, 61))
        result = style.transfer_bands(image, style.measure_bands(image, 3))
        assert np.abs(result.astype(int) - image).max() <= 1

    def test_mean_is_the_target_s_and_sharpness_moves_towards_it(self):
        image = smooth(1, (64, 96))
        target = cv2.GaussianBlur(smooth(2, (64, 96), 80, 150), (0, 0), 2)
        result = style.transfer_bands(image, style.measure_bands(target, 3))
        assert np.allclose(style.measure_lab(result)[0], style.measure_lab(target)[0], atol=1.5)
        fine = [style.measure_bands(picture, 3)[0, 1, 0] for picture in (image, result, target)]
        assert fine[1] == pytest.approx(fine[2], abs=0.15 * float(fine[0] - fine[2]))

    def test_pictures_smaller_than_the_pyramid(self):
        image = smooth(1, (5, 4))
        target = style.measure_bands(image, 6)
        assert np.abs(style.transfer_bands(image, target).astype(int) - image).max() <= 1


@pytest.fixture(scope='module')
def target_folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp('target')
    (folder / 'inside').mkdir()
    for place, name in enumerate(('a.png', 'inside/b.jpg', 'c.png')):
        cv2.imwrite(str(folder / name), smooth(10 + place, low=10, high=110))
    (folder / 'notes.txt').write_text('no image')
    return folder


@pytest.mark.parametrize('cls', TRANSFERS)
class TestTransforms:
    def config(self, cls, folder, **options):
        entry = {'name': cls.__name__, 'target': str(folder), 'p': 1.0, **options}
        return PipelineConfig(kind='pipeline', transforms=(entry,))

    def test_views_look_like_the_target_and_labels_stay(self, cls, target_folder, spec):
        image = smooth(1, low=120, high=240)
        labels = np.arange(48 * 64).reshape(48, 64).astype(np.uint8) % 7
        far = {'beta_range': [0.04, 0.04]} if cls is FourierAdaptation else {'blend_range': [1, 1]}
        config = self.config(cls, target_folder, **far)
        view, result = create_augmentation(config, (48, 64), spec)(
            image, labels, np.random.default_rng(0)
        )
        assert np.array_equal(result, labels)
        assert abs(view.mean() - 60) < 15

    def test_each_draw_takes_one_of_the_targets(self, cls, target_folder, spec):
        far = {'beta_range': [0.04, 0.04]} if cls is FourierAdaptation else {'blend_range': [1, 1]}
        augmentation = create_augmentation(self.config(cls, target_folder, **far), (48, 64), spec)
        image, labels = smooth(1), np.zeros((48, 64), np.uint8)
        views = [augmentation(image, labels, np.random.default_rng(n))[0] for n in range(25)]
        assert len({view.tobytes() for view in views}) == 3

    def test_frames_are_measured_once_and_kept_small(self, cls, target_folder):
        transform = cls(target_folder, max_targets=2)
        assert len(transform._styles) == 2
        assert sum(item.nbytes for item in transform._styles) < 10_000

    def test_a_folder_without_images(self, cls, tmp_path, spec):
        config = self.config(cls, tmp_path)  # may be written before the folder is there
        with pytest.raises(ConfigError, match='no images; expected a folder with'):
            create_augmentation(config, (48, 64), spec)
        with pytest.raises(ConfigError, match='no folder'):
            create_augmentation(self.config(cls, tmp_path / 'x'), (48, 64), spec)

    def test_a_broken_target(self, cls, tmp_path, spec):
        (tmp_path / 'broken.png').write_bytes(b'not a picture')
        with pytest.raises(ConfigError, match=r'broken\.png'):
            create_augmentation(self.config(cls, tmp_path), (48, 64), spec)

    def test_bad_options(self, cls, target_folder):
        name = 'beta_range' if cls is FourierAdaptation else 'blend_range'
        with pytest.raises(ValueError, match=f'got {name} .*expected 0 <= low <= high'):
            self.config(cls, target_folder, **{name: [0.5, 0.2]})
        with pytest.raises(ValueError, match="did you mean 'target'"):
            PipelineConfig('pipeline', None, ({'name': cls.__name__, 'targett': 'x'},))
        with pytest.raises(ValueError, match='target; Field required'):
            PipelineConfig('pipeline', None, ({'name': cls.__name__},))
