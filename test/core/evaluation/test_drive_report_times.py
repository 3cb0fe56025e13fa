"""Where frames lie in time: datasets, single frames, several drives, gaps, sparse truth."""

import cv2
import numpy as np
import pytest

pytest.importorskip('plotly')

from offroad_seg_core.datasets.folder import read_folder
from offroad_seg_core.evaluation.drive_report.build import write_drive_report
from offroad_seg_core.evaluation.drive_report.data import page_data, read_results
from offroad_seg_core.evaluation.evaluate import Evaluation, evaluate
from offroad_seg_core.evaluation.inputs import open_frames
from offroad_seg_core.evaluation.sources.combining import SeveralSources
from offroad_seg_core.evaluation.sources.dataset import DatasetFrames

DAY_NS = 86_400 * 10**9
GAPS = """() => document.getElementById('timeline').layout.shapes
    .filter((shape) => shape.type === 'rect').map((shape) => [shape.x0, shape.x1])"""


@pytest.fixture
def dataset(drives, predictor, tmp_path):
    """Return a function that evaluates a dataset of so many frames."""

    def made(count):
        labels, truth = drives.scene()
        for name in ('images', 'labels'):
            (tmp_path / 'set' / name).mkdir(parents=True)
        for index in range(count):
            image = drives.TAXONOMY.palette_bgr[labels]
            cv2.imwrite(str(tmp_path / 'set' / 'images' / f'{index:02d}.png'), image)
            cv2.imwrite(str(tmp_path / 'set' / 'labels' / f'{index:02d}.png'), truth)
        source = DatasetFrames(read_folder(tmp_path / 'set', drives.TAXONOMY), 'mine')
        return evaluate(Evaluation(source, predictor, tmp_path / 'result'), lambda count: None)

    return made


@pytest.fixture
def week(drives, predictor, tmp_path):
    """Two drives a day apart, of the first of which frames were dropped, and pictures."""
    labels, _ = drives.scene()
    (tmp_path / 'pictures').mkdir()
    for index in range(4):
        image = drives.TAXONOMY.palette_bgr[labels]
        cv2.imwrite(str(tmp_path / 'pictures' / f'{index}.png'), image)
    begins = drives.START_NS, drives.START_NS + DAY_NS
    drives.write_drive(tmp_path / 'monday', dropped=(3, 4))
    drives.write_drive(tmp_path / 'tuesday', ('front',), 8, start_ns=begins[1], dropped=(5,))
    names = ('monday', 'tuesday', 'pictures')
    source = SeveralSources({name: open_frames(tmp_path / name) for name in names})
    return evaluate(Evaluation(source, predictor, tmp_path / 'result'), lambda count: None)


def test_drives_follow_each_other_on_the_axis(week):
    (run,) = page_data(read_results([week]))['runs']
    cameras = np.array(run['frames']['cameras'])[run['frames']['camera']]
    seconds = np.array(run['frames']['seconds'])
    wanted = {
        'monday/front': [0.0, 0.1, 0.2, 0.5, 0.6, 0.7],
        'monday/rear': [0.0, 0.1, 0.2, 0.5, 0.6, 0.7],
        'tuesday/front': [0.8, 0.9, 1.0, 1.1, 1.2, 1.4, 1.5],
        'pictures/pictures': [1.6, 1.8, 2.0, 2.2],
    }
    assert {name: seconds[cameras == name].tolist() for name in wanted} == wanted
    gaps = {
        name: [(gap['seconds'], gap['length_s']) for gap in facts['gaps']]
        for name, facts in run['recording'].items()
    }
    assert gaps == {
        'monday/front': [(0.2, 0.3)],
        'monday/rear': [(0.2, 0.3)],
        'tuesday/front': [(1.2, 0.2)],
    }
    for name, shares in run['shares'].items():
        assert min(wanted[name]) <= min(shares['seconds']) <= max(shares['seconds'])
        assert max(shares['seconds']) <= max(wanted[name])


def test_gaps_of_several_drives(week, visit, pages):
    page = visit(week / 'report' / 'index.html')
    assert pages.column(page, 'gaps', 1) == ['monday/front', 'monday/rear', 'tuesday/front']
    assert pages.column(page, 'gaps', 2) == ['0.20', '0.20', '1.20']
    assert pages.column(page, 'gaps', 3) == ['0.300', '0.300', '0.200']
    assert pages.column(page, 'gaps', 4) == ['2', '2', '1']
    assert len(page.evaluate(GAPS)) == 2  # both cameras of monday have the same one
    page.select_option('#camera', 'tuesday/front')
    assert page.evaluate(GAPS) == [[1.2, pytest.approx(1.4)]]
    page.select_option('#camera', 'pictures/pictures')
    assert page.evaluate(GAPS) == []


def test_a_dataset_is_counted(dataset, visit, pages):
    page = visit(dataset(6) / 'report' / 'index.html')
    x = page.evaluate("() => document.getElementById('shares').data[0].x")
    assert len(x) == 6
    assert np.ptp(x) > 4
    assert page.evaluate("() => document.getElementById('timeline').data[0].x") == [*range(6)]
    titles = '(id) => document.getElementById(id).layout.xaxis.title.text'
    assert [page.evaluate(titles, name) for name in ('shares', 'timeline')] == ['frame', 'frame']
    pages.set_range(page, 'frame', 3)
    assert page.locator('#caption').inner_text().startswith('set, number 3')
    assert page.locator('#recording-section').is_hidden()


def test_a_single_frame(dataset, visit):
    folder = dataset(1)
    (run,) = page_data(read_results([folder]))['runs']
    assert run['frames']['seconds'] == run['shares']['set']['seconds'] == [0]
    page = visit(folder / 'report' / 'index.html')
    assert page.locator('#shares .points path').count() >= 2  # an area of no width shows nothing
    assert page.locator('#timeline .points path').count() == 1
    page.locator('#next').click()
    assert page.locator('#frame').input_value() == '0'


def test_truth_here_and_there_is_drawn(results, visit, pages, tmp_path):
    """Values between frames without one are points of no line."""

    def sparse(index, row):
        row['problem'] = ''
        row['miou_present'] = '0.25' if row['camera'] == 'front' and index % 20 < 2 else ''

    source = pages.multiplied(results[0], tmp_path / 'sparse', 12_000, sparse)
    page = visit(write_drive_report([source], tmp_path / 'page'))
    page.select_option('#camera', 'front')
    assert page.locator('#timeline .points path').count() > 100

    def few(index, row):
        row['problem'] = ''
        row['miou_present'] = '0.25' if index % 300 < 2 else ''

    source = pages.multiplied(results[0], tmp_path / 'few', 3_000, few)
    page = visit(write_drive_report([source], tmp_path / 'other'))
    page.select_option('#camera', 'front')
    assert page.locator('#timeline .points path').count() == 10


def test_a_click_on_the_shares_shows_the_nearest_labelled_frame(drives, results, visit):
    page = visit(results[0] / 'report' / 'index.html')
    page.select_option('#share-camera', '[0,"rear"]')
    page.locator('#shares').scroll_into_view_if_needed()
    box = page.locator('#shares .nsewdrag').bounding_box()
    # Frame 2 has no labels; the last one does.
    page.mouse.move(box['x'] + box['width'] - 5, box['y'] + 20)
    page.mouse.click(box['x'] + box['width'] - 2, box['y'] + 20)
    page.wait_for_selector(f'#stage[data-frame="rear/{drives.START_NS + 7 * drives.STEP_NS}"]')
    assert page.evaluate('document.activeElement.id') == 'frame'
