"""Calibration frames: from folders and bags, spread evenly, and doubted where they are poor."""

import logging

import cv2
import numpy as np
import pytest

from offroad_seg_core.bags.library import zstd
from offroad_seg_core.bags.reading import BagError
from offroad_seg_core.bags.writing import Header, MessageBag
from offroad_seg_core.datasets.frames import FrameFiles, FrameSet
from offroad_seg_core.datasets.masks import MaskReader
from offroad_seg_core.evaluation.sources.frame import SourceError
from offroad_seg_core.inference.manifest import InputSpec
from offroad_seg_core.quantization.calibration import largest_scene, load_calibration
from offroad_seg_core.taxonomy import load_taxonomy

SPEC = InputSpec(size=(64, 96), mean=(127.5,) * 3, std=(127.5,) * 3, stride=4)


def test_a_folder_of_many_scenes(pictures, caplog):
    found = load_calibration(pictures, SPEC)
    assert found.images.shape == (36, 64, 96, 3)
    assert found.warnings == ()
    assert not [r for r in caplog.records if r.levelno >= logging.WARNING]
    first = cv2.imread(str(pictures / '000.png'))[..., ::-1]
    np.testing.assert_array_equal(found.images[0], first)
    (batch,) = found.batches(SPEC, 1)
    expected = ((first.astype(np.float32) - 127.5) / 127.5).transpose(2, 0, 1)
    np.testing.assert_allclose(batch[0], expected, atol=1e-6)
    assert len(found.batches(SPEC)) == 36


def test_frames_are_spread_over_the_folder(pictures):
    found = load_calibration(pictures, SPEC, max_frames=4)
    wanted = [cv2.imread(str(pictures / f'{n:03}.png'))[..., ::-1] for n in (0, 12, 23, 35)]
    np.testing.assert_array_equal(found.images, wanted)


def test_frames_that_accuracy_is_measured_on_are_told(pictures, tmp_path, caplog):
    calibration = load_calibration(pictures, SPEC)
    label = tmp_path / 'label.png'
    cv2.imwrite(str(label), np.zeros((64, 96), np.uint8))
    other = tmp_path / 'other.png'
    cv2.imwrite(str(other), np.full((64, 96, 3), 99, np.uint8))
    taxonomy = load_taxonomy('falcon10')

    def frames(*images):
        files = [FrameFiles(image, label, 'here') for image in images]
        return FrameSet(files, taxonomy, MaskReader(taxonomy, 'class_ids'), 'test')

    assert calibration.held_against(frames(other), SPEC) is calibration
    (warning,) = calibration.held_against(frames(pictures / '003.png', other), SPEC).warnings
    assert '1 of 2 frames that accuracy is measured on are calibration frames' in warning
    assert warning in caplog.text


def test_few_frames_are_doubted(pictures, caplog):
    found = load_calibration(pictures, SPEC, max_frames=31)
    (warning,) = found.warnings
    assert 'got 31 calibration frames, expected 32 or more' in warning
    assert warning in caplog.text


def test_one_scene_is_doubted(tmp_path, caplog):
    rng = np.random.default_rng(0)
    scene = cv2.resize(rng.integers(0, 256, (8, 12, 3), np.uint8), (200, 100))
    for index in range(40):  # a slow drive through it, and one frame of elsewhere
        view = scene[:64, index : index + 96] if index else scene[::-1][:64, :96] // 4
        cv2.imwrite(str(tmp_path / f'{index:02}.png'), view)
    (warning,) = load_calibration(tmp_path, SPEC).warnings
    assert 'nearly all 40 calibration frames show one scene' in warning
    assert 'other places and hours' in caplog.text


def test_a_bag_of_two_cameras(tmp_path):
    with MessageBag(tmp_path / 'drive') as bag:
        for index in range(8):
            for camera, red in (('front', 20 * index), ('left', 255)):
                pixels = np.full((32, 48, 3), (red, 10, 20), np.uint8)
                topic = f'/{camera}/image_raw'
                bag.write_image(topic, 10 * index, Header(10 * index), pixels, 'rgb8')
    found = load_calibration(tmp_path / 'drive', SPEC)
    assert found.images.shape == (16, 64, 96, 3)
    assert sorted(found.images[:, 5, 5, 0]) == sorted([*range(0, 160, 20), *[255] * 8])
    assert (found.images[..., 1:] == (10, 20)).all()  # red is the first of rgb
    front = load_calibration(tmp_path / 'drive', SPEC, 3, ['/front/image_raw'])
    assert front.images[:, 5, 5, 0].tolist() == [0, 80, 140]
    with pytest.raises(BagError, match='/rear'):
        load_calibration(tmp_path / 'drive', SPEC, 3, ['/rear'])


def test_a_compressed_file_of_a_bag(tmp_path):
    with MessageBag(tmp_path / 'drive') as bag:
        pixels = np.full((32, 48, 3), 20, np.uint8)
        bag.write_image('/front/image_raw', 10, Header(10), pixels, 'rgb8')
    (file,) = (tmp_path / 'drive').glob('*.mcap')
    packed = tmp_path / 'drive_0.mcap.zstd'
    packed.write_bytes(zstd.compress(file.read_bytes()))
    assert len(load_calibration(packed, SPEC).images) == 1


def test_pictures_that_cannot_be_read(tmp_path):
    (tmp_path / 'a.png').write_bytes(b'nothing')
    with pytest.raises(SourceError, match='none of 1 frames can be decoded'):
        load_calibration(tmp_path, SPEC)
    cv2.imwrite(str(tmp_path / 'b.png'), np.zeros((4, 6, 3), np.uint8))
    found = load_calibration(tmp_path, SPEC)
    assert len(found.images) == 1
    assert '1 frames cannot be decoded' in found.warnings[0]
    with pytest.raises(SourceError, match='no such folder'):
        load_calibration(tmp_path / 'nowhere', SPEC)


@pytest.mark.parametrize(
    ('places', 'expected'),
    [([0], 1), ([0, 0.19, 0.38, 0.57], 4), ([0, 0.21, 0.42], 1), ([0, 1, 0.1, 1.1, 1.25], 3)],
)
def test_scenes_are_chains_of_near_frames(places, expected):
    assert largest_scene(np.array(places)[:, None]) == expected
