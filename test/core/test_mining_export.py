"""Hard frames on disk: read back as COCO tools, CVAT and training read them."""

import csv
from functools import partial
import json
import shutil
import zipfile

import cv2
import numpy as np
import pytest

from offroad_seg_core.bags.camera_images import FrameError
from offroad_seg_core.datasets import load_dataset
from offroad_seg_core.datasets.mask_writing import write_mask
from offroad_seg_core.evaluation.evaluate import Evaluation, evaluate
from offroad_seg_core.evaluation.outputs.labels import LabelFiles
from offroad_seg_core.evaluation.predictors import RecordedPredictor, SegmenterPredictor
from offroad_seg_core.evaluation.recorded_labels import with_map
from offroad_seg_core.evaluation.sources.combining import LabelledFrames
from offroad_seg_core.evaluation.sources.frame import CONFIDENCE, LABEL_MAP
from offroad_seg_core.evaluation.sources.pictures import PictureFrames
from offroad_seg_core.inference.segmenter import Segmenter
from offroad_seg_core.mining.annotation_set import reserve_black
from offroad_seg_core.mining.coco import coco_regions, run_lengths
from offroad_seg_core.mining.signals import FrameSignals
from offroad_seg_core.taxonomy import load_taxonomy

FALCON = load_taxonomy('falcon10')
SIZE = (64, 96)
NUM_SCENES = 4


def scene(seed):
    """Blocks of classes that the palette bundle labels exactly."""
    blocks = np.random.default_rng(seed).integers(0, 10, (4, 6)).astype(np.uint8)
    return np.kron(blocks, np.ones((16, 16), np.uint8))


@pytest.fixture(scope='module')
def result(palette_bundle, tmp_path_factory):
    """Of four scenes, each seen twice, six frames are wanted; the result and its output folder."""
    home = tmp_path_factory.mktemp('mining')
    (home / 'drive').mkdir()
    for index in range(2 * NUM_SCENES):
        image = FALCON.palette_bgr[scene(index // 2)]
        name = f'1700000000.{index * 100_000_000:09d}.png'
        cv2.imwrite(str(home / 'drive' / name), image)
    predictor = SegmenterPredictor(Segmenter.open(palette_bundle, 'onnxruntime', num_threads=1))
    evaluation = Evaluation(
        PictureFrames(home / 'drive'),
        predictor,
        home / 'out',
        sinks=(LabelFiles(), FrameSignals()),
        num_hard=6,
    )
    folder = evaluate(evaluation, lambda count: None)
    predictor.close()
    return folder


@pytest.fixture
def chosen(result):
    with open(result / 'hard_frames' / 'frames.csv', newline='') as stream:
        return list(csv.DictReader(stream))


def known_labels(result, row):
    path = result / 'labels' / row['camera'] / f'{row["name"]}.png'
    return cv2.imread(str(path), cv2.IMREAD_UNCHANGED)


def test_each_scene_is_chosen_once(result, chosen):
    with open(result / 'frames.csv', newline='') as stream:
        rows = {row['name']: row for row in csv.DictReader(stream)}
    assert len(rows) == 8
    hashes = [rows[row['name']]['image_hash'] for row in chosen]
    assert len(set(hashes)) == len(hashes) == NUM_SCENES
    assert chosen[0]['hardness'] == max(row['hardness'] for row in chosen)
    assert list(chosen[0])[-3:] == ['uncertainty', 'rarity', 'flicker']
    # The first frame of the drive has no frame before it.
    assert rows['1700000000.000000000']['flicker'] == ''
    # The second view of a scene is the first one again; a new scene is another place.
    assert float(rows['1700000000.100000000']['flicker']) == 0.0


def test_training_reads_the_set(result, chosen):
    frames = load_dataset(result / 'hard_frames' / 'data.yaml').frames('train', FALCON)
    by_image = {row['image']: row for row in chosen}
    assert {files.stem for files in frames.files} == set(by_image)
    assert {files.environment for files in frames.files} == {'pictures'}
    for index, files in enumerate(frames.files):
        row, (image, target) = by_image[files.stem], frames.read(index)
        np.testing.assert_array_equal(target, known_labels(result, row))
        seen = scene(int(row['name'].partition('.')[2][0]) // 2)
        np.testing.assert_array_equal(image, FALCON.palette_rgb[seen])


def test_training_reads_what_a_person_corrected(result, tmp_path):
    folder = shutil.copytree(result / 'hard_frames', tmp_path / 'mine')
    given = folder / 'data.yaml', [f'root={folder}']
    before = load_dataset(*given).frames('train', FALCON)
    corrected = before.read(0)[1].copy()
    corrected[:10] = FALCON.index('Rocks')
    corrected[10:20] = 255  # nobody can tell
    mask = folder / 'SegmentationClass' / f'{before.files[0].stem}.png'
    write_mask(mask, corrected, reserve_black(FALCON), 'colors')
    after = load_dataset(*given).frames('train', FALCON)
    np.testing.assert_array_equal(after.read(0)[1], corrected)
    np.testing.assert_array_equal(after.read(1)[1], before.read(1)[1])


def test_coco_tools_read_the_same_labels(result, chosen):
    coco = pytest.importorskip('pycocotools.coco', reason='pycocotools is not installed')
    read = coco.COCO(result / 'hard_frames' / 'annotations' / 'instances_default.json')
    names = {entry['id']: entry['name'] for entry in read.loadCats(read.getCatIds())}
    assert list(names.values()) == list(FALCON.names)
    by_file = {f'{row["image"]}.png': row for row in chosen}
    for image in read.loadImgs(read.getImgIds()):
        assert (image['height'], image['width']) == SIZE
        label_map = np.full(SIZE, 255, np.uint8)
        for annotation in read.loadAnns(read.getAnnIds(imgIds=image['id'])):
            mask = read.annToMask(annotation).astype(bool)
            assert annotation['area'] == mask.sum()
            label_map[mask] = FALCON.index(names[annotation['category_id']])
        np.testing.assert_array_equal(label_map, known_labels(result, by_file[image['file_name']]))


class Recorded:
    """Labels of scenes; a confidence that cannot be decoded."""

    notes = ()

    def attach(self, key, frames):
        for part, frame in frames:
            seed = int(frame.name.partition('.')[2][0]) // 2
            yield part, with_map(frame, key, partial(self.load, key, seed))

    def load(self, key, seed):
        if key == CONFIDENCE:
            raise FrameError('no confidence')
        return scene(seed)

    def identity(self):
        return {}


def test_a_confidence_that_is_no_good_is_done_without(result, tmp_path):
    pictures = PictureFrames(result.parent / 'drive')
    source = LabelledFrames(pictures, {LABEL_MAP: Recorded(), CONFIDENCE: Recorded()})
    predictor = RecordedPredictor(FALCON, FALCON.cost_table(), {'model': 'live'})
    evaluation = Evaluation(
        source, predictor, tmp_path / 'out', sinks=(FrameSignals(),), num_hard=NUM_SCENES
    )
    folder = evaluate(evaluation, lambda count: None)
    frames = load_dataset(folder / 'hard_frames' / 'data.yaml').frames('train', FALCON)
    seeds = {int(files.stem.partition('.')[2][0]) // 2 for files in frames.files}
    assert seeds == set(range(NUM_SCENES))
    for index, files in enumerate(frames.files):
        seed = int(files.stem.partition('.')[2][0]) // 2
        np.testing.assert_array_equal(frames.read(index)[1], scene(seed))


def test_cvat_finds_its_layout(result, chosen):
    folder = result / 'hard_frames'
    images = sorted(row['image'] for row in chosen)
    with zipfile.ZipFile(folder / 'cvat_masks.zip') as archive:
        listed = archive.read('ImageSets/Segmentation/default.txt').decode().split()
        colors = archive.read('labelmap.txt').decode()
        folders = ('SegmentationClass', 'SegmentationObject')
        masks = [f'{place}/{name}.png' for place in folders for name in images]
        others = ['ImageSets/Segmentation/default.txt', 'labelmap.txt']
        assert sorted(archive.namelist()) == sorted([*masks, *others])
    assert sorted(listed) == images
    assert colors.splitlines()[:3] == [
        '# label:color_rgb:parts:actions',
        'background:0,0,0::',
        'Trees:34,139,34::',
    ]
    labels = json.loads((folder / 'cvat_labels.json').read_text())
    assert labels[0] == {'name': 'Trees', 'color': '#228b22', 'attributes': []}
    assert sorted(path.stem for path in (folder / 'JPEGImages').iterdir()) == images


def test_run_lengths_by_hand():
    mask = np.array([[0, 1, 1], [0, 0, 1]], bool)  # columns: 00, 10, 11
    assert run_lengths(mask) == [2, 1, 1, 2]
    assert run_lengths(~mask) == [0, 2, 1, 1, 2]
    assert run_lengths(np.zeros((2, 2), bool)) == [4]
    assert run_lengths(np.ones((2, 2), bool)) == [0, 4]


def test_regions_by_hand():
    label_map = np.full((4, 5), 255, np.uint8)
    label_map[1:3, 2:5] = 7
    (region,) = coco_regions(label_map)
    assert (region['category_id'], region['area'], region['bbox']) == (8, 6, [2, 1, 3, 2])
    assert region['segmentation'] == {'size': [4, 5], 'counts': [9, 2, 2, 2, 2, 2, 1]}
    assert coco_regions(np.full((2, 2), 255, np.uint8)) == []
