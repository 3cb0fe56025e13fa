from dataclasses import replace
import json

import cv2
import numpy as np
import pytest

from offroad_seg_core.datasets.copy_paste import paste_set as writing
from offroad_seg_core.datasets.copy_paste.bank_building import BankConfig, build_bank
from offroad_seg_core.datasets.copy_paste.paste_set import (
    CopyPasteSetConfig,
    plan_images,
    write_copy_paste_set,
)
from offroad_seg_core.datasets.copy_paste.statistics import draw_contact_sheet, format_statistics
from offroad_seg_core.datasets.copy_paste.transform import PasteConfig
from offroad_seg_core.datasets.falcon import FalconConfig
from offroad_seg_core.datasets.folder import FolderConfig
from offroad_seg_core.datasets.masks import DatasetError, MaskReader, read_image
from offroad_seg_core.taxonomy import load_taxonomy

CONFIG = CopyPasteSetConfig(instances_per_image=2, target_tries=2, seed=3)


@pytest.fixture
def made(tmp_path, scene):
    return scene.make_bank(tmp_path)


def read_manifest(output):
    return [json.loads(line) for line in (output / 'manifest.jsonl').read_text().splitlines()]


def read_all(folder):
    files = sorted(path for path in folder.rglob('*') if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def test_each_object_gets_two_frames_and_never_its_own(made):
    frames, bank = made
    images = plan_images(frames, bank, replace(CONFIG, target_tries=1))
    assert [len(image.objects) for image in images] == [2, 1, 2, 1]
    for number, entry in enumerate(bank.entries):
        targets = [image.targets[0] for image in images if number in image.objects]
        assert len(targets) == 2
        assert len(set(targets)) == 2
        assert entry.source not in [frames.files[i].image.name for i in targets]


def test_frames_of_one_name_in_several_folders(tmp_path, scene):
    frames = scene.write_frames(tmp_path)
    for number, item in enumerate(frames.files):
        (tmp_path / f'track_{number}').mkdir()
        item.image.rename(tmp_path / f'track_{number}' / 'rgb.png')
    frames.files = tuple(
        replace(item, image=tmp_path / f'track_{number}' / 'rgb.png')
        for number, item in enumerate(frames.files)
    )
    bank = build_bank(frames, tmp_path / 'bank', scene.CONFIG)
    assert [entry.source for entry in bank.entries] == [f'track_{i}/rgb.png' for i in range(3)]
    # A part of the bank's frames, which has another common folder.
    for part, own in ((frames, {0: 0, 1: 1, 2: 2}), (frames.subset([2, 0]), {0: 1, 2: 0})):
        for seed in range(10):
            config = replace(CONFIG, target_tries=1, instances_per_image=1, seed=seed)
            for image in plan_images(part, bank, config)[:3]:
                assert image.targets[0] != own.get(image.objects[0])


def test_a_set_of_changed_frames_is_refused(made, tmp_path):
    frames, bank = made
    write_copy_paste_set(frames, bank, tmp_path / 'set', CONFIG)
    label = frames.files[0].label
    cv2.imwrite(str(label), cv2.imread(str(label), cv2.IMREAD_UNCHANGED) % 3)
    with pytest.raises(DatasetError, match='on other frames or with other options'):
        write_copy_paste_set(frames, bank, tmp_path / 'set', CONFIG)


def test_a_limit_for_each_class(made):
    images = plan_images(*made, replace(CONFIG, max_per_class=1))
    assert [len(image.objects) for image in images] == [1, 1]


def test_files_manifest_and_statistics_agree(made, tmp_path, scene):
    frames, bank = made
    output = tmp_path / 'set'
    statistics = write_copy_paste_set(frames, bank, output, CONFIG)
    records = read_manifest(output)
    written = FolderConfig('folder', output).frames('train', frames.taxonomy)
    assert len(written) == statistics['images_added'] == 4
    pixels, images = bank.class_pixels.copy(), bank.class_frames.copy()
    stones = 0
    names = {item.image.name: index for index, item in enumerate(frames.files)}
    by_stem = {item.stem: index for index, item in enumerate(written.files)}
    for record in records:
        target = frames.read(names[record['target']])
        image, labels = written.read(by_stem[record['image'][len('images/') : -len('.png')]])
        changed = labels != target[1]
        assert (labels[changed] == scene.STONE).all()
        counts = np.bincount(labels.ravel(), minlength=256)[:5]
        assert counts.tolist() == record['class_pixels']
        pixels += counts
        images += counts > 0
        stones += sum(item['pixels'] for item in record['objects'])
        far = ~cv2.dilate(changed.view(np.uint8), np.ones((9, 9))).astype(bool)
        np.testing.assert_array_equal(image[far], target[0][far])
    stone = statistics['classes']['stone']
    assert stone['pixels_before'] == bank.class_pixels[scene.STONE]
    assert stone['pasted_pixels'] == stones
    assert stone['pasted_objects'] == sum(len(record['objects']) for record in records)
    assert [row['pixels_after'] for row in statistics['classes'].values()] == pixels.tolist()
    assert [row['images_after'] for row in statistics['classes'].values()] == images.tolist()
    assert json.loads((output / 'statistics.json').read_text()) == statistics
    assert '4 images, 4 added' in format_statistics(statistics)


def test_the_seed_decides_everything(made, tmp_path):
    for name, seed in (('a', 3), ('b', 3), ('c', 4)):
        write_copy_paste_set(*made, tmp_path / name, replace(CONFIG, seed=seed))
    first, second, other = (read_all(tmp_path / name / 'train') for name in 'abc')
    assert first == second
    assert first != other


def test_a_stopped_run_goes_on_to_the_same_files(made, tmp_path, monkeypatch):
    write_copy_paste_set(*made, tmp_path / 'whole', CONFIG)
    write, output, calls = writing._write, tmp_path / 'stopped', []

    def stop_at_third(*arguments):
        if len(calls) == 2:
            raise KeyboardInterrupt
        calls.append(arguments[3].number)
        return write(*arguments)

    monkeypatch.setattr(writing, '_write', stop_at_third)
    with pytest.raises(KeyboardInterrupt):
        write_copy_paste_set(*made, output, CONFIG)
    with open(output / 'progress.jsonl', 'a') as stream:
        stream.write('[2, {"num')  # killed while it wrote
    next((output / 'train' / 'images').iterdir()).unlink()  # and a file was lost
    monkeypatch.setattr(writing, '_write', lambda *a: calls.append(a[3].number) or write(*a))
    write_copy_paste_set(*made, output, CONFIG)
    assert calls[:2] == [0, 1]
    assert len(calls) == 5
    assert {2, 3} < set(calls[2:])
    assert read_all(output / 'train') == read_all(tmp_path / 'whole' / 'train')
    assert read_manifest(output) == read_manifest(tmp_path / 'whole')


def test_other_options_in_the_same_folder_are_refused(made, tmp_path):
    write_copy_paste_set(*made, tmp_path / 'set', CONFIG)
    with pytest.raises(DatasetError, match=r'other frames or with other options; .* another one'):
        write_copy_paste_set(*made, tmp_path / 'set', replace(CONFIG, seed=9))


def test_objects_without_a_place_are_counted(made, tmp_path):
    config = replace(CONFIG, paste=PasteConfig(scale_range=(3.9, 4.0)))
    statistics = write_copy_paste_set(*made, tmp_path / 'set', config)
    assert (statistics['images_added'], statistics['objects_left_out']) == (0, 6)
    assert all(record['image'] is None for record in read_manifest(tmp_path / 'set'))
    stone = statistics['classes']['stone']
    assert stone['pixels_after'] == stone['pixels_before']


def test_jpeg_images(made, tmp_path):
    write_copy_paste_set(*made, tmp_path / 'set', replace(CONFIG, jpeg_quality=95))
    names = [path.suffix for path in (tmp_path / 'set' / 'train' / 'images').iterdir()]
    assert names == ['.jpg'] * 4
    assert all(record['image'].endswith('.jpg') for record in read_manifest(tmp_path / 'set'))


def test_labels_as_the_data_set_stores_them(made, tmp_path, scene):
    plain, colored = tmp_path / 'plain', tmp_path / 'colored'
    frames, bank = made
    labels = [np.where(frames.read(i)[1] == 255, scene.SKY, frames.read(i)[1]) for i in range(4)]
    for item, label_map in zip(frames.files, labels, strict=True):
        cv2.imwrite(str(item.label), label_map)  # this taxonomy has no colour for ignored pixels
    write_copy_paste_set(frames, bank, plain, CONFIG)
    write_copy_paste_set(frames, bank, colored, replace(CONFIG, mask_format='colors'))
    reader = MaskReader(frames.taxonomy, 'colors')
    for path in (plain / 'train' / 'labels').iterdir():
        expected = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
        np.testing.assert_array_equal(
            reader.read(colored / 'train' / 'labels' / path.name), expected
        )


def test_contact_sheet_shows_each_object(made, tmp_path):
    write_copy_paste_set(*made, tmp_path / 'set', CONFIG)
    records = read_manifest(tmp_path / 'set')
    num_objects = sum(len(record['objects']) for record in records)
    sheet = draw_contact_sheet(records, tmp_path / 'set' / 'train', num_tiles=48, columns=1)
    one = draw_contact_sheet(records[:1], tmp_path / 'set' / 'train', num_tiles=1, columns=1)
    margin = 6
    assert (sheet.shape[0] - margin) == num_objects * (one.shape[0] - margin)


def test_real_frames(falcon_root, tmp_path):
    """Objects of a real environment: banked, pasted, counted."""
    taxonomy = load_taxonomy('falcon10')
    frames = (
        FalconConfig('falcon', falcon_root, 'w0')
        .frames('validation', taxonomy)
        .subset(range(0, 46, 9))
    )
    bank = build_bank(frames, tmp_path / 'bank', BankConfig(('Flowers', 'Rocks')))
    assert set(bank.by_class) == {'Flowers', 'Rocks'}
    assert 'Landscape' in bank.profiles['Rocks'].support
    config = CopyPasteSetConfig(max_per_class=6, seed=1)
    statistics = write_copy_paste_set(frames, bank, tmp_path / 'set', config)
    assert statistics['images_added'] >= 4
    for record in read_manifest(tmp_path / 'set'):
        if record['image']:
            assert read_image(tmp_path / 'set' / 'train' / record['image']).shape == (540, 960, 3)
