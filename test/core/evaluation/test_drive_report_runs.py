"""Runs beside each other that differ: in what they labelled, in costs, in truth, in number."""

import json

import numpy as np
import pytest

pytest.importorskip('plotly')

from offroad_seg_core.evaluation.drive_report.build import write_drive_report

WHITE = 1.0


@pytest.fixture
def frame_1(drives):
    """Path of the second frame of a camera."""
    return f'front/{drives.START_NS + drives.STEP_NS}'


def content_of(file):
    """Return what a script hands to the page, and how to write it back."""
    call, _, rest = file.read_text().partition(', ')
    return call, json.loads(rest.removesuffix(');\n'))


def traces(page, expression):
    return page.evaluate(
        f"() => document.getElementById('timeline').data.map((t) => {expression})"
    )


def without_truth(pages, source, target):
    """Copy a result as if there had been no truth."""

    def change(summary):
        summary |= {'scores': None, 'counts': {}, 'num_with_truth': 0}

    def blank(row):
        names = ('miou_present', 'miou', 'micro_iou', 'pixel_accuracy', 'false_safe_rate')
        row |= dict.fromkeys(names, '')

    folder = pages.changed(source, target, blank, change)
    for file in (folder / 'report' / 'frames').rglob('*.js'):
        call, content = content_of(file)
        del content['truth']
        file.write_text(f'{call}, {json.dumps(content)});\n')
    return folder


def test_a_side_without_a_picture_says_why(drives, results, visit, pages, tmp_path, frame_1):
    def fail(row):
        if f'{row["camera"]}/{row["name"]}' == frame_1:
            row['problem'] = 'it was too dark'

    after = pages.changed(results[1], tmp_path / 'after', fail)
    (after / 'report' / 'frames' / f'{frame_1}.js').unlink()
    page = visit(write_drive_report([results[0], after], tmp_path / 'page'))
    pages.set_range(page, 'frame', 2)
    pages.wait_for_frame(page, frame_1)
    assert page.locator('#under').evaluate('e => e.style.clipPath') == 'inset(0px 50% 0px 0px)'
    assert page.locator('#under-missing').is_hidden()
    assert page.locator('#over').is_hidden()
    assert page.locator('#over-missing').inner_text() == 'No labels: it was too dark'
    left, right, half = (
        page.locator(f'#{name}').bounding_box() for name in ('stage', 'over-missing', 'under')
    )
    assert right['x'] == pytest.approx(left['x'] + half['width'] / 2, abs=1)
    assert pages.point_at(page, 0.2, 0.5).startswith('before: Landscape')
    assert pages.point_at(page, 0.9, 0.5) == 'No labels: it was too dark'
    pages.change_setting(page, 'left', '1 classes')
    assert page.locator('.missing:visible').count() == 2
    pages.change_setting(page, 'right', '0 classes')
    assert page.locator('#over').is_visible()
    assert pages.point_at(page, 0.2, 0.5) == 'No labels: it was too dark'
    assert 'after: problem: it was too dark' in page.locator('#caption').inner_text()


def test_the_inspector_tells_of_the_side_under_the_pointer(results, visit, pages, tmp_path):
    page = visit(write_drive_report(results, tmp_path / 'page'))
    pages.set_range(page, 'split', 80)
    assert pages.point_at(page, 0.7, 0.9).startswith('before: Sky')
    assert pages.point_at(page, 0.9, 0.9).startswith('after: Rocks')


def test_errors_need_the_truth_of_the_frame(results, visit, pages, tmp_path, frame_1):
    folder = pages.changed(results[0], tmp_path / 'run')
    file = folder / 'report' / 'frames' / f'{frame_1}.js'
    call, content = content_of(file)
    del content['truth']
    file.write_text(f'{call}, {json.dumps(content)});\n')
    page = visit(write_drive_report([folder], tmp_path / 'page'))
    pages.set_range(page, 'frame', 2)
    pages.change_setting(page, 'right', '0 errors')
    assert page.locator('#over-missing').inner_text() == 'This frame has no truth.'
    assert page.locator('#over').is_hidden()


def test_runs_of_other_costs_and_groups(drives, results, visit, pages, tmp_path):
    def change(summary):
        summary['costs'][drives.LANDSCAPE] = 200
        for entry in summary['taxonomy']['classes']:
            if entry['name'] == 'Sky':
                entry |= {'group': 'smooth', 'cost': 0}
        for entry in summary['taxonomy']['classes']:
            if entry['name'] == 'Landscape':
                entry |= {'group': 'resistant', 'cost': 200}
            if entry['name'] == 'Ground Clutter':
                entry |= {'group': 'resistant'}

    after = pages.changed(results[1], tmp_path / 'after', change_summary=change)
    page = visit(write_drive_report([results[0], after], tmp_path / 'page'))
    notes = page.locator('#notes li').all_inner_texts()
    assert notes[0] == 'costs differ: Landscape 20 in before, 200 in after'
    assert notes[1].startswith('groups differ: Ground Clutter rough in before, resistant in after')
    over, under = (pages.shown(page, side)[:, :40] for side in ('over', 'under'))
    assert (over != under).any(axis=-1).all()
    assert pages.point_at(page, 0.2, 0.5) == (
        'before: Landscape (rough, cost 20); truth: Landscape (rough, cost 20)'
    )
    pages.set_range(page, 'split', 0)
    assert pages.point_at(page, 0.2, 0.5).startswith('after: Landscape (resistant, cost 200)')
    assert 'smooth' in pages.column(page, 'groups', 1)
    names, costs = (pages.column(page, 'classes', place) for place in (1, 3))
    rows = dict(zip(names, costs, strict=True))
    assert rows['Landscape'] == '20 | 200'
    assert rows['Sky'] == 'unknown'
    assert 'Landscape, cost 20 | 200' in page.locator('#legend li').all_inner_texts()


def test_truth_that_only_the_second_run_has(drives, results, visit, pages, tmp_path):
    before = without_truth(pages, results[0], tmp_path / 'before')
    page = visit(write_drive_report([before, results[1]], tmp_path / 'page'))
    assert 'Worst of after' in page.locator('#extremes h3').all_inner_texts()
    pages.change_setting(page, 'right', '1 truth')
    pages.set_range(page, 'split', 0)
    assert page.locator('#over').is_visible()
    _, truth = drives.scene()
    at = truth[-1] == drives.ROCKS
    row = pages.shown(page)[-1][at][:, :3].astype(int)
    assert (np.ptp(row, axis=1) < 60).all()  # rocks are grey, what is below them is sky


def test_a_run_without_truth(results, visit, pages, tmp_path):
    folder = without_truth(pages, results[0], tmp_path / 'run')
    page = visit(write_drive_report([folder], tmp_path / 'page'))
    for name in ('classes-section', 'confusion-section', 'confidence-section', 'extremes-section'):
        assert page.locator(f'#{name}').is_hidden(), name
    cards = dict(reversed(text.split('\n')) for text in page.locator('.card').all_inner_texts())
    assert cards['frames labelled'] == '14 of 16'
    assert not any('IoU' in name for name in cards)
    options = page.locator('#right option').all_inner_texts()
    assert options == ['picture', 'traversability', 'classes']
    assert page.locator('#metric option').first.inner_text() == 'share of unknown pixels'
    assert page.locator('#shares .nsewdrag').is_visible()
    assert 'truth' not in pages.point_at(page, 0.9, 0.9)


def test_what_only_a_later_run_has(drives, results, visit, pages, tmp_path, frame_1):
    def leave_out(row):
        return f'{row["camera"]}/{row["name"]}' != frame_1

    before = pages.changed(results[0], tmp_path / 'before', leave_out)
    (before / 'report' / 'frames' / f'{frame_1}.js').unlink()

    def report(summary):
        summary['recording']['front'] |= {'num_missing': 7, 'num_gaps': 1, 'gaps': [
            {'start_ns': drives.START_NS, 'length_s': 0.25, 'missing': 7}
        ]}  # fmt: skip
        summary['problems'] = [{'problem': 'too dark', 'count': 3}]

    after = pages.changed(results[1], tmp_path / 'after', change_summary=report)
    page = visit(write_drive_report([before, after], tmp_path / 'page'))
    assert page.locator('#frame').get_attribute('max') == '15'
    page.select_option('#camera', 'front')
    page.locator('#timeline').scroll_into_view_if_needed()
    box = page.locator('#timeline .nsewdrag').bounding_box()
    place = page.evaluate(
        """(path) => {
        const chart = document.getElementById('timeline');
        const trace = chart.data.find((t) => t.customdata.includes(path));
        const at = trace.customdata.indexOf(path);
        const { xaxis, yaxis } = chart._fullLayout;
        return [trace.name, xaxis.d2p(trace.x[at]), yaxis.d2p(trace.y[at])];
        }""",
        frame_1,
    )
    assert place[0] == 'after: front'
    page.mouse.move(box['x'] + place[1] - 3, box['y'] + place[2] + 2)
    page.mouse.click(box['x'] + place[1], box['y'] + place[2])
    pages.wait_for_frame(page, frame_1)
    assert page.locator('#under-missing').inner_text() == 'This run has no such frame.'
    assert page.locator('#over').is_visible()
    assert pages.column(page, 'recording', 2) == ['before', 'before', 'after', 'after']
    assert pages.column(page, 'problems', 1) == ['2', '3']
    assert pages.column(page, 'problems', 2) == ['before', 'after']
    assert [pages.column(page, 'gaps', place)[-1] for place in (1, 2, 4)] == [
        'front',
        'after',
        '0.250',
    ]
    shapes = page.evaluate("() => document.getElementById('timeline').layout.shapes")
    assert [shape['x1'] for shape in shapes if shape['type'] == 'rect'] == [0.25]
    assert [name for name in traces(page, 't.name') if 'problem' in name] == [
        'before: problem',
        'after: problem',
    ]


def contrast_with_white(color):
    values = np.array([int(color[place : place + 2], 16) for place in (1, 3, 5)]) / 255
    linear = np.where(values > 0.04045, ((values + 0.055) / 1.055) ** 2.4, values / 12.92)
    return (WHITE + 0.05) / (linear @ [0.2126, 0.7152, 0.0722] + 0.05)


def test_three_runs(results, visit, pages, tmp_path):
    def count(summary):
        for counts in summary['counts'].values():
            for true, row in enumerate(counts['confusion_matrix']):
                for predicted, number in enumerate(row[:-1]):
                    counts['calibration'][predicted][int(true == predicted)][200] += number

    changes = (None, count, count)
    folders = [
        pages.changed(results[place % 2], tmp_path / f'run {place}', change_summary=change)
        for place, change in enumerate(changes)
    ]
    page = visit(write_drive_report(folders, tmp_path / 'page'))
    heads = page.locator('#extremes h3').all_inner_texts()
    assert heads == [
        'Changed most in run 1',
        'Changed most in run 2',
        'Worst of run 0',
        'Best of run 0',
    ]
    colors = [color for color in traces(page, 't.line?.color') if color]
    assert len(set(colors)) == 6
    assert min(map(contrast_with_white, colors)) >= 3
    assert page.locator('#operating-run option').all_inner_texts() == ['run 1', 'run 2']
    curves = "() => document.getElementById('operating').data.map((t) => [t.name, t.y[0]])"
    assert dict(page.evaluate(curves)) == {'Rocks': 0.5, 'Landscape': 1, 'Sky': None}
    page.select_option('#operating-run', '2')
    assert dict(page.evaluate(curves)) == {'Rocks': None, 'Landscape': 1, 'Sky': 0.5}
    legend = page.locator('#operating .legendtext').all_text_contents()
    assert legend == ['Rocks', 'Landscape', 'Sky']
    page.select_option('#metric', 'change miou_present')
    assert traces(page, 't.name')[:2] == ['run 1 − run 0', 'run 2 − run 0']
