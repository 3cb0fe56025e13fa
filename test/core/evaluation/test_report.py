from html.parser import HTMLParser
import json

import numpy as np
import pytest

pytest.importorskip('torch')
pytest.importorskip('matplotlib')

from offroad_seg_core.evaluation.evaluated_run import evaluate_run
from offroad_seg_core.evaluation.predictions import PredictionOptions
from offroad_seg_core.evaluation.report.comparison import MAX_BARS, draw_class_bars
from offroad_seg_core.evaluation.report.confusion import (
    MAX_SHOWN,
    draw_confusion,
    shown_confusion,
)
from offroad_seg_core.evaluation.report.curves import draw_class_curves
from offroad_seg_core.evaluation.report.numbers import RULES
from offroad_seg_core.evaluation.report.page import comparison_page
from offroad_seg_core.evaluation.report.report import write_report
from offroad_seg_core.evaluation.report.style import count_text
from offroad_seg_core.evaluation.run_record import RunError
from offroad_seg_core.metrics.confusion_matrix import ConfusionMatrix

VOID = {'meta', 'img', 'br', 'link'}


class Page(HTMLParser):
    """Collects texts and addresses of a page; every tag must be closed in its order."""

    def __init__(self, path):
        super().__init__()
        self.texts, self.addresses, self.open, self.tags = [], [], [], []
        self.feed(path.read_text(encoding='utf-8'))
        self.text = ' '.join(' '.join(self.texts).split())
        assert self.open == []

    def handle_data(self, data):
        self.texts.append(data)

    def handle_starttag(self, tag, attributes):
        self.addresses += [value for name, value in attributes if name in ('src', 'href')]
        self.tags.append(tag)
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def numbers_of(page):
    return json.loads((page.parent / 'report.json').read_text())


def pictures_in(folder):
    return sorted(path.stem for path in folder.glob('*.png'))


@pytest.fixture(scope='module')
def written(write_run_files, tmp_path_factory):
    """Return the run that most tests look at, and its report."""
    folder = tmp_path_factory.mktemp('runs')
    run = write_run_files(folder / 'run', '<b>run</b>')
    return run, write_report([run], folder / 'report')


def test_numbers_by_hand(written):
    numbers = numbers_of(written[1])
    # ground: 110 hits of 180 true, 120 predicted; bush: 10 of 20, 30; rock: 0 of 0, 40.
    classes = numbers['classes']
    assert classes['iou'] == {'ground': 110 / 190, 'bush': 10 / 40, '<i>rock</i>': 0.0}
    assert classes['precision'] == {'ground': 110 / 120, 'bush': 10 / 30, '<i>rock</i>': 0.0}
    assert classes['recall'] == {'ground': 110 / 180, 'bush': 10 / 20, '<i>rock</i>': None}
    assert classes['dice'] == {'ground': 220 / 300, 'bush': 20 / 50, '<i>rock</i>': 0.0}
    assert classes['truth_share'] == {'ground': 0.9, 'bush': 0.1, '<i>rock</i>': 0.0}
    assert classes['predicted_share'] == {'ground': 0.6, 'bush': 0.15, '<i>rock</i>': 0.2}
    assert numbers['scores'] == {
        'num_pixels': 200,
        'pixel_accuracy': 0.6,
        'miou_present': pytest.approx((110 / 190 + 10 / 40) / 2),
        'miou': pytest.approx((110 / 190 + 10 / 40) / 3),
        'miou_all_absent_0': pytest.approx((110 / 190 + 10 / 40) / 3),
        'miou_all_absent_1': pytest.approx((110 / 190 + 10 / 40) / 3),
        'mean_accuracy': pytest.approx((110 / 180 + 10 / 20) / 2),
        'micro_iou': pytest.approx(120 / (200 + 190 - 120)),
        'frequency_weighted_iou': pytest.approx(0.9 * 110 / 190 + 0.1 * 10 / 40),
        'num_classes_present': 2,
        'num_classes': 3,
        'false_safe_rate': None,
        'false_alarm_rate': None,
    }
    here = numbers['environments']['here']
    assert here['iou'] == {'ground': 60 / 90, 'bush': 10 / 40, '<i>rock</i>': None}
    # rock is nowhere there: 0 in the mean over all classes, left out of the others.
    means = [here['scores'][key] for key in RULES]
    assert means == pytest.approx([11 / 24, 11 / 24, 11 / 36, 23 / 36])
    assert numbers['rules'] == RULES
    assert numbers['confusion_matrix'] == [[110, 20, 40, 10], [10, 10, 0, 0], [0, 0, 0, 0]]
    assert numbers['steps']['dice'] == [0.75, 0.5, 0.25]
    assert [row['miou_present'] for row in numbers['validations']] == [0.25, 0.5]
    assert numbers['source'] == 'the last validation in training, step 20'


def test_the_page_stands_alone_and_escapes_names(written):
    path = written[1]
    page = Page(path)
    assert 'i' not in page.tags
    assert '<i>rock</i>' in page.text
    assert '<b>run</b>' in page.text
    assert 'mIoU 0.414 : over the classes that occur in the truth' in page.text
    assert 'No best.ckpt or last.ckpt: no pictures, no scores of single frames.' in page.text
    inside = [address for address in page.addresses if address.startswith('data:image/png')]
    outside = [address for address in page.addresses if not address.startswith(('data:', '#'))]
    names = pictures_in(path.parent)
    assert names == [
        'class_curves',
        'class_iou',
        'class_shares',
        'confusion_counts',
        'confusion_percent',
        'precision_recall',
        'training',
        'validations',
    ]
    assert (len(inside), outside) == (len(names), [])


def test_the_same_run_gives_the_same_files(written, tmp_path):
    first, second = written[1].parent, write_report([written[0]], tmp_path).parent
    for path in first.iterdir():
        assert path.read_bytes() == (second / path.name).read_bytes(), path.name


@pytest.mark.parametrize(
    ('without', 'pictures'),
    [
        (['steps.csv', 'validation.jsonl'], 5),
        (['result.json', 'validation.jsonl'], 1),
        (['result.json'], 3),
    ],
)
def test_missing_pieces_are_left_out_and_said(write_run, tmp_path, without, pictures):
    path = write_report([write_run(without=without)], tmp_path / 'out')
    assert len(pictures_in(path.parent)) == pictures
    text = Page(path).text
    assert all(f'{name} is missing' in text for name in without)


def test_a_damaged_checkpoint_costs_only_the_pictures(write_run):
    folder = write_run()
    (folder / 'best.ckpt').write_bytes(b'')
    run = evaluate_run(folder, PredictionOptions())
    assert 'best.ckpt: cannot be read as a checkpoint' in run.notes[0]
    assert set(run.matrices) == {'here', 'there'}
    assert evaluate_run(folder, None).notes == ()


def test_no_run_no_report(write_run, tmp_path):
    with pytest.raises(RunError, match='got none of'):
        write_report([write_run(), tmp_path / 'nothing'], tmp_path / 'out')
    with pytest.raises(ValueError, match='folders: got none'):
        write_report([], tmp_path / 'out')


def test_runs_beside_each_other(write_run, tmp_path):
    perfect = [[80, 0, 0, 0], [0, 20, 0, 0], [0, 0, 100, 0]]
    runs = [write_run('a'), write_run('b', environments={'here': perfect})]
    runs.append(write_run('a', folder=tmp_path / 'other' / 'a'))
    path = write_report(runs, tmp_path / 'out')
    page = Page(path)
    links = [address for address in page.addresses if not address.startswith(('data:', '#'))]
    assert links == ['a/index.html', 'b/index.html', 'a-2/index.html']
    assert all((path.parent / link).is_file() for link in links)
    assert pictures_in(path.parent) == ['class_iou', 'validations']
    assert '+0.586' in page.text  # 1 against (110 / 190 + 10 / 40) / 2
    assert 'different frames' in page.text
    values = (0.414474, 1.0, 0.414474)
    mean = f'{np.mean(values):.3f} ± {np.std(values, ddof=1):.3f}'
    assert f'mean of 3 ± standard deviation {mean}' in page.text
    numbers = numbers_of(path)['runs']
    assert numbers['b']['scores']['miou_present'] == 1.0
    assert numbers['a'] == numbers['a-2']


def test_runs_of_different_classes_are_told_apart(write_run):
    folders = [write_run('a'), write_run('b', names=('ground', 'sky', 'water'))]
    page = comparison_page([evaluate_run(folder, None) for folder in folders], 'ab', 'ab')
    assert page['notes'] == [
        'The runs have different classes: their means are of different things.'
    ]
    rows = {
        row[0]['text']: [cell['text'] for cell in row[1:]] for row in page['tables'][1]['rows']
    }
    assert rows == {
        'ground': ['0.579', '0.579'],
        'bush': ['0.250', '–'],
        '<i>rock</i>': ['0.000', '–'],
        'sky': ['–', '0.250'],
        'water': ['–', '0.000'],
    }


def test_many_runs_are_columns_of_a_table(write_run):
    runs = [evaluate_run(write_run(f'run{n}'), None) for n in range(MAX_BARS + 1)]
    names = [run.record.name for run in runs]
    (axes,) = draw_class_bars(runs, names).axes
    assert [label.get_text() for label in axes.get_xticklabels()] == names
    rows = [label.get_text() for label in axes.get_yticklabels()]
    assert rows == ['mIoU', 'ground', 'bush', '<i>rock</i>']
    np.testing.assert_allclose(axes.images[0].get_array()[:, 0], [0.41447, 11 / 19, 0.25, 0], 1e-4)


def test_a_large_confusion_is_no_larger_than_a_page(write_run):
    names = tuple(f'class {index}' for index in range(64))
    counts = np.arange(64)[:, None] * np.arange(1, 66)
    run = evaluate_run(write_run(names=names, environments={'all': counts}), None)
    axes = draw_confusion(run.classes, run.matrix, normalized=True).axes[0]
    rows = [label.get_text() for label in axes.get_yticklabels()]
    assert rows == [*names[-MAX_SHOWN:], '44 others']
    assert len(axes.get_xticklabels()) == MAX_SHOWN + 2
    np.testing.assert_allclose(axes.images[0].get_array().sum(axis=1), 100)
    (axes, _) = draw_class_curves(run.record).axes
    assert [label.get_text() for label in axes.get_yticklabels()] == list(names)[:-1]


def test_the_shown_part_of_a_large_confusion_is_the_frequent_one():
    matrix = ConfusionMatrix(64)
    matrix.counts[:] = 1
    matrix.counts[40, 40] = matrix.counts[10, 10] = 1000
    counts, rows, columns = shown_confusion(matrix, tuple(map(str, range(64))))
    assert rows == [*map(str, range(19)), '40', '44 others']
    assert columns == [*rows, 'unlabeled']
    assert counts.sum() == matrix.counts.sum()
    assert counts[10, 10] == counts[19, 19] == 1000
    assert counts[0, 20] == 44
    assert counts[20, 0] == 44
    assert counts[20, 20] == 44 * 44
    assert counts[:, -1].tolist() == [1] * 20 + [44]


def test_a_small_confusion_is_shown_whole():
    matrix = ConfusionMatrix(2)
    matrix.counts[:] = [[1, 2, 0], [3, 4, 0]]
    counts, rows, columns = shown_confusion(matrix, ('a', 'b'))
    assert (counts.tolist(), rows, columns) == ([[1, 2], [3, 4]], ['a', 'b'], ['a', 'b'])


@pytest.mark.parametrize(
    ('count', 'text'),
    [
        (0, '0'),
        (999, '999'),
        (1000, '1.0k'),
        (9949, '9.9k'),
        (9960, '10k'),
        (999_600, '1.0M'),
        (62_668_800, '63M'),
        (5_000_000_000, '5.0G'),
    ],
)
def test_counts_are_short(count, text):
    assert count_text(count) == text


def test_folders_of_runs_stay_inside_the_report(write_run, tmp_path):
    runs = [write_run(name, folder=tmp_path / name) for name in 'ab']
    for run, name in zip(runs, ('../../x', '..'), strict=True):
        content = json.loads((run / 'result.json').read_text())
        content['config']['name'] = name
        content['environments'] = {}
        (run / 'result.json').write_text(json.dumps(content))
        for file in ('steps.csv', 'validation.jsonl'):
            (run / file).unlink()
    path = write_report(runs, tmp_path / 'out', None)
    folders = sorted(folder.name for folder in path.parent.iterdir() if folder.is_dir())
    assert folders == ['_.._x', 'run']
