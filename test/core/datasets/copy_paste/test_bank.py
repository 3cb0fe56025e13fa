from dataclasses import replace
import json
import pickle

import cv2
import numpy as np
import pytest

from offroad_seg_core.datasets.copy_paste import bank_building as building
from offroad_seg_core.datasets.copy_paste.bank import BankEntry, InstanceBank
from offroad_seg_core.datasets.copy_paste.bank_building import (
    BankConfig,
    build_bank,
    choose_classes,
)
from offroad_seg_core.datasets.copy_paste.placement_profiles import learn_profiles
from offroad_seg_core.datasets.frames import FrameSet
from offroad_seg_core.datasets.masks import DatasetError, MaskReader
from offroad_seg_core.taxonomy import TaxonomyError, load_taxonomy


@pytest.fixture
def made(tmp_path, scene):
    return scene.make_bank(tmp_path)


def test_entries_are_the_stones(made, scene):
    _, bank = made
    assert [entry.box for entry in bank.entries] == [box for box in scene.STONES if box]
    first = bank.entries[0]
    assert (first.class_name, first.source, first.source_size) == (
        'stone',
        'image0.png',
        (80, 120),
    )
    assert (first.area_px, first.truncated, first.solidity) == (120, False, 1.0)
    assert first.foot == pytest.approx(59 / 79, abs=1e-6)
    assert first.light_rgb == pytest.approx(scene.COLORS[scene.SAND], abs=0.01)
    rgba = bank.read(first)
    assert rgba.shape == (10 + 8, 12 + 8, 4)
    np.testing.assert_array_equal(rgba[4:-4, 4:-4, :3], np.full((10, 12, 3), (90, 90, 100)))
    assert np.count_nonzero(rgba[..., 3] > 127) == 120


def test_profile_says_where_stones_stand(made):
    _, bank = made
    profile = bank.profiles['stone']
    assert profile.num_instances == 3
    assert profile.support == {'sand': 1.0}
    assert profile.foot_quantiles[0] == pytest.approx(45 / 79, abs=1e-6)
    assert profile.foot_quantiles[10] == pytest.approx(59 / 79, abs=1e-6)
    assert profile.foot_quantiles[-1] == pytest.approx(69 / 79, abs=1e-6)


def test_counts_are_those_of_the_labels(made):
    frames, bank = made
    counts = sum(np.bincount(frames.read(i)[1].ravel(), minlength=256) for i in range(4))
    np.testing.assert_array_equal(bank.class_pixels, counts[:5])
    np.testing.assert_array_equal(bank.class_frames, [4, 4, 3, 1, 0])
    assert bank.num_frames == 4


def test_rarer_classes_and_ignored_pixels_may_not_be_covered(made, scene):
    _, bank = made
    table = bank.may_cover(scene.STONE)
    assert table[[scene.SKY, scene.SAND, scene.STONE]].all()
    assert not table[[scene.SIGN, scene.GRASS, 255]].any()


def test_a_bank_is_read_again_as_it_was_written(made):
    frames, bank = made
    again = InstanceBank.load(bank.folder, frames.taxonomy)
    assert again.entries == bank.entries
    assert again.profiles == bank.profiles
    assert again.sha256 == bank.sha256
    assert not list(bank.folder.rglob('progress*'))
    unpickled = pickle.loads(pickle.dumps(again))
    np.testing.assert_array_equal(unpickled.read(bank.entries[1]), bank.read(bank.entries[1]))


def test_the_cache_forgets(made, monkeypatch):
    from offroad_seg_core.datasets.copy_paste import bank as instance_bank

    _, bank = made
    monkeypatch.setattr(instance_bank, '_CACHE_BYTES', 1)
    for entry in bank.entries:
        bank.read(entry)
    assert list(bank._cache) == [bank.entries[-1].file]


def test_a_changed_picture_is_found_when_read(made):
    frames, bank = made
    entry = bank.entries[1]
    cv2.imwrite(str(bank.folder / entry.file), np.zeros((14, 16, 4), np.uint8))
    with pytest.raises(DatasetError, match=r'image1_000\.png: got SHA-256 .* expected .* changed'):
        InstanceBank.load(bank.folder, frames.taxonomy).read(entry)


def test_a_changed_index_is_found(made):
    frames, bank = made
    index = bank.folder / 'instances.jsonl'
    index.write_text(index.read_text().replace('image1.png', 'image9.png'))
    with pytest.raises(DatasetError, match=r'instances\.jsonl: got SHA-256'):
        InstanceBank.load(bank.folder, frames.taxonomy)


def test_a_changed_header_is_found(made):
    frames, bank = made
    header = bank.folder / 'bank.json'
    header.write_text(header.read_text().replace('"num_frames": 4', '"num_frames": 5'))
    with pytest.raises(DatasetError, match='not what its digest says'):
        InstanceBank.load(bank.folder, frames.taxonomy)


def test_a_header_that_is_cut_off_is_found(made):
    frames, bank = made
    header = bank.folder / 'bank.json'
    header.write_text(header.read_text()[:100])
    with pytest.raises(DatasetError, match='not valid JSON'):
        InstanceBank.load(bank.folder, frames.taxonomy)


def test_another_taxonomy_is_refused(made):
    with pytest.raises(DatasetError, match=r"those of 'tiny' .* expected 'falcon10'"):
        InstanceBank.load(made[1].folder, load_taxonomy('falcon10'))


def test_no_bank_is_said(tmp_path, scene):
    with pytest.raises(DatasetError, match=r'no instance bank there .*make_copy_paste'):
        InstanceBank.load(tmp_path, scene.make_taxonomy())


def test_a_stopped_build_goes_on_to_the_same_bank(tmp_path, monkeypatch, scene):
    (tmp_path / 'whole').mkdir()
    frames = scene.write_frames(tmp_path)
    whole = build_bank(frames, tmp_path / 'whole' / 'bank', scene.CONFIG)
    folder = tmp_path / 'stopped'
    extract, calls = building._extract, []

    def stop_at_third(*arguments):
        if len(calls) == 2:
            raise KeyboardInterrupt
        calls.append(arguments[1])
        return extract(*arguments)

    monkeypatch.setattr(building, '_extract', stop_at_third)
    with pytest.raises(KeyboardInterrupt):
        build_bank(frames, folder, scene.CONFIG)
    with pytest.raises(DatasetError, match='no instance bank'):
        InstanceBank.load(folder, frames.taxonomy)
    with open(folder / 'progress.jsonl', 'a') as stream:
        stream.write('[2, {"entr')  # killed while it wrote
    monkeypatch.setattr(building, '_extract', lambda *a: calls.append(a[1]) or extract(*a))
    resumed = build_bank(frames, folder, scene.CONFIG)
    assert calls == [0, 1, 2]
    assert resumed.sha256 == whole.sha256
    assert resumed.entries == whole.entries


def test_unfinished_work_with_other_options_is_refused(tmp_path, monkeypatch, scene):
    frames = scene.write_frames(tmp_path)

    def stop(*arguments):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(building, '_extract', stop)
        with pytest.raises(KeyboardInterrupt):
            build_bank(frames, tmp_path / 'bank', scene.CONFIG)
    other = replace(scene.CONFIG, rules=replace(scene.RULES, min_area_px=21))
    with pytest.raises(DatasetError, match='unfinished work on other frames or with other'):
        build_bank(frames, tmp_path / 'bank', other)


def test_a_finished_bank_of_other_options_is_refused(made, scene):
    frames, bank = made
    with pytest.raises(DatasetError, match=r'bank of other .* remove the folder'):
        build_bank(frames, bank.folder, replace(scene.CONFIG, classes=('sign',)))
    assert build_bank(frames, bank.folder, scene.CONFIG).sha256 == bank.sha256


def test_a_bank_of_changed_inputs_is_refused(made, scene):
    frames, bank = made
    others = [
        FrameSet(frames.files, frames.taxonomy, MaskReader(frames.taxonomy, 'raw_ids'), 'test'),
        scene.write_frames(frames.files[0].image.parent),  # the same names, written again
    ]
    for other in others:
        with pytest.raises(DatasetError, match='bank of other frames or options, or the files'):
            build_bank(other, bank.folder, scene.CONFIG)


def test_nothing_that_passes_the_rules_is_an_error(tmp_path, scene):
    frames = scene.write_frames(tmp_path)
    config = BankConfig(('stone',), rules=replace(scene.RULES, min_area_px=5000))
    with pytest.raises(DatasetError, match=r'no object of stone passes .*min_area_px'):
        build_bank(frames, tmp_path / 'bank', config)


def test_an_instance_mask_of_another_size_is_refused(tmp_path, scene):
    frames = scene.write_frames(tmp_path)
    cv2.imwrite(str(tmp_path / 'ids.png'), np.zeros((3, 3), np.uint8))
    files = [replace(item, instances=tmp_path / 'ids.png') for item in frames.files]
    frames.files = tuple(files)
    with pytest.raises(DatasetError, match=r'ids\.png: got shape \(3, 3\), expected \(80, 120\)'):
        build_bank(frames, tmp_path / 'bank', scene.CONFIG)


def test_rare_classes_of_objects_are_chosen_rarest_first(scene):
    pixels = np.array([500, 400, 60, 10, 30])
    taxonomy = scene.make_taxonomy()
    assert choose_classes(pixels, taxonomy, BankConfig(max_share=0.1)) == (
        'sign',
        'grass',
        'stone',
    )
    assert choose_classes(pixels, taxonomy, BankConfig(max_share=0.05)) == ('sign', 'grass')
    assert choose_classes(pixels, taxonomy, BankConfig(('stone', 'sign'))) == ('sign', 'stone')
    with pytest.raises(DatasetError, match=r'no class of objects has at most 0\.1%'):
        choose_classes(pixels, taxonomy, BankConfig(max_share=0.001))
    with pytest.raises(DatasetError, match='grass: got no pixel'):
        choose_classes(np.array([5, 4, 3, 2, 0]), taxonomy, BankConfig(('grass',)))
    with pytest.raises(TaxonomyError, match='stome'):
        choose_classes(pixels, taxonomy, BankConfig(('stome',)))


def entry(foot, side, name='stone'):
    box = (0, 0, side, side)
    return BankEntry(
        'f', 's', name, 'i', (1000, 1000), box, side * side, foot, False, 1.0, (1, 1, 1), 0.4, 4
    )


def test_growth_of_things_whose_size_is_known(scene):
    rng = np.random.default_rng(1)
    feet = rng.uniform(0.4, 1.0, 600)
    entries = [entry(float(y), round(100 * np.exp(3.0 * (y - 1)))) for y in feet]
    profiles = learn_profiles(entries, {'stone': np.eye(256, dtype=int)[1] * 8}, scene.NAMES)
    assert profiles['stone'].growth == pytest.approx(3.0, abs=0.15)
    assert profiles['stone'].support == {'sand': 1.0}
    assert profiles['stone'].min_contrast == pytest.approx(0.2)


def test_growth_is_found_although_small_objects_are_missing(scene):
    rng = np.random.default_rng(2)
    feet = rng.uniform(0.4, 1.0, 4000)
    sides = 100 * np.exp(3.0 * (feet - 1) + rng.normal(0, 0.5, feet.size))
    seen = [entry(float(y), round(s)) for y, s in zip(feet, sides, strict=True) if s >= 30]
    beneath = {'stone': np.zeros(256, int)}
    assert learn_profiles(seen, beneath, scene.NAMES)['stone'].growth == pytest.approx(
        3.0, abs=0.8
    )


def test_few_objects_take_the_growth_of_all(scene):
    entries = [entry(y, round(200 * np.exp(2 * (y - 1)))) for y in np.linspace(0.4, 1, 100)]
    entries += [entry(y, 50, 'sign') for y in (0.5, 0.6, 0.7)]
    beneath = {name: np.zeros(256, int) for name in ('stone', 'sign')}
    profiles = learn_profiles(entries, beneath, scene.NAMES)
    assert profiles['sign'].growth > 1
    assert profiles['sign'].support == {}


def test_things_never_shrink_towards_the_camera(scene):
    entries = [entry(y, round(200 * np.exp(-2 * y))) for y in np.linspace(0.4, 1, 100)]
    profiles = learn_profiles(entries, {'stone': np.zeros(256, int)}, scene.NAMES)
    assert profiles['stone'].growth == 0


def test_the_header_is_plain_json(made):
    content = json.loads((made[1].folder / 'bank.json').read_text())
    assert content['taxonomy'] == 'tiny'
    assert content['classes'] == ['stone']
