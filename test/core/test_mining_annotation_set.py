"""Pre-labels to CVAT and back, for every taxonomy, with pixels that have no label."""

from dataclasses import replace
import json
from pathlib import Path
import shutil
import zipfile

import cv2
import numpy as np
import pytest

from offroad_seg_core.datasets import load_dataset
from offroad_seg_core.mining.annotation_set import AnnotationSet, labelmap_text, reserve_black
from offroad_seg_core.taxonomy import list_taxonomies, load_taxonomy

SIZE = (24, 40)
CLASSES, OBJECTS = 'SegmentationClass', 'SegmentationObject'
ROWS, MIRRORED, NOTHING = 'front__rows', 'front__mirrored', 'front__nothing'


def labels_of(taxonomy):
    """Rows of every class and of 255, ``SIZE``; a class may be a few pixels only."""
    kinds = [*range(taxonomy.num_classes), 255]
    return np.resize(np.repeat(kinds, 7), SIZE).astype(np.uint8)


def write_set(folder, taxonomy, frames):
    written = AnnotationSet(folder, taxonomy)
    for name, label_map in frames.items():
        written.add(name, np.full((*label_map.shape, 3), 90, np.uint8), label_map)
    written.finish(folder)


def read_set(folder, taxonomy):
    frames = load_dataset(folder / 'data.yaml', [f'root={folder}']).frames('train', taxonomy)
    return {files.stem: frames.read(index)[1] for index, files in enumerate(frames.files)}


def picture(data):
    """Colours of a file, ``(H, W, 3)`` uint8 RGB."""
    return cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)[..., ::-1]


def equal_to(picture_rgb, color):
    return (picture_rgb == np.array(color)).all(axis=2)


def voc_color(index):
    """Colour of an object in Pascal VOC's files, by its development kit."""
    color = [0, 0, 0]
    for bit in range(8):
        for channel in range(3):
            color[channel] |= (index >> (3 * bit + channel) & 1) << (7 - bit)
    return tuple(color)


def cvat_import(folder):
    """Return what CVAT makes of the upload: frame name -> (label, mask) pairs.

    It pairs each object with the label below it, object 0 being none. Without objects each
    colour would be one, that of the background, too. A label that the task lacks is refused.
    """
    task = {entry['name'] for entry in json.loads((folder / 'cvat_labels.json').read_text())}
    drawn = {}
    with zipfile.ZipFile(folder / 'cvat_masks.zip') as archive:
        lines = archive.read('labelmap.txt').decode().splitlines()[1:]
        table = {line.split(':')[0]: [*map(int, line.split(':')[1].split(','))] for line in lines}
        assert len(table) == len(lines)
        for name in archive.read('ImageSets/Segmentation/default.txt').decode().split():
            classes = picture(archive.read(f'{CLASSES}/{name}.png'))
            objects = picture(archive.read(f'{OBJECTS}/{name}.png'))
            assert sum(equal_to(classes, color).sum() for color in table.values()) == 24 * 40
            assert sum(equal_to(objects, voc_color(i)).sum() for i in range(256)) == 24 * 40
            labelled = ~equal_to(objects, voc_color(0))
            masks = [(label, equal_to(classes, color)) for label, color in table.items()]
            drawn[name] = [(label, mask & labelled) for label, mask in masks]
            drawn[name] = [(label, mask) for label, mask in drawn[name] if mask.any()]
            assert {label for label, _ in drawn[name]} <= task
    return drawn


def cvat_export(drawn, folder):
    """Write CVAT's export over a folder: what nobody labelled is black, empty frames are not."""
    task = json.loads((folder / 'cvat_labels.json').read_text())
    colors = {entry['name']: tuple(bytes.fromhex(entry['color'][1:])) for entry in task}
    assert 'background' not in colors  # CVAT's own name for what nobody labelled
    assert (0, 0, 0) not in colors.values()
    shutil.rmtree(folder / CLASSES)
    (folder / CLASSES).mkdir()
    for name, annotations in drawn.items():
        canvas = np.zeros((*SIZE, 3), np.uint8)
        for label, mask in annotations:
            canvas[mask] = colors[label]
        if annotations:
            assert cv2.imwrite(str(folder / CLASSES / f'{name}.png'), canvas[..., ::-1])


@pytest.mark.parametrize('name', list_taxonomies())
def test_labels_come_back_from_cvat(name, tmp_path):
    taxonomy = load_taxonomy(name)
    labels = labels_of(taxonomy)
    frames = {
        ROWS: labels,
        MIRRORED: labels[::-1],
        NOTHING: np.full(SIZE, 255, np.uint8),
    }
    write_set(tmp_path / 'set', taxonomy, frames)
    exported = read_set(tmp_path / 'set', taxonomy)
    assert exported.keys() == frames.keys()
    for stem, label_map in frames.items():
        np.testing.assert_array_equal(exported[stem], label_map)

    drawn = cvat_import(tmp_path / 'set')
    assert drawn[NOTHING] == []
    assert len(drawn[ROWS]) == np.unique(labels[labels != 255]).size
    corrected = taxonomy.num_classes - 1
    drawn[MIRRORED] = [(reserve_black(taxonomy).names[corrected], np.tri(*SIZE, dtype=bool))]
    cvat_export(drawn, tmp_path / 'set')
    back = read_set(tmp_path / 'set', taxonomy)
    assert back.keys() == {ROWS, MIRRORED}
    np.testing.assert_array_equal(back[ROWS], labels)
    np.testing.assert_array_equal(back[MIRRORED], np.where(np.tri(*SIZE), corrected, 255))


@pytest.mark.parametrize('name', list_taxonomies())
def test_no_colour_twice_and_black_is_for_no_label(name):
    taxonomy = load_taxonomy(name)
    lines = labelmap_text(reserve_black(taxonomy)).splitlines()
    assert lines[:2] == ['# label:color_rgb:parts:actions', 'background:0,0,0::']
    colors = [line.split(':')[1] for line in lines[1:]]
    assert len(colors) == taxonomy.num_classes + 1 == len(set(colors))
    assert [line.split(':')[0] for line in lines[2:]] == list(taxonomy.names)


def test_only_a_black_class_gets_another_colour():
    forest, given = load_taxonomy('freiburg_forest'), (0, 0, 0)
    assert forest.classes[4].color_rgb == given
    changed = reserve_black(forest)
    assert changed.classes[4] == replace(forest.classes[4], color_rgb=(64, 64, 64))
    assert changed.ignored_colors == (given,)
    assert [*changed.classes[:4], changed.classes[5]] == [*forest.classes[:4], forest.classes[5]]


def test_the_grey_of_a_black_class_is_free():
    forest = load_taxonomy('freiburg_forest')
    dark = [replace(forest.classes[0], color_rgb=(64, 64, 64)), *forest.classes[1:]]
    changed = reserve_black(replace(forest, classes=tuple(dark)))
    assert changed.classes[0].color_rgb == (64, 64, 64)
    assert changed.classes[4].color_rgb == (65, 65, 65)


def test_a_class_may_be_called_background(tmp_path):
    forest = load_taxonomy('freiburg_forest')
    classes = [*forest.classes[:4], replace(forest.classes[4], name='background')]
    taxonomy = replace(forest, classes=tuple(classes), categories={})
    labels = labels_of(taxonomy)
    write_set(tmp_path, taxonomy, {ROWS: labels})
    cvat_export(cvat_import(tmp_path), tmp_path)
    np.testing.assert_array_equal(read_set(tmp_path, taxonomy)[ROWS], labels)


def test_objects_are_coloured_as_in_pascal_voc(tmp_path):
    taxonomy = load_taxonomy('falcon10')
    label_map = np.array([[0, 1, 2, 3], [7, 9, 255, 255]], np.uint8)
    write_set(tmp_path, taxonomy, {'frame': label_map})
    expected = [
        [(128, 0, 0), (0, 128, 0), (128, 128, 0), (0, 0, 128)],
        [(64, 0, 0), (64, 128, 0), (0, 0, 0), (0, 0, 0)],
    ]
    data = Path(tmp_path, OBJECTS, 'frame.png').read_bytes()
    np.testing.assert_array_equal(picture(data), np.array(expected))


@pytest.mark.parametrize('name', list_taxonomies())
def test_coco_has_no_region_of_pixels_without_a_label(name, tmp_path):
    taxonomy = load_taxonomy(name)
    labels = labels_of(taxonomy)
    frames = {ROWS: labels, NOTHING: np.full(SIZE, 255, np.uint8)}
    write_set(tmp_path, taxonomy, frames)
    document = json.loads((tmp_path / 'annotations' / 'instances_default.json').read_text())
    assert [entry['name'] for entry in document['categories']] == list(taxonomy.names)
    assert [entry['file_name'] for entry in document['images']] == [
        f'{ROWS}.png',
        f'{NOTHING}.png',
    ]
    read = np.full(labels.size, 255)
    for region in document['annotations']:
        assert region['image_id'] == 1
        counts = region['segmentation']['counts']
        mask = np.repeat(np.arange(len(counts)) % 2 == 1, counts)
        assert region['area'] == mask.sum()
        assert (read[mask] == 255).all()
        read[mask] = region['category_id'] - 1
    np.testing.assert_array_equal(read.reshape(SIZE, order='F'), labels)
