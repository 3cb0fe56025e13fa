import cv2
from hypothesis import given, settings
from hypothesis import strategies as st
import numpy as np
import pytest

from offroad_seg_core.datasets.analysis.facts import (
    ImageFacts,
    LabelFacts,
    _halve,
    measure_image,
    measure_label,
    perceptual_hash,
)
from offroad_seg_core.datasets.analysis.features import describe_image
from offroad_seg_core.datasets.masks import DatasetError


def scene(seed, size=(270, 480)):
    """Return a smooth random picture."""
    rng = np.random.default_rng(seed)
    small = rng.integers(0, 256, (6, 9, 3), np.uint8)
    return cv2.resize(small, size[::-1], interpolation=cv2.INTER_CUBIC)


def bits_between(a, b):
    return (a ^ b).bit_count()


class TestImages:
    @settings(max_examples=20, deadline=None)
    @given(st.integers(1, 700), st.integers(1, 400), st.integers(0, 9), st.sampled_from([2, 256]))
    def test_sums_are_exact(self, tmp_path_factory, height, width, seed, brightest):
        image = np.random.default_rng(seed).integers(0, brightest, (height, width, 3), np.uint8)
        path = tmp_path_factory.mktemp('sums') / 'a.png'
        cv2.imwrite(str(path), image[..., ::-1])
        facts = measure_image(path)
        flat = image.reshape(-1, 3).astype(np.int64)
        assert facts.size == (height, width)
        assert facts.sums == tuple(flat.sum(0))
        assert facts.square_sums == tuple((flat**2).sum(0))

    def test_packed_and_unpacked(self, make_frame):
        facts = measure_image(make_frame('a').image)
        again = ImageFacts.unpack(facts.pack())
        assert again[:5] == facts[:5]
        assert np.array_equal(again.features, facts.features)

    def test_features_of_the_halved_image_are_those_of_the_whole(self):
        for size in ((1200, 1920), (541, 963), (270, 480), (100, 900)):
            image = scene(1, size)
            assert np.array_equal(describe_image(_halve(image)), describe_image(image))


class TestPerceptualHash:
    @pytest.mark.parametrize('seed', range(5))
    def test_recompressed_resized_and_darker(self, seed):
        image = scene(seed)
        packed = cv2.imencode('.jpg', cv2.resize(image, (300, 200)), [1, 60])[1]
        darker = cv2.convertScaleAbs(cv2.imdecode(packed, 1), alpha=0.6)
        assert bits_between(perceptual_hash(image), perceptual_hash(darker)) <= 6

    def test_other_pictures_are_far(self):
        hashes = [perceptual_hash(scene(seed)) for seed in range(20)]
        assert min(bits_between(a, b) for a in hashes for b in hashes if a != b) >= 14
        assert all(value.bit_count() == 32 for value in hashes)


class TestLabels:
    def test_counted(self, make_frame, raw, reader):
        facts = measure_label(make_frame('a', label=raw(v100=5, v7000=3)).label, reader)
        assert facts.size == (8, 10)
        assert facts.values.tolist() == [0, 100, 7000]
        assert facts.counts.tolist() == [72, 5, 3]
        assert facts.instances is None

    def test_instances_within_each_value(self, make_frame, raw, reader):
        ids = np.zeros((8, 10), np.uint16)
        ids.ravel()[:8] = [1, 1, 2, 0, 0, 700, 700, 700]  # of 100: 1, 2 and none; of 7000: 700
        files = make_frame('a', label=raw(v100=5, v7000=3), instances=ids)
        facts = measure_label(files.label, reader, files.instances)
        assert facts.instances.tolist() == [0, 2, 1]
        again = LabelFacts.unpack(facts.pack())
        assert again.size == facts.size
        assert all(np.array_equal(a, b) for a, b in zip(again[1:], facts[1:], strict=True))

    def test_packed_without_instances(self, make_frame, raw, reader):
        facts = measure_label(make_frame('a', label=raw(v100=80)).label, reader)
        facts = LabelFacts.unpack(facts.pack())
        assert facts.counts.tolist() == [80]
        assert facts.instances is None

    def test_instances_of_another_size(self, make_frame, raw, reader):
        files = make_frame('a', label=raw(v100=5), instances=np.zeros((8, 9), np.uint8))
        with pytest.raises(DatasetError, match=r'got shape \(8, 9\), expected \(8, 10\)'):
            measure_label(files.label, reader, files.instances)
