"""Where the labels of a drive are looked for: folders of bags, results, what is called alike."""

import json
import shutil

import cv2
import numpy as np
import pytest

from offroad_seg_core.bags.writing import Header, MessageBag
from offroad_seg_core.evaluation.drive_places import check_names
from offroad_seg_core.evaluation.drive_report.data import read_results
from offroad_seg_core.evaluation.label_comparison import compare_labels
from offroad_seg_core.evaluation.predictors import RecordedPredictor
from offroad_seg_core.evaluation.sources.frame import SourceError
from offroad_seg_core.evaluation.summary import ResultError

CLASSES = {'monday': 1, 'fri day': 2}
NUM_FRAMES = 3


def write_masks(drives, path, value):
    """Write what a live node says of a simulated drive: masks of one class."""
    with MessageBag(path) as bag:
        for index in range(1, NUM_FRAMES + 1):
            header, mask = Header(index * drives.STEP_NS), np.full(drives.SIZE, value, np.uint8)
            bag.write_image('/front/segmentation/mask', index, header, mask, 'mono8')
    return path


@pytest.fixture
def week(drives, tmp_path):
    """Two simulated drives with equal stamps, each of one class."""
    for name, value in CLASSES.items():
        picture = drives.TAXONOMY.palette_bgr[np.full(drives.SIZE, value)]
        with MessageBag(tmp_path / name) as bag:
            for index in range(1, NUM_FRAMES + 1):
                stamp_ns = index * drives.STEP_NS
                bag.write_image(
                    '/front/image_raw', stamp_ns, Header(stamp_ns, 'front'), picture, 'bgr8'
                )
    return [tmp_path / name for name in CLASSES]


@pytest.fixture(params=['folders', 'files'])
def truths(drives, tmp_path, request):
    """A folder with the truth of each drive: a bag, or its one file alone."""
    home = tmp_path / 'truths'
    for name, value in CLASSES.items():
        bag = write_masks(drives, home / name, value)
        if request.param == 'files':
            (bag / f'{name}.mcap').rename(home / f'{name}.mcap')
            shutil.rmtree(bag)
    return home


def test_each_drive_has_the_bag_of_its_name(drives, predictor, week, truths, tmp_path):
    total = NUM_FRAMES * len(week)
    both = drives.evaluated(predictor, tmp_path / 'both', week, truth=truths)
    assert (drives.scores(both), drives.summary(both)['notes']) == ((total, total, 1.0), [])
    for number, drive in enumerate(week):
        alone = drives.evaluated(predictor, tmp_path / f'{number}', [drive], truth=truths)
        assert drives.scores(alone) == (NUM_FRAMES, NUM_FRAMES, 1.0)
    costs = predictor.cost_table
    recorded = RecordedPredictor(drives.TAXONOMY, costs, {'model': 'recorded'})
    places = {'truth': both / 'labels', 'recorded': truths}
    live = drives.evaluated(recorded, tmp_path / 'live', week, **places)
    assert drives.scores(live) == (total, total, 1.0)
    found = compare_labels(both, truths)
    assert (found.num_identical, found.agrees) == (total, True)


def test_a_drive_alone_gets_no_bag_of_another(drives, week, truths):
    shutil.rmtree(truths / 'monday', ignore_errors=True)
    (truths / 'monday.mcap').unlink(missing_ok=True)
    with pytest.raises(SourceError, match='expected label maps, or a bag called monday'):
        drives.source_of(week[:1], truth=truths)
    with pytest.raises(SourceError, match='expected a bag, or a folder with one called monday'):
        drives.source_of(week[:1], recorded=truths)


def test_two_bags_of_a_name_are_refused(drives, week, tmp_path):
    for name in ('x', 'y'):
        write_masks(drives, tmp_path / name / 'monday', 1)
    shutil.copy(tmp_path / 'x' / 'monday' / 'monday.mcap', tmp_path / 'y')
    told = r'got \S*y/monday and \S*monday\.mcap for one drive, expected one bag; fix: remove one'
    with pytest.raises(SourceError, match=told):
        drives.source_of(week[:1], truth=tmp_path / 'y')
    with pytest.raises(SourceError, match=told):
        compare_labels(tmp_path / 'y', tmp_path / 'x')


def test_the_files_of_a_bag_that_lost_its_metadata_are_one_bag(drives, predictor, week, tmp_path):
    truth = write_masks(drives, tmp_path / 'recorded', 1)
    (truth / 'metadata.yaml').unlink()
    (truth / 'recorded.mcap').rename(truth / 'recorded_0.mcap')
    shutil.copy(truth / 'recorded_0.mcap', truth / 'recorded_1.mcap')
    folder = drives.evaluated(predictor, tmp_path / 'r', week[:1], truth=truth)
    assert drives.scores(folder) == (NUM_FRAMES, NUM_FRAMES, 1.0)
    assert compare_labels(folder, truth).num_identical == NUM_FRAMES


@pytest.mark.parametrize('of', ['run', 'run_3'])
def test_labels_that_name_a_drive_of_which_there_are_two_are_refused(drives, tmp_path, of):
    names = {'run': 'a/run', 'run_3': 'b/run', 'run_2': 'b/run_2'}
    truth = tmp_path / 'truth'
    write_masks(drives, truth / 'run_2', 1)
    check_names(names, [truth, None])  # it is of the only one that is called so
    write_masks(drives, truth / of, 1)
    with pytest.raises(SourceError) as told:
        check_names(names, [None, truth])
    assert str(told.value) == (
        f'{truth / of}: got labels of a drive called {of}, expected those of one drive; a/run and '
        'b/run have one name; fix: rename one of these, or evaluate each by itself'
    )
    (truth / of).rename(tmp_path / 'aside')
    (truth / of / 'front').mkdir(parents=True)
    with pytest.raises(SourceError, match='a/run and b/run have one name'):
        check_names(names, [truth])
    check_names({'run': 'a/run', 'run_3': 'b/drive'}, [truth])


def test_a_drive_is_not_its_own_truth(drives, predictor, week, tmp_path):
    """Files of labels lie beside the bag that is evaluated, which has the name of the drive."""
    mission, file = tmp_path / 'mission', tmp_path / 'files' / 'run.mcap'
    for folder in (mission, file.parent):
        folder.mkdir()
    week[0].rename(mission / 'bag')
    shutil.copy(mission / 'bag' / 'monday.mcap', file)
    for bag in (mission / 'bag', file):
        (bag.parent / 'front').mkdir()
        for index in range(1, NUM_FRAMES + 1):
            mask = np.full(drives.SIZE, CLASSES['monday'], np.uint8)
            cv2.imwrite(str(bag.parent / 'front' / f'{index * drives.STEP_NS}.png'), mask)
        folder = drives.evaluated(predictor, tmp_path / 'r', [bag], truth=bag.parent)
        assert drives.scores(folder) == (NUM_FRAMES, NUM_FRAMES, 1.0)


def test_an_older_result_is_to_be_made_again(drives, predictor, week, tmp_path):
    """Its labels of several drives lie elsewhere."""
    folder = drives.evaluated(predictor, tmp_path / 'r', week)
    path = folder / 'summary.json'
    path.write_text(json.dumps(drives.summary(folder) | {'format_version': 1}))
    told = r'summary\.json: got version 1, expected 2; evaluate again with this version'
    for read in (
        lambda: read_results([folder]),
        lambda: compare_labels(folder, folder),
        lambda: drives.source_of(week, truth=folder),
        lambda: drives.source_of(week, recorded=folder),
    ):
        with pytest.raises(ResultError, match=told):
            read()
