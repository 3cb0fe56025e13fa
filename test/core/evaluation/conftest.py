import csv
from functools import partial
from importlib.util import module_from_spec, spec_from_file_location
import json
from pathlib import Path
import shutil

import cv2
import numpy as np
import pytest

NAMES = ('ground', 'bush', '<i>rock</i>')
# Rows: truth. Last column: predicted unlabeled.
HERE = [[60, 20, 0, 0], [10, 10, 0, 0], [0, 0, 0, 0]]
THERE = [[50, 0, 40, 10], [0, 0, 0, 0], [0, 0, 0, 0]]


@pytest.fixture(scope='session')
def write_run_files():
    """Return a function that writes a run's files as training does."""

    def write(folder, name, names=NAMES, environments=None, without=()):
        folder.mkdir(parents=True)
        environments = {'here': HERE, 'there': THERE} if environments is None else environments
        iou = dict.fromkeys(names, 0.25)
        config = {'name': name, 'loss': {'terms': [{'name': 'dice'}]}, 'dataset': {'kind': 'x'}}
        with open(folder / 'steps.csv', 'w', newline='') as stream:
            writer = csv.writer(stream)
            writer.writerow(['step', 'learning_rate', 'dice', 'total'])
            writer.writerows([[1, 0.001, 0.75, 1.5], [10, 0.01, 0.5, 1.0], [20, 0.0, 0.25, 0.5]])
        with open(folder / 'validation.jsonl', 'w') as stream:
            for step, miou in ((10, 0.25), (20, 0.5)):
                row = {'step': step, 'pixel_accuracy': 0.5, 'miou': 0.125, 'miou_present': miou}
                stream.write(json.dumps({**row, 'iou': {**iou, names[-1]: None}}) + '\n')
        content = {
            'step': 20,
            'best_step': 20,
            'elapsed_s': 90.0,
            'scores': {'iou': iou},
            'config': config,
            'environments': {
                key: {'confusion_matrix': np.array(rows).tolist()}
                for key, rows in environments.items()
            },
        }
        (folder / 'result.json').write_text(json.dumps(content))
        for file in without:
            (folder / file).unlink()
        return folder

    return write


@pytest.fixture
def write_run(write_run_files, tmp_path):
    """Return ``write_run_files`` with a folder of the test's own."""

    def write(name='run', folder=None, **options):
        return write_run_files(folder or tmp_path / 'runs' / name, name, **options)

    return write


def load_beside(name):
    spec = spec_from_file_location(name, Path(__file__).with_name(f'{name}.py'))
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope='session')
def drives():
    """The module that writes small drives and evaluates them."""
    pytest.importorskip('rosbags')
    module = load_beside('drives')
    with pytest.MonkeyPatch.context() as patch:
        module.make_parts_small(patch.setattr)
        yield module


@pytest.fixture(scope='session')
def fleets(drives):
    """The module that evaluates drives in chunks."""
    return load_beside('fleets')


@pytest.fixture(scope='session')
def played():
    """The module that plays a cluster."""
    pytest.importorskip('ray', reason='fleets need requirements/fleet.txt')
    return load_beside('played_ray')


@pytest.fixture
def perform(played, monkeypatch, tmp_path):
    """Return a function that lets a crew do chunks on a cluster that is played."""
    return partial(played.perform, monkeypatch, tmp_path)


@pytest.fixture(scope='session')
def pages():
    """The module that reads and moves what a report's page shows, and changes results."""
    return load_beside('report_pages')


@pytest.fixture
def worker_threads(monkeypatch):
    """A worker of a fleet sets its process's threads; undo that where it is the test's own."""
    monkeypatch.setenv('OMP_NUM_THREADS', '1')
    yield
    cv2.setNumThreads(-1)


@pytest.fixture
def predictor(palette_bundle):
    """Labels taxonomy colours exactly, with the engine that starts fastest."""
    from offroad_seg_core.evaluation.predictors import SegmenterPredictor
    from offroad_seg_core.inference.segmenter import Segmenter

    found = SegmenterPredictor(Segmenter.open(palette_bundle, 'onnxruntime', num_threads=1))
    yield found
    found.close()


@pytest.fixture(scope='module')
def browser():
    playwright = pytest.importorskip('playwright.sync_api', reason='playwright is not installed')
    chromium = shutil.which('chromium') or shutil.which('google-chrome')
    if chromium is None:
        pytest.skip('no chromium on this machine: apt-get install chromium')
    with playwright.sync_playwright() as started:
        arguments = ['--no-sandbox', '--disable-gpu', '--disable-background-networking']
        running = started.chromium.launch(executable_path=chromium, args=arguments)
        yield running
        running.close()


@pytest.fixture
def visit(browser):
    """Return a function that opens a page; in the end nothing may have gone wrong in it."""
    wrong, requests, contexts = [], [], []

    def open_page(path, width=1200, expected='nothing', **options):
        context = browser.new_context(viewport={'width': width, 'height': 800}, **options)
        contexts.append(context)
        context.set_default_timeout(100_000)
        page = context.new_page()

        def told(said):
            if said.type == 'error' and expected not in said.text:
                wrong.append(said.text)

        page.on('pageerror', lambda error: wrong.append(str(error)))
        page.on('console', told)
        page.on('request', lambda request: requests.append(request.url))
        page.goto(path.as_uri())
        page.wait_for_selector('body[data-ready=yes]')
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert wrong == []
    assert {url.partition(':')[0] for url in requests} <= {'file', 'data', 'blob'}


@pytest.fixture(scope='session')
def labelled_drive(drives, tmp_path_factory):
    """Eight frames of two cameras; of one frame the node said nothing."""
    return drives.write_drive(tmp_path_factory.mktemp('drive') / 'drive')


@pytest.fixture(scope='session')
def results(drives, labelled_drive, tmp_path_factory):
    """Two results of the drive: labels as they are, and with the sky called rocks."""
    from offroad_seg_core.evaluation.evaluate import Evaluation, evaluate
    from offroad_seg_core.evaluation.inputs import find_truth, open_frames
    from offroad_seg_core.evaluation.outputs.report_frames import ReportFrames
    from offroad_seg_core.evaluation.predictors import RecordedPredictor
    from offroad_seg_core.evaluation.sources.combining import LabelledFrames

    home, made = tmp_path_factory.mktemp('results'), []
    labels, _ = drives.scene()
    for name, sky in (('before', drives.SKY), ('after', drives.ROCKS)):
        said = np.where(labels == drives.SKY, np.uint8(sky), labels)

        class Labels:
            notes = ()

            def attach(self, key, frames, said=said):
                for part, frame in frames:
                    if frame.stamp_ns != drives.START_NS + 2 * drives.STEP_NS:
                        frame.maps[key] = lambda: said
                    yield part, frame

            def identity(self):
                return {}

        frames = open_frames(labelled_drive)
        maps = {'label_map': Labels(), 'target': find_truth(frames, drives.TAXONOMY, drives.AUTO)}
        model = {'model': name, 'engine': 'by hand', 'options': {'sky': sky}}
        predictor = RecordedPredictor(drives.TAXONOMY, drives.TAXONOMY.cost_table(), model)
        evaluation = Evaluation(
            LabelledFrames(frames, maps), predictor, home / name, sinks=(ReportFrames(),),
            title='<b>desert</b>',
        )  # fmt: skip
        made.append(evaluate(evaluation, lambda count: None))
    return made
