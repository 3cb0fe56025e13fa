"""The page in places that are rare: markup in names, lost files, phones, thousands of frames."""

import json
import re
import shutil

import pytest

pytest.importorskip('plotly')

from offroad_seg_core.evaluation.drive_report import build
from offroad_seg_core.evaluation.drive_report.build import write_drive_report

PHONE = {'has_touch': True, 'is_mobile': True}
LONG = 'a_run_whose_name_is_so_long_that_no_phone_shows_it_in_a_line'
TEXTS = """(id) => [...document.querySelectorAll(`#${id} text`)].map((e) => e.textContent)"""


@pytest.fixture
def large(monkeypatch):
    """Frames lie in files beside the page, however few they are."""
    monkeypatch.setattr(build, '_EMBEDDED_BYTES', 0)


def test_names_are_no_markup(results, visit, pages, tmp_path):
    names = {'Rocks': '<b>R&amp;cks</b>', 'front': '<i>f</i>&lt;'}
    folders = [tmp_path / '<u>run & co<', tmp_path / 'after']
    for result, folder, wanted in zip(results, folders, (names, ['Rocks']), strict=True):
        shutil.copytree(result, folder)
        for name in ('summary.json', 'frames.csv'):
            text = (folder / name).read_text()
            for old in wanted:
                text = text.replace(old, names[old])
            (folder / name).write_text(text)
    page = visit(write_drive_report(folders, tmp_path / 'page'))
    texts = page.evaluate(TEXTS, 'confusion')
    assert '<b>R&amp;cks</b>' in texts
    assert '<u>run & co<: <i>f</i>&lt;' in page.evaluate(TEXTS, 'timeline')
    assert pages.column(page, 'classes', 1)[7] == '<b>R&amp;cks</b>'
    options = page.locator('#camera option').all_inner_texts()
    assert options == ['all', '<i>f</i>&lt;', 'rear', 'front']
    assert page.locator('main :is(b:not(.card b), i, u)').count() == 0


def test_a_thumbnail_by_keyboard(results, visit):
    page = visit(results[0] / 'report' / 'index.html')
    last = page.locator('.thumb').last
    told = last.locator('span').first.inner_text()
    last.focus()
    page.keyboard.press('Enter')
    page.wait_for_function("() => document.activeElement.id === 'frame'")
    camera, when = told.split(', ')
    caption = page.locator('#caption').inner_text()
    assert caption.startswith(f'{camera}, {when.removesuffix(" s")}')


def test_thumbnails_of_frames_without_a_picture_say_so(results, visit, tmp_path):
    folder = shutil.copytree(results[0], tmp_path / 'run')
    shutil.rmtree(folder / 'report' / 'frames' / 'rear')
    page = visit(write_drive_report([folder], tmp_path / 'page'))
    rear = page.locator('.thumb', has_text='rear').last
    rear.scroll_into_view_if_needed()
    rear.get_by_text('No picture was kept of this frame.').wait_for()
    assert rear.locator('canvas').count() == 0
    front = page.locator('.thumb', has_text='front').last
    assert front.locator('canvas').count() == 1


def test_frames_that_were_left_behind(results, visit, tmp_path, large):
    page_path = write_drive_report([results[0]], tmp_path / 'page')
    shutil.rmtree(tmp_path / 'page' / 'frames')
    page = visit(page_path, expected='ERR_FILE_NOT_FOUND')
    told = page.locator('#over-missing').inner_text()
    assert re.fullmatch(r'Not found: frames/front/\d+\.js must lie beside this page\.', told)


def test_a_frame_is_loaded_once_for_both_sides(results, visit, tmp_path, large):
    page = visit(write_drive_report([results[0]], tmp_path / 'page'))
    asked = []
    page.on('request', lambda request: asked.append(request.url))
    page.locator('#next').click()
    page.wait_for_selector('#stage[data-frame^="rear/"]')
    assert len(asked) == len(set(asked))


def test_a_small_rate_is_not_none(drives, results, visit, pages, tmp_path):
    def change(summary):
        summary['scores']['together']['scores']['false_safe_rate'] = 0.0002
        for counts in summary['counts'].values():
            row = counts['confusion_matrix'][drives.ROCKS]
            row[drives.SKY], row[drives.LANDSCAPE] = 999_900, 100

    folder = pages.changed(results[0], tmp_path / 'run', change_summary=change)
    page = visit(write_drive_report([folder], tmp_path / 'page'))
    cards = page.locator('.card').all_inner_texts()
    assert '< 0.001\nfalse safe' in cards
    names, rates = (pages.column(page, 'classes', place) for place in (1, 5))
    assert dict(zip(names, rates, strict=True))['Rocks'] == '< 0.001'


def test_a_comparison_on_a_phone(results, visit, tmp_path):
    assert len(LONG) == 60
    folder = shutil.copytree(results[0], tmp_path / LONG)
    page = visit(write_drive_report([folder, results[1]], tmp_path / 'page'), 360, **PHONE)
    assert page.evaluate('document.documentElement.scrollWidth') == 360
    # A finger that starts on a chart scrolls the page, a tap shows the frame.
    page.locator('#timeline').scroll_into_view_if_needed()
    box = page.locator('#timeline .nsewdrag').bounding_box()
    before = page.evaluate('window.scrollY')
    page.touchscreen.tap(box['x'] + box['width'] - 4, box['y'] + box['height'] / 2)
    page.wait_for_function("() => Number(document.getElementById('frame').value) > 8")
    touch = page.context.new_cdp_session(page)
    x, y = box['x'] + box['width'] / 2, box['y'] + box['height'] / 2
    points = [{'x': x, 'y': y - 20 * step} for step in range(10)]
    for kind, point in zip(('touchStart', *['touchMove'] * 9), points, strict=True):
        touch.send('Input.dispatchTouchEvent', {'type': kind, 'touchPoints': [point]})
    touch.send('Input.dispatchTouchEvent', {'type': 'touchEnd', 'touchPoints': []})
    page.wait_for_function('(before) => window.scrollY > before + 50', arg=before)


def test_thousands_of_changes_and_problems(results, visit, pages, tmp_path, large):
    def change(index, row):
        row['problem'] = 'too dark' if index % 2 else ''
        row['pixel_accuracy'] = str(index % 7 / 10)

    folders = [
        pages.multiplied(results[place], tmp_path / f'run{place}', 6_000, change)
        for place in (0, 1)
    ]
    page = visit(write_drive_report(folders, tmp_path / 'page'))
    page.select_option('#metric', 'change pixel_accuracy')
    kinds = "() => document.getElementById('timeline').data.map((t) => [t.name, t.x.length])"
    assert page.evaluate(kinds) == [
        ['run1 − run0', 6_000],
        ['run0: problem', 3_000],
        ['run1: problem', 3_000],
    ]
    assert page.locator('#timeline .points path').count() <= 3_003
    # What has no mark of its own can be shown as well.
    page.locator('#timeline').scroll_into_view_if_needed()
    box = page.locator('#timeline .nsewdrag').bounding_box()
    for x in range(3):
        page.mouse.move(box['x'] + 301 + x, box['y'] + 40)
    page.mouse.click(box['x'] + 304, box['y'] + 40)
    page.wait_for_function("() => document.getElementById('frame').value > 100")


def test_a_note_belongs_to_its_run(results, visit, pages, tmp_path):
    def note(summary):
        summary['notes'] = ['the disk was full']

    after = pages.changed(results[1], tmp_path / 'after', change_summary=note)
    page = visit(write_drive_report([results[0], after], tmp_path / 'page'))
    assert page.locator('#notes li').all_inner_texts() == ['after: the disk was full']
    assert json.loads((after / 'summary.json').read_text())['notes'] == ['the disk was full']
