import pickle

import numpy as np
import pytest

albumentations = pytest.importorskip('albumentations')


def rng(*seed):
    return np.random.default_rng(seed or 0)


class TestDraws:
    def test_frames_are_not_written_to(self, build, only, frame):
        # ``frame`` is read-only: writing would raise.
        dark = only('RandomBrightnessContrast')
        build(only('Rotate'), dark)(*frame, rng())

    def test_each_transform_draws_for_itself(self, build):
        image = np.full((64, 96, 3), 100, np.uint8)
        image[:, :48] = 50
        labels = np.zeros((64, 96), np.uint8)
        half = {'name': 'HorizontalFlip', 'p': 0.5}
        lighter = {'name': 'RandomBrightnessContrast', 'brightness_limit': [0.2, 0.2], 'p': 0.5}
        lighter['contrast_limit'] = [0, 0]
        augmentation = build(half, lighter)
        counts = np.zeros((2, 2))
        for n in range(400):
            view = augmentation(image, labels, rng(n))[0]
            flipped = view[0, 0, 0] > view[0, -1, 0]
            counts[int(flipped), int(view.max() > 100)] += 1
        assert (counts > 70).all()  # 100 each if independent

    def test_strength_raises_probabilities(self, build):
        image = np.full((64, 96, 3), 100, np.uint8)
        image[:, :48] = 50
        labels = np.zeros((64, 96), np.uint8)
        never = {'name': 'VerticalFlip', 'p': 0.0}
        always = {'name': 'NoOp', 'p': 1.0}

        def share(strength):
            rare = {'name': 'HorizontalFlip', 'p': 0.2}
            augmentation = build(never, always, rare, strength=strength)
            views = [augmentation(image, labels, rng(n))[0] for n in range(400)]
            return np.mean([view[0, 0, 0] == 100 for view in views])

        assert share(0.0) == 0
        assert share(1.0) == pytest.approx(0.2, abs=0.06)
        assert share(3.0) == pytest.approx(1 - 0.8**3, abs=0.07)

    def test_strength_keeps_the_weights_of_alternatives(self, build):
        image = np.full((64, 96, 3), 100, np.uint8)
        labels = np.zeros((64, 96), np.uint8)

        def shift(value, p):
            limits = {'brightness_limit': [value, value], 'contrast_limit': [0, 0]}
            return {'name': 'RandomBrightnessContrast', **limits, 'p': p}

        choice = {'name': 'OneOf', 'p': 0.5, 'transforms': [shift(0.2, 0.9), shift(-0.2, 0.1)]}
        augmentation = build(choice, strength=4.0)
        values = np.array(
            [int(augmentation(image, labels, rng(n))[0][0, 0, 0]) for n in range(400)]
        )
        assert np.mean(values != 100) == pytest.approx(1 - 0.5**4, abs=0.04)
        assert np.mean(values[values != 100] > 100) == pytest.approx(0.9, abs=0.06)

    def test_a_pickled_copy_draws_the_same(self, build, only, frame):
        zoom = only('RandomZoom')
        augmentation = build(zoom, only('Rotate'), only('GaussNoise'), only('DustHaze'))
        copy = pickle.loads(pickle.dumps(augmentation))
        for seed in range(15):
            first, second = augmentation(*frame, rng(seed)), copy(*frame, rng(seed))
            for a, b in zip(first, second, strict=True):
                assert np.array_equal(a, b)

    @pytest.mark.parametrize(
        ('image', 'labels', 'expected'),
        [
            (np.zeros((8, 8, 3), np.float32), np.zeros((8, 8), np.uint8), 'float32'),
            (np.zeros((8, 8), np.uint8), np.zeros((8, 8), np.uint8), r'expected \(8, 8, 3\)'),
            (np.zeros((8, 8, 3), np.uint8), np.zeros((8, 9), np.uint8), r'expected \(8, 9, 3\)'),
            (np.zeros((8, 8, 3), np.uint8), np.zeros((8, 8), np.int64), 'int64'),
        ],
    )
    def test_bad_frames(self, build, only, image, labels, expected):
        with pytest.raises(ValueError, match=expected):
            build(only('NoOp'))(image, labels, rng())
