"""What is kept of an answer, and that it is warped as the frame is."""

from hypothesis import given, settings
from hypothesis import strategies as st
import numpy as np
import pytest

torch = pytest.importorskip('torch')
from torch.nn import functional  # noqa: E402

from offroad_seg_core.datasets.augmentation import create_augmentation  # noqa: E402
from offroad_seg_core.datasets.augmentation.mixing import MixConfig  # noqa: E402
from offroad_seg_core.datasets.augmentation.photometric import PhotometricConfig  # noqa: E402
from offroad_seg_core.datasets.augmentation.pipeline import PipelineConfig  # noqa: E402
from offroad_seg_core.datasets.augmentation.views import ViewsConfig  # noqa: E402
from offroad_seg_core.datasets.loading import TrainingViews, ViewOptions  # noqa: E402
from offroad_seg_core.datasets.masks import DatasetError  # noqa: E402
from offroad_seg_core.distillation.soft_labels import (  # noqa: E402
    ClassSet,
    SoftLabelReader,
    SoftLabels,
)
from offroad_seg_core.inference.manifest import InputSpec  # noqa: E402

FRAME, STRIDE = (48, 64), 8
FIVE = ClassSet(5, (0, 1, 2, 3, 4))


def random_probs(seed, size=FRAME, num_classes=5):
    """Return (C, h, w) probabilities that vary slowly, as a network's do."""
    rng = np.random.default_rng(seed)
    coarse = torch.from_numpy(rng.normal(0, 3, (1, num_classes, 6, 8)))
    logits = functional.interpolate(coarse, size, mode='bicubic', align_corners=False)
    return logits.softmax(dim=1)[0].float().numpy()


def stored(probs, **options):
    options = {'top_k': 255, 'storage': 'float16', 'classes': FIVE} | options
    return SoftLabels.of(probs, FRAME, **options)


class TestStorage:
    PROBS = np.array([0.5, 0.25, 0.01, 0.21, 0.03], np.float32).reshape(5, 1, 1)

    def test_the_likeliest_classes_and_the_rest_by_hand(self):
        labels = stored(self.PROBS, top_k=2)
        assert labels.top.ravel().tolist() == [0, 1]
        assert labels.values.dtype == np.float16
        assert labels.values.ravel().tolist() == pytest.approx([0.5, 0.25, 0.25], abs=1e-3)
        expected = [0.5, 0.25, 0.25 / 3, 0.25 / 3, 0.25 / 3]
        assert labels.dense().ravel().tolist() == pytest.approx(expected, abs=1e-3)

    def test_eight_bits_are_on_a_square_root_scale(self):
        labels = stored(self.PROBS, top_k=4, storage='uint8')
        assert labels.values.dtype == np.uint8
        roots = 255 * np.sqrt([0.5, 0.25, 0.21, 0.03, 0.01 - 1e-6])
        assert labels.values.ravel().tolist() == np.rint(roots).tolist()
        assert labels.top.ravel().tolist() == [0, 1, 3, 4]
        np.testing.assert_allclose(labels.dense(), self.PROBS, atol=0.004)

    def test_the_rest_goes_to_classes_that_the_teachers_know(self):
        probs = self.PROBS.copy()
        probs[2] = 0
        probs /= probs.sum()
        labels = stored(probs, top_k=1, classes=ClassSet(5, (0, 1, 3, 4)))
        rest = (1 - probs[0, 0, 0]) / 3
        expected = [probs[0, 0, 0], rest, 0, rest, rest]
        assert labels.dense().ravel().tolist() == pytest.approx(expected, abs=1e-3)
        assert ClassSet(5, (0, 1, 3, 4)).mask.tolist() == [True, True, False, True, True]

    @pytest.mark.parametrize('storage', ['uint8', 'float16'])
    def test_silence_stays_silence(self, storage):
        probs = random_probs(0)
        probs[:, 5:9] = 0
        dense = stored(probs, top_k=3, storage=storage).dense()
        assert (dense[:, 5:9] == 0).all()
        np.testing.assert_allclose(dense[:, 9:].sum(axis=0), 1, atol=1e-5)

    @given(st.integers(0, 10**6), st.integers(1, 6), st.sampled_from(['uint8', 'float16']))
    @settings(max_examples=40, deadline=None)
    def test_no_more_is_lost_than_promised(self, seed, top_k, storage):
        rng = np.random.default_rng(seed)
        probs = rng.dirichlet(np.full(5, 0.3), (3, 4)).transpose(2, 0, 1).astype(np.float32)
        dense = stored(probs, top_k=top_k, storage=storage).dense()
        order = np.sort(probs, axis=0)[::-1]
        np.testing.assert_allclose(dense.sum(axis=0), 1, atol=1e-5)
        # The kept ones are exact up to rounding, the others up to their own size.
        lost = order[top_k] if top_k < 5 else 0
        assert (np.abs(dense - probs).max(axis=0) <= 0.008 + lost).all()
        sure = order[0] - order[1] > 0.02
        assert (dense.argmax(axis=0) == probs.argmax(axis=0))[sure].all()

    def test_file_round_trip(self, tmp_path):
        labels = stored(random_probs(1), top_k=3, storage='uint8')
        labels.write(tmp_path / 'a.npz')
        again = SoftLabels.read(tmp_path / 'a.npz', FIVE)
        assert np.array_equal(again.top, labels.top)
        assert np.array_equal(again.values, labels.values)
        assert again.frame_size == FRAME
        assert [path.name for path in tmp_path.iterdir()] == ['a.npz']

    @pytest.mark.parametrize('damage', [b'', b'no archive', None])
    def test_damaged_files_are_named(self, tmp_path, damage):
        path = tmp_path / 'a.npz'
        stored(random_probs(1)).write(path)
        data = path.read_bytes()
        path.write_bytes(data[: len(data) // 2] if damage is None else damage)
        with pytest.raises(DatasetError, match=r'a\.npz: cannot be read as soft labels.*delete'):
            SoftLabels.read(path, FIVE)


class TestLabelMap:
    def test_by_hand(self):
        probs = np.zeros((5, 2, 2), np.float32)
        probs[1, 0] = [0.9, 0.6]
        probs[4, 0] = [0.1, 0.4]
        probs[3, 1, 0] = 1  # the last pixel is silent
        labels = SoftLabels.of(probs, (2, 2), FIVE, 255, 'float16')
        assert labels.label_map(0.0).tolist() == [[1, 1], [3, 255]]
        assert labels.label_map(0.7).tolist() == [[1, 255], [3, 255]]

    def test_is_interpolated_to_the_frame(self):
        probs = random_probs(2, (12, 16))
        planes = functional.interpolate(
            torch.from_numpy(probs)[None], FRAME, mode='bilinear', align_corners=False
        )[0].numpy()
        found = stored(probs).label_map(0.6)
        ordered = np.sort(planes, axis=0)
        clear = (ordered[-1] - ordered[-2] > 1e-2) & (np.abs(ordered[-1] - 0.6) > 1e-2)
        expected = np.where(planes.max(axis=0) < 0.6, 255, planes.argmax(axis=0))
        assert np.array_equal(found[clear], expected[clear])
        assert clear.mean() > 0.8


def shrink(planes, stride=STRIDE):
    """Return planes (C, H, W) at the middle of every block, interpolated by PyTorch."""
    size = tuple(side // stride for side in planes.shape[1:])
    planes = torch.from_numpy(np.ascontiguousarray(planes))[None]
    return functional.interpolate(planes, size, mode='bilinear', align_corners=False)[0].numpy()


def place_image():
    """Return an image and a label map that tell where each pixel is."""
    y, x = np.mgrid[: FRAME[0], : FRAME[1]]
    return np.stack([3 * x, 5 * y, 0 * x], axis=-1).astype(np.uint8), (x // 16).astype(np.uint8)


class TestWarps:
    """The soft labels of a view are the teacher's full answer under the view's own warp."""

    @pytest.fixture
    def read(self, tmp_path):
        """Return the full answer, and what reads it for a view."""
        probs = random_probs(7)
        labels = stored(probs)
        labels.write(tmp_path / 'frame.npz')
        return probs, SoftLabelReader([tmp_path / 'frame.npz'], FIVE, STRIDE)

    @staticmethod
    def view(config, crop_size, seed=0):
        spec = InputSpec(size=FRAME, mean=(0, 0, 0), std=(1, 1, 1), stride=8)
        augmentation = create_augmentation(config, crop_size, spec)
        return augmentation.trace(*place_image(), np.random.default_rng(seed))

    @staticmethod
    def still(**options):
        return ViewsConfig(
            **{
                'scale_range': (1.0, 1.0),
                'rotation_deg': 0.0,
                'flip_probability': 0.0,
                'max_class_share': 1.0,
                'photometric': PhotometricConfig(strength=0.0),
                **options,
            }
        )

    @pytest.mark.parametrize('seed', range(3))
    def test_shifted_crop(self, read, seed):
        probs, reader = read
        crop = {'name': 'RandomCrop', 'height': 24, 'width': 32}
        config = PipelineConfig('pipeline', transforms=(crop,))
        image, _, origins = self.view(config, (24, 32), seed)
        x, y = image[0, 0, 0] // 3, image[0, 0, 1] // 5  # the image says where it was cut
        assert (x, y) != (0, 0)
        expected = shrink(probs[:, y : y + 24, x : x + 32])
        found = reader(0, origins)
        assert found.shape == (3, 4, 5)
        np.testing.assert_allclose(found.transpose(2, 0, 1), expected, atol=2e-3)

    def test_a_shift_by_parts_of_a_pixel(self, read):
        probs, reader = read
        image, _, origins = self.view(self.still(), (24, 32), seed=3)
        x, y = image[0, 0, 0] / 3, image[0, 0, 1] / 5
        # A grid of PyTorch runs from -1 to 1 over the outer rims of the frame.
        columns = (x + np.arange(32) + 0.5) / 64 * 2 - 1
        rows = (y + np.arange(24) + 0.5) / 48 * 2 - 1
        grid = torch.from_numpy(np.stack(np.meshgrid(columns, rows), axis=-1)).float()
        full = functional.grid_sample(
            torch.from_numpy(probs)[None], grid[None], align_corners=False
        )
        np.testing.assert_allclose(
            reader(0, origins).transpose(2, 0, 1), shrink(full[0].numpy()), atol=0.02
        )

    # A pipeline that halves a frame takes every second pixel: labels, and so origins, are half a
    # pixel of the frame off.
    @pytest.mark.parametrize(
        ('kind', 'zoom'),
        [('views', 0.5), ('views', 1.0), ('views', 2.0), ('pipeline', 1.0), ('pipeline', 2.0)],
    )
    @pytest.mark.parametrize('flip', [0.0, 1.0])
    def test_mirrored_and_scaled(self, read, zoom, flip, kind):
        probs, reader = read
        crop = tuple(round(zoom * side) for side in FRAME)  # all of the scaled frame
        if kind == 'views':
            config = self.still(scale_range=(zoom, zoom), flip_probability=flip)
        else:
            scale = {'name': 'RandomZoom', 'fit_size': 'input_size', 'scale_range': [zoom, zoom]}
            mirror = {'name': 'HorizontalFlip', 'p': flip}
            config = PipelineConfig('pipeline', transforms=(scale, mirror))
        _, labels, origins = self.view(config, crop)
        assert labels[0, 0] == (3 if flip else 0)
        answer = probs[:, :, ::-1] if flip else probs
        size = tuple(side // STRIDE for side in crop)
        expected = functional.interpolate(
            torch.from_numpy(answer.copy())[None], size, mode='bilinear', align_corners=False
        )[0].numpy()
        np.testing.assert_allclose(reader(0, origins).transpose(2, 0, 1), expected, atol=2e-3)

    def test_turned(self, read):
        probs, reader = read
        config = PipelineConfig(
            'pipeline', transforms=({'name': 'Transpose', 'p': 1.0},)
        )  # rows become columns
        _, _, origins = self.view(config, (64, 48))
        found = reader(0, origins).transpose(2, 0, 1)
        np.testing.assert_allclose(found, shrink(probs.transpose(0, 2, 1)), atol=2e-3)

    def test_nothing_is_said_outside_of_the_frame(self, read):
        probs, reader = read
        origins = np.full((48, 64, 2), np.nan, np.float32)
        origins[:, 20:] = np.stack(np.meshgrid(np.arange(44), np.arange(48)), axis=-1)
        found = reader(0, origins)
        assert (found[:, :2] == 0).all()
        # Of the third column of blocks half shows the frame: its pixels 0 to 3.
        expected = probs[:, 3:5, 1:3].mean(axis=(1, 2))
        np.testing.assert_allclose(found[0, 2], expected, atol=2e-3)
        np.testing.assert_allclose(found.sum(axis=-1)[:, 2:], 1, atol=2e-3)

    def test_mixed_views_have_both_answers(self, tmp_path):
        """Over all of a batch: paths by frame, mixing, and nothing where labels were pasted."""
        spec = InputSpec(size=FRAME, mean=(0, 0, 0), std=(1, 1, 1), stride=8)
        paths = []
        for index in range(2):
            paths.append(tmp_path / f'{index}.npz')
            probs = np.zeros((5, 6, 8), np.float32)
            probs[index] = 1  # the teacher tells the frames apart
            stored(probs).write(paths[-1])

        class Frames:
            def __len__(self):
                return 2

            def read(self, index):
                return np.full((*FRAME, 3), 100 * index, np.uint8), np.full(FRAME, index, np.uint8)

        options = ViewOptions(
            soft_labels=SoftLabelReader(paths, FIVE, STRIDE),
            mix=MixConfig('cutmix', probability=1.0),
        )
        views = TrainingViews(Frames(), FRAME, spec, self.still(), 3, options)
        for index, view in enumerate(views.__getitems__([(0, 0), (0, 1)])):
            labels = view['target'].numpy()
            assert set(np.unique(labels)) == {0, 1}
            shares = (labels != index).reshape(6, STRIDE, 8, STRIDE).mean(axis=(1, 3))
            soft = view['soft'].numpy()
            np.testing.assert_allclose(soft[..., 1 - index], shares, atol=2e-3)
            np.testing.assert_allclose(soft[..., index], 1 - shares, atol=2e-3)
