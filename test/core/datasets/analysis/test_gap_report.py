from html.parser import HTMLParser
import json

import cv2
import numpy as np
import pytest

from offroad_seg_core.datasets.analysis.domain_gap import GroupStatistics, Sample, compare_groups
from offroad_seg_core.datasets.analysis.features import describe_image
from offroad_seg_core.datasets.analysis.gap_examples import draw_examples
from offroad_seg_core.datasets.analysis.gap_figures import draw_class_shares, plain
from offroad_seg_core.datasets.analysis.gap_findings import find
from offroad_seg_core.datasets.analysis.gap_report import write_gap_report
from offroad_seg_core.datasets.falcon import FalconConfig
from offroad_seg_core.datasets.frames import FrameFiles, FrameSet
from offroad_seg_core.datasets.masks import MaskReader
from offroad_seg_core.taxonomy import load_taxonomy

VOID = {'meta', 'img', 'br', 'link'}
FIGURES = ('examples', 'classes', 'colors', 'embedding', 'distances')


@pytest.fixture(scope='module')
def taxonomy():
    return load_taxonomy('falcon10')


def statistics_of(frames, name):
    """Look at every frame of a set, as a scan would."""
    num_classes = frames.taxonomy.num_classes
    pixels, shown = np.zeros((2, num_classes), np.int64)
    sums, squares, total, features = np.zeros(3), np.zeros(3), 0, []
    for index in range(len(frames)):
        image, label_map = frames.read(index)
        counts = np.bincount(label_map.ravel(), minlength=256)[:num_classes]
        pixels += counts
        shown += counts > 0
        colors = image.reshape(-1, 3)
        histograms = [np.bincount(colors[:, channel], minlength=256) for channel in range(3)]
        sums += [h @ np.arange(256) for h in histograms]
        squares += [h @ np.arange(256) ** 2 for h in histograms]
        total += len(colors)
        features.append(describe_image(image))
    mean = sums / total
    return GroupStatistics(
        name=name,
        num_frames=len(frames),
        class_pixels=pixels,
        class_frames=shown,
        mean_rgb=mean,
        std_rgb=np.sqrt(squares / total - mean**2),
        features=np.array(features),
        examples=tuple(Sample(item, frames.reader_of(0)) for item in frames.files),
    )


def make_frames(folder, taxonomy, level, count=9):
    """Write frames with a sky above ground, and their labels."""
    rng, files = np.random.default_rng(level), []
    folder.mkdir()
    for index in range(count):
        image = rng.integers(level, level + 41, (48, 80, 3)).astype(np.uint8)
        label = np.full((48, 80), 10000, np.uint16)
        label[20:] = 7100
        files.append(FrameFiles(folder / f'{index}.png', folder / f'{index}_label.png', 'x'))
        cv2.imwrite(str(files[-1].image), image)
        cv2.imwrite(str(files[-1].label), label)
    return FrameSet(files, taxonomy, MaskReader(taxonomy, 'raw_ids'), str(folder))


@pytest.fixture(scope='module')
def groups(taxonomy, tmp_path_factory):
    folder = tmp_path_factory.mktemp('frames')
    levels = {'<b>day</b>': 150, '$night$ & "fog"': 10}
    return [
        statistics_of(make_frames(folder / str(level), taxonomy, level), name)
        for name, level in levels.items()
    ]


@pytest.fixture(scope='module')
def report(groups, taxonomy, tmp_path_factory):
    return write_gap_report(groups, taxonomy, tmp_path_factory.mktemp('report') / 'new')


class Page(HTMLParser):
    """Checks that tags nest, and keeps text and pictures."""

    def __init__(self):
        super().__init__()
        self.open, self.text, self.pictures = [], '', []

    def handle_starttag(self, tag, attrs):
        if tag == 'img':
            self.pictures.append(dict(attrs)['src'])
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data


def test_page_is_well_formed_and_stands_alone(report):
    page = Page()
    page.feed(report.read_text(encoding='utf-8'))
    page.close()
    assert page.open == []
    assert len(page.pictures) == len(FIGURES)
    assert all(source.startswith('data:image/') for source in page.pictures)
    assert '$night$ & "fog" is dark: mean luminance' in page.text


def test_names_are_escaped(report):
    html = report.read_text(encoding='utf-8')
    assert '<b>day' not in html
    assert '&lt;b&gt;day&lt;/b&gt;' in html


def test_files(report):
    expected = {'index.html', 'gap.json', *(f'{name}.png' for name in FIGURES)}
    assert {path.name for path in report.parent.iterdir()} == expected
    for name in FIGURES:
        assert min(cv2.imread(str(report.parent / f'{name}.png')).shape[:2]) > 200


def test_numbers(report, groups):
    def no_constant(name):
        raise AssertionError(f'{name} is not JSON')

    text = (report.parent / 'gap.json').read_text()
    numbers = json.loads(text, parse_constant=no_constant)
    assert [entry['name'] for entry in numbers['groups']] == [group.name for group in groups]
    (gap,) = numbers['gaps']
    assert gap['group'] == '$night$ & "fog"'
    np.testing.assert_allclose(gap['color']['shift_rgb'], groups[1].mean_rgb - groups[0].mean_rgb)
    assert gap['classes']['total_variation'] == 0
    assert gap['classes']['log2_ratio'] == [None] * 8 + [0, 0]  # neither group has the first 8
    assert numbers['distances'][0]['distance']['value'] > 0.3
    expected = '$night$ & "fog" is dark: mean luminance 30 against 170'
    assert numbers['findings'][0]['text'] == expected


def test_unlabelled_pictures_make_a_report_too(groups, taxonomy, tmp_path):
    none = np.zeros(taxonomy.num_classes, np.int64)
    gray, unknown, features = np.full(3, 50.0), np.full(3, np.nan), groups[0].features
    bare = GroupStatistics('bare', 9, none, none, gray, gray, features)
    empty = GroupStatistics('empty', 0, none, none, unknown, unknown, features[:0])
    path = write_gap_report([bare, empty], taxonomy, tmp_path)
    assert {entry.stem for entry in tmp_path.glob('*.png')} == {'colors', 'embedding', 'distances'}
    assert 'bare has no labels' in path.read_text(encoding='utf-8')


def test_many_groups_are_drawn_in_rows(groups, taxonomy):
    counts, ones = groups[0].class_pixels, np.ones(3)
    many = [
        GroupStatistics(f'_{n}', 9, counts, counts, ones, ones, np.ones((9, 3))) for n in range(7)
    ]
    (axes,) = draw_class_shares(many, taxonomy).axes
    assert [label.get_text().strip('\u200a') for label in axes.get_yticklabels()] == [
        f'_{n}' for n in range(7)
    ]
    widths = [patch.get_width() for patch in axes.patches[:7]]
    np.testing.assert_allclose(widths, 100 * 28 / 48)  # ground, the first class that is there


def test_a_broken_example_is_left_out(groups, taxonomy, tmp_path, caplog):
    reader = groups[0].examples[0].reader
    broken = Sample(FrameFiles(tmp_path / 'none.png', None, 'x'), reader)
    pair = [GroupStatistics(**{**vars(group), 'examples': (broken,)}) for group in groups]
    assert draw_examples(pair, taxonomy) is None
    assert 'none.png' in caplog.text


def test_plain_names():
    assert plain('a$b') == r'a\$b'
    assert plain('x' * 40) == 'x' * 27 + '…'


def test_falcon_deserts_unasked(falcon_root, taxonomy):
    frames = FalconConfig('falcon', falcon_root, None).frames('train', taxonomy)
    places = [files.environment for files in frames.files]
    groups = [
        statistics_of(frames.subset(np.flatnonzero(np.array(places) == name)[::5]), name)
        for name in ('w0', 'cc', 'ww')
    ]
    found = [finding.text for finding in find(compare_groups(groups, taxonomy.names))]
    assert found[0].startswith('cc has no Flowers and no Logs (')
    dark = [place for place, text in enumerate(found) if text.startswith('ww is dark: mean lum')]
    assert dark == [3]
    assert not any(text.startswith(('cc is dark', 'w0 is dark')) for text in found)
