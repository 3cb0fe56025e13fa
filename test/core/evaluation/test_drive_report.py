"""The report in a real browser: what people see, click and slide, without any network."""

import json
import shutil

import numpy as np
import pytest

pytest.importorskip('plotly')

from offroad_seg_core.evaluation.drive_report import build
from offroad_seg_core.evaluation.drive_report.build import write_drive_report


def test_cards_and_tables_say_what_was_measured(pages, results, visit):
    page = visit(results[0] / 'report' / 'index.html')
    assert page.title() == '<b>desert</b>'
    assert page.locator('h1').inner_text() == '<b>desert</b>'
    cards = dict(reversed(text.split('\n')) for text in page.locator('.card').all_inner_texts())
    assert cards['frames labelled'] == '14 of 16'
    # Landscape is right, half of the sky is, rocks are missed.
    assert cards['mIoU, classes in the truth'] == '0.500'
    assert cards['mIoU, all classes, absent as 0'] == '0.150'
    assert cards['pixels right'] == '0.750'
    assert cards['false safe'] == '0.000'
    assert cards['frames without labels'] == '2'
    scores = dict(
        zip(pages.column(page, 'classes', 1), pages.column(page, 'classes', 4), strict=True)
    )
    assert scores['Sky'] == '0.500'
    assert scores['Landscape'] == '1.000'
    assert scores['Trees'] == '–'
    groups = dict(
        zip(pages.column(page, 'groups', 1), pages.column(page, 'groups', 2), strict=True)
    )
    assert groups == {'rough': '1.000', 'resistant': '–', 'obstacle': '0.000', 'unknown': '0.500'}
    assert pages.column(page, 'recording', 3) == ['1', '1']
    assert pages.column(page, 'problems', 2) == ['no labels were recorded for it']
    assert 'openvino' in ' '.join(pages.column(page, 'versions', 1))
    assert page.locator('.nsewdrag').count() >= 4  # charts that were really drawn
    # These labels came without confidence.
    assert page.locator('#operating').is_hidden()
    assert page.locator('#operating-missing').is_visible()


def test_tables_sort_by_mouse_and_keyboard(pages, results, visit):
    page = visit(results[0] / 'report' / 'index.html')
    head = page.locator('#classes th').nth(3)
    head.locator('button').click()
    assert head.get_attribute('aria-sort') == 'descending'
    assert pages.column(page, 'classes', 1)[:3] == ['Landscape', 'Sky', 'Rocks']
    head.locator('button').focus()
    page.keyboard.press('Enter')
    assert head.get_attribute('aria-sort') == 'ascending'
    # What is undefined stays last.
    assert pages.column(page, 'classes', 1)[:3] == ['Rocks', 'Sky', 'Landscape']
    page.locator('#classes th button').first.click()
    assert pages.column(page, 'classes', 1)[0] == 'Trees'
    assert head.get_attribute('aria-sort') is None


def test_a_click_in_the_timeline_shows_that_frame(pages, drives, results, visit):
    page = visit(results[0] / 'report' / 'index.html')
    pages.wait_for_frame(page, f'front/{drives.START_NS}')
    box = page.locator('#timeline .nsewdrag').bounding_box()
    places = """() => {
        const chart = document.getElementById('timeline');
        const trace = chart.data[1];
        return [trace.customdata[5], chart._fullLayout.xaxis.d2p(trace.x[5]),
                chart._fullLayout.yaxis.d2p(trace.y[5])];
    }"""
    path, x, y = page.evaluate(places)
    page.mouse.move(box['x'] + x - 3, box['y'] + y + 2)
    page.mouse.click(box['x'] + x, box['y'] + y)
    page.wait_for_function(
        'wanted => document.getElementById("stage").dataset.frame.endsWith(wanted)',
        arg=path.rpartition('/')[2],
    )
    assert page.locator('#caption').inner_text().startswith(('front, 0.50 s', 'rear, 0.50 s'))
    # From there on with the keyboard.
    page.locator('#frame').focus()
    page.keyboard.press('ArrowRight')
    assert page.locator('#frame').input_value() in ('11', '12')
    page.keyboard.press('Home')
    pages.wait_for_frame(page, f'front/{drives.START_NS}')
    page.select_option('#camera', 'rear')
    page.locator('#next').press('Enter')
    pages.wait_for_frame(page, f'rear/{drives.START_NS}')


def test_the_slider_reveals_what_was_labelled(pages, drives, results, visit):
    labels, truth = drives.scene()
    page = visit(results[0] / 'report' / 'index.html')
    pages.wait_for_frame(page, f'front/{drives.START_NS}')
    picture, overlay = pages.shown(page, 'under'), pages.shown(page, 'over')
    assert picture.shape == (*drives.SIZE, 4)
    # Sky says nothing about the ground and stays as it is; free ground turns teal.
    np.testing.assert_array_equal(picture[:, 56:], overlay[:, 56:])
    assert (overlay[:, :40, 2] > picture[:, :40, 2] + 20).all()
    for value in (0, 25, 100):
        pages.set_range(page, 'split', value)
        assert page.locator('#over').evaluate('e => e.style.clipPath') == (
            f'inset(0px 0px 0px {value}%)'
        )
    page.locator('#split').focus()
    page.keyboard.press('ArrowLeft')
    assert page.locator('#split').input_value() == '99'

    page.select_option('#right', '0 errors')
    page.wait_for_selector('#stage[data-layers="any picture, 0 errors"]')
    errors = pages.shown(page)
    is_red = (errors[..., 0] > 150) & (errors[..., 1] < 120)
    expected = (truth != labels) & (truth != drives.IGNORE)
    assert (is_red == expected)[truth != drives.IGNORE].mean() > 0.99
    assert (errors[truth == drives.IGNORE][:, :3].max(axis=1) < 90).all()

    stage = page.locator('#stage')
    box = stage.bounding_box()
    stage.hover(position={'x': 0.9 * box['width'], 'y': 0.9 * box['height']})
    page.wait_for_function(  # the browser tells of a movement with its next picture
        'text => document.getElementById("inspector").textContent === text',
        arg='Sky (unknown, cost unknown); truth: Rocks (obstacle, cost 254)',
    )


def test_a_frame_without_labels_has_no_picture_but_a_reason(pages, drives, results, visit):
    page = visit(results[0] / 'report' / 'index.html')
    pages.set_range(page, 'frame', 4)
    pages.wait_for_frame(page, f'front/{drives.START_NS + 2 * drives.STEP_NS}')
    assert 'problem: no labels were recorded' in page.locator('#caption').inner_text()
    assert page.locator('#over-missing').is_visible()
    assert page.locator('.thumb').count() == 12 + 6
    page.locator('.thumb').first.click()
    page.wait_for_selector('#over-missing', state='hidden')


def test_two_runs_beside_each_other(pages, drives, results, visit, tmp_path):
    before = results[0] / 'summary.json'
    page = visit(write_drive_report(results, tmp_path / 'compared'))
    assert page.locator('h1').inner_text() == 'before against after'
    heads = page.locator('#classes thead th').all_inner_texts()
    wanted = ('IoU before', 'IoU after', 'change after', 'false safe after')
    at = {name: next(n for n, t in enumerate(heads, 1) if t.startswith(name)) for name in wanted}
    cells = [pages.column(page, 'classes', at[name]) for name in wanted[:3]]
    rows = dict(zip(pages.column(page, 'classes', 1), zip(*cells, strict=True), strict=True))
    # Where all of the sky is called rocks, half of that is right.
    assert rows['Rocks'] == ('0.000', '0.500', '+0.500')
    assert rows['Sky'] == ('0.500', '0.000', '−0.500')
    cards = page.locator('.card').all_inner_texts()
    assert '0.500\nmIoU, classes in the truth (+0.000)' in cards
    assert json.loads(before.read_text())['model']['model'] == 'before'

    page.select_option('#metric', 'change miou_present')
    page.wait_for_function("() => document.getElementById('timeline').data[0].name.includes('−')")
    changes = page.evaluate("() => document.getElementById('timeline').data[0].y")
    assert changes == [0] * 14
    options = page.locator('#right option').all_inner_texts()
    assert 'after: traversability' in options
    pages.set_range(page, 'split', 0)
    over, under = pages.shown(page, 'over'), pages.shown(page, 'under')
    np.testing.assert_array_equal(over[:, :40], under[:, :40])
    assert (over[:, 56:] != under[:, 56:]).any(axis=-1).all()  # rocks, and untinted sky


def test_a_comparison_with_a_run_that_differs_in_kind(results, visit, tmp_path):
    """A score of the first is undefined; the other has confidence and its cameras turned round."""
    first, other = (shutil.copytree(r, tmp_path / r.name) for r in results)
    said = json.loads((first / 'summary.json').read_text())
    said['scores']['together']['scores']['false_safe_rate'] = None
    (first / 'summary.json').write_text(json.dumps(said))
    said = json.loads((other / 'summary.json').read_text())
    assert said['scores']['together']['scores']['false_safe_rate'] == 0.0
    for counts in said['counts'].values():
        for true, row in enumerate(counts['confusion_matrix']):
            for predicted, count in enumerate(row[:-1]):
                counts['calibration'][predicted][int(true == predicted)][200] += count
    (other / 'summary.json').write_text(json.dumps(said))
    header, *rows = (other / 'frames.csv').read_text().splitlines()
    rows.sort(key=lambda row: row.startswith('front'))
    (other / 'frames.csv').write_text('\n'.join([header, *rows]) + '\n')

    page = visit(write_drive_report([first, other], tmp_path / 'compared'))
    cards = page.locator('.card').all_inner_texts()
    assert [card for card in cards if 'false safe' in card] == [
        '–\nfalse safe',
        '0.000\nfalse safe',
    ]
    page.select_option('#camera', 'rear')
    traces = page.evaluate("() => document.getElementById('timeline').data.map((t) => t.name)")
    assert traces == ['before: rear', 'after: rear', 'before: problem', 'after: problem']
    paths = page.evaluate("() => document.getElementById('timeline').data[1].customdata")
    assert len(paths) == 8
    assert all(path.startswith('rear/') for path in paths)
    assert page.locator('#operating-run option').all_inner_texts() == ['after']
    assert page.locator('#operating-missing').is_hidden()
    points = "() => document.getElementById('operating').data.map((t) => [t.name, t.x[0], t.y[0]])"
    found = {name: [x, y] for name, x, y in page.evaluate(points)}
    assert found == {'Rocks': [1, 0.5], 'Landscape': [1, 1], 'Sky': [0, None]}


def test_on_a_phone_nothing_is_wider_than_the_screen(results, visit):
    page = visit(results[0] / 'report' / 'index.html', width=360)
    assert page.evaluate('document.documentElement.scrollWidth') == 360
    for name in ('timeline', 'stage', 'split', 'frame', 'metric'):
        box = page.locator(f'#{name}').bounding_box()
        assert box['x'] >= 0, name
        assert box['x'] + box['width'] <= 360, name


def test_everything_has_a_name_for_those_who_do_not_see_it(results, visit):
    page = visit(results[0] / 'report' / 'index.html')
    nameless = page.evaluate("""() => {
        const named = (e) => e.labels?.length || e.ariaLabel || e.textContent.trim()
            || e.getAttribute('aria-hidden') || e.closest('[aria-hidden]');
        return [...document.querySelectorAll('main :is(input, select, button, canvas)')]
            .filter((e) => !named(e)).map((e) => e.outerHTML.slice(0, 80));
    }""")
    assert nameless == []
    assert page.locator('html').get_attribute('lang') == 'en'
    for section in page.locator('main section').all():
        assert page.locator(f'#{section.get_attribute("aria-labelledby")}').count() == 1


def test_ten_thousand_frames_beside_the_page(pages, results, visit, tmp_path, monkeypatch):
    many = tmp_path / 'many'
    pages.multiplied(results[0], many, 10_000)
    monkeypatch.setattr(build, '_EMBEDDED_BYTES', 0)
    page_path = write_drive_report([many], many / 'report')
    assert page_path.stat().st_size < 9 << 20
    assert 'showFrame("' not in page_path.read_text()
    page = visit(page_path)
    assert page.locator('#frame').get_attribute('max') == '9999'
    assert page.locator('*').count() < 6000  # not an element a frame
    pages.set_range(page, 'frame', 9_000)
    assert '900.00 s' in page.locator('#caption').inner_text()
    pages.set_range(page, 'frame', 3)
    page.wait_for_selector('#over-missing', state='hidden')
    assert pages.shown(page).shape == (64, 96, 4)
    # The page may lie anywhere: its frames go with it.
    shutil.move(many, tmp_path / 'moved')
    assert visit(tmp_path / 'moved' / 'report' / 'index.html').locator('#over').is_visible()
