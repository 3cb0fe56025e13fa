from html.parser import HTMLParser
import json

import cv2
import numpy as np
import pytest

from offroad_seg_core.datasets.analysis.analyze import (
    MAX_ENVIRONMENTS,
    analyze,
    environment_groups,
    load_splits,
)
from offroad_seg_core.datasets.analysis.class_weights import SCHEMES, ClassCounts, class_weights
from offroad_seg_core.datasets.analysis.figures import percent_text
from offroad_seg_core.datasets.analysis.rare_classes import rarest_classes
from offroad_seg_core.datasets.analysis.report import write_report, write_reports
from offroad_seg_core.datasets.analysis.scan import ScanOptions
from offroad_seg_core.datasets.masks import DatasetError
from offroad_seg_core.datasets.rugd import RugdConfig


class Page(HTMLParser):
    """Collects the texts, links and pictures of a page."""

    def __init__(self, path):
        super().__init__()
        self.texts, self.addresses = [], []
        self.feed(path.read_text(encoding='utf-8'))
        self.text = ' '.join(' '.join(self.texts).split())

    def handle_data(self, data):
        self.texts.append(data)

    def handle_starttag(self, tag, attributes):
        self.addresses += [value for name, value in attributes if name in ('src', 'href')]


def scene(seed, size=(64, 96)):
    small = np.random.default_rng(seed).integers(0, 256, (6, 9, 3), np.uint8)
    return cv2.resize(small, size[::-1], interpolation=cv2.INTER_CUBIC)


@pytest.fixture
def small_set(make_frame, frame_set):
    """Return two splits in two environments; rock is a 6 x 8 block in one frame only."""
    mask = np.full((64, 96), 100, np.uint16)
    mask[:16] = 300
    rocks = mask.copy()
    rocks[40:46, 50:58] = 7000
    train = [
        make_frame('a', scene(0), mask),
        make_frame('b', scene(1), rocks, 'there'),
        make_frame('<i>', scene(2), np.full((64, 95), 100, np.uint16), 'there'),
    ]
    validation = [make_frame('copy', scene(0) // 2, mask)]
    return {'train': frame_set(train), 'validation': frame_set(validation)}


@pytest.fixture
def analysis(small_set):
    return analyze('tiny set', small_set, None, ScanOptions(workers=2))


def test_every_figure_is_in_the_file_for_machines(analysis, tmp_path):
    write_report(analysis, tmp_path / 'out')
    facts = json.loads((tmp_path / 'out' / 'statistics.json').read_text())
    ground, bush, rock = 3 * 48 * 96 - 48 + 64 * 95, 3 * 16 * 96, 48
    assert facts['frames'] == facts['labelled_frames'] == 4
    assert facts['classes']['ground']['pixels'] == ground
    assert facts['classes']['rock'] == {
        'pixels': rock,
        'share': rock / (ground + bush + rock),
        'frames': 1,
        'instances': None,
    }
    assert facts['image_sizes'] == [{'height': 64, 'width': 96, 'images': 4}]
    assert facts['problems'] == {'size': 1, 'leak': 1}
    assert [entry['environment'] for entry in facts['environments']] == ['here', 'there', 'here']
    assert facts['environments'][0]['classes']['rock']['pixels'] == 0
    # The weights are of the training split.
    frame = 64 * 96
    counts = ClassCounts(
        np.array([2 * 48 * 96 - 48 + 64 * 95, 2 * 16 * 96, 48]),
        np.array([2 * frame + 64 * 95, 2 * frame, frame]),
    )
    assert facts['class_weights_of'] == 'training split'
    assert set(facts['class_weights']) == set(SCHEMES)
    for scheme, weights in facts['class_weights'].items():
        np.testing.assert_allclose(weights, class_weights(counts, scheme), atol=1e-6)


def test_every_problem_is_listed_and_texts_are_escaped(analysis, tmp_path):
    page = Page(write_report(analysis, tmp_path / 'out'))
    lines = (tmp_path / 'out' / 'problems.txt').read_text().splitlines()
    assert len(lines) == 2
    assert lines[0].startswith('size: ')
    assert '<i>.png: got (64, 95), expected (64, 96)' in lines[0]
    assert lines[1].startswith('leak: ')
    assert 'a.png and' in lines[1]
    assert 'train/here and validation/here' in lines[1]
    assert '<i>.png: got (64, 95)' in page.text
    assert '1 × leak' in page.text


def test_the_page_stands_alone(analysis, tmp_path):
    path = write_report(analysis, tmp_path / 'out', [('more', 'gap/index.html')], ['a note'])
    page = Page(path)
    outside = [address for address in page.addresses if not address.startswith('data:')]
    assert outside == ['gap/index.html', 'problems.txt']
    assert 'a note' in page.text
    assert path.stat().st_size < 1_000_000
    assert sorted(file.name for file in path.parent.iterdir()) == [
        'index.html',
        'problems.txt',
        'statistics.json',
    ]


def test_a_set_without_problems_says_so(make_frame, raw, frame_set, tmp_path):
    frames = frame_set([make_frame('a', label=raw(v100=80))])
    analysis = analyze('one', {'train': frames}, None, ScanOptions())
    page = Page(write_reports(analysis, tmp_path / 'out'))
    assert 'None: every file is readable' in page.text
    assert not (tmp_path / 'out' / 'environments').exists()
    assert (tmp_path / 'out' / 'problems.txt').read_text() == ''


@pytest.mark.parametrize('kind', ['unlabelled', 'broken'])
def test_a_set_without_anything_to_show(kind, make_frame, frame_set, tmp_path):
    image = b'nothing' if kind == 'broken' else None
    label = b'nothing' if kind == 'broken' else None
    files = [make_frame(stem, image, label, environment=stem) for stem in 'ab']
    analysis = analyze(kind, {'train': frame_set(files)}, None, ScanOptions())
    page = Page(write_reports(analysis, tmp_path / 'out'))
    assert ('4 × unreadable' in page.text) == (kind == 'broken')
    facts = json.loads((tmp_path / 'out' / 'statistics.json').read_text())
    assert (facts['mean_rgb'] is None) == (kind == 'broken')
    assert facts['class_weights']['enet'] == [1, 1, 1]


def test_environments_are_compared_without_being_asked(analysis, tmp_path):
    page = Page(write_reports(analysis, tmp_path / 'out'))
    assert 'environments/index.html' in page.addresses
    assert 'rock' in Page(tmp_path / 'out' / 'environments' / 'index.html').text


def test_another_data_set_is_held_against_this_one(small_set, make_frame, frame_set, tmp_path):
    other = frame_set([make_frame('far', scene(1) // 3, np.full((64, 96), 300, np.uint16))])
    analysis = analyze('mine', small_set, ('other', {'train': other}), ScanOptions())
    assert any('train/there and other:train/here' in text for _, text in analysis.problems)
    page = Page(write_reports(analysis, tmp_path / 'out'))
    assert 'Domain gap between mine, other' in page.text
    gap = json.loads((tmp_path / 'out' / 'against' / 'gap.json').read_text())
    assert [group['name'] for group in gap['groups']] == ['mine', 'other']
    assert gap['groups'][1]['class_pixels'] == [0, 64 * 96, 0]


def test_only_the_largest_environments_are_compared(make_frame, frame_set):
    files = [
        make_frame(f'{place}-{n}', environment=f'place{place:02}')
        for place in range(12)
        for n in range(1 + (place >= 6))
    ]
    analysis = analyze('many', {'train': frame_set(files)}, None, ScanOptions())
    groups = environment_groups(analysis.statistics)
    assert len(groups) == MAX_ENVIRONMENTS
    assert [group.num_frames for group in groups] == [2] * 6 + [1] * 2


class TestRareClasses:
    def test_the_rarest_first_with_its_parts(self, analysis):
        rock, bush, ground = rarest_classes(analysis.statistics)
        assert (rock.id, bush.id, ground.id) == (2, 1, 0)
        assert (rock.num_frames, rock.parts_per_frame, rock.median_part_px) == (1, 1.0, 48.0)
        assert bush.num_frames == 3
        assert bush.median_part_px == 16 * 96

    def test_the_patch_shows_the_class_with_an_outline(self, make_frame, frame_set):
        mask = np.full((300, 400), 100, np.uint16)
        mask[140:160, 190:210] = 7000
        image = np.full((300, 400, 3), 90, np.uint8)
        image[140:160, 190:210] = (250, 0, 0)
        frames = frame_set([make_frame('a', image, mask)])
        analysis = analyze('one', {'train': frames}, None, ScanOptions())
        sheet = cv2.imdecode(
            np.frombuffer(rarest_classes(analysis.statistics)[0].sheet, np.uint8), 1
        )
        is_red = (sheet[..., 2] > 200) & (sheet[..., 1] < 60)
        rows, columns = np.nonzero(is_red)
        assert abs(rows.mean() - sheet.shape[0] / 2) < 3
        assert abs(columns.mean() - sheet.shape[1] / 2) < 3
        # 20 px of the patch's 90 rows, which are drawn as 180; the outline takes some
        assert 30 < np.ptp(rows) < 42
        assert ((sheet[..., 2] > 150) & (sheet[..., 1] > 150) & (sheet[..., 0] < 120)).sum() > 100

    def test_files_that_have_gone_are_left_out(self, analysis, small_set):
        small_set['train'].files[1].label.unlink()
        rock = rarest_classes(analysis.statistics)[0]
        assert rock.sheet is None
        assert rock.parts_per_frame == 0


def test_percentages_have_two_digits():
    shares = (0.349, 0.0412, 0.00075, 0.000000123, 0, 1)
    texts = ['35 %', '4.1 %', '0.075 %', '0.000012 %', '0 %', '100 %']
    assert [percent_text(share) for share in shares] == texts


def test_splits_that_are_not_there(rugd_root, tmp_path):
    config = RugdConfig('rugd', rugd_root, validation=())
    taxonomy = config.native_taxonomy()
    splits, notes = load_splits(config, taxonomy)
    assert list(splits) == ['train']
    assert notes[0].startswith('Without the split validation: ')
    with pytest.raises(DatasetError, match='validation'):
        load_splits(config, taxonomy, ['validation'])
    with pytest.raises(DatasetError, match=r'split train.*split validation'):
        load_splits(RugdConfig('rugd', tmp_path), taxonomy)


def test_real_frames_have_the_known_shares(falcon_root):
    from offroad_seg_core.datasets.falcon import FalconConfig

    config = FalconConfig('falcon', falcon_root, None)
    frames = config.frames('train', config.native_taxonomy()).subset(range(0, 209, 8))
    analysis = analyze('falcon', {'train': frames}, None, ScanOptions())
    cc = analysis.statistics.groups['train', 'cc'].tally
    names = analysis.statistics.taxonomy.names
    assert analysis.problems == []
    assert {n for n, px in zip(names, cc.class_pixels, strict=True) if not px} >= {
        'Flowers',
        'Logs',
    }
    assert cc.shares[names.index('Sky')] == pytest.approx(0.45, abs=0.06)
    ww = analysis.statistics.groups['train', 'ww'].tally
    assert ww.mean_rgb.mean() < cc.mean_rgb.mean() - 40
