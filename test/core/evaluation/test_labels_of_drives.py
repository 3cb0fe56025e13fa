"""Labels of several drives: each gets its own, also those that an evaluation of them wrote."""

import shutil

import cv2
import numpy as np
import pytest

from offroad_seg_core.bags.writing import Header, MessageBag
from offroad_seg_core.evaluation.inputs import (
    TruthOptions,
    find_truth,
    open_frames,
    recorded_labels,
)
from offroad_seg_core.evaluation.label_comparison import compare_labels
from offroad_seg_core.evaluation.predictors import RecordedPredictor
from offroad_seg_core.evaluation.sources.frame import SourceError

DRIVES = ('monday', 'fri day')
NUM_FRAMES = 20
"""Of each drive: two parts."""


@pytest.fixture(params=[0, 1_700_000_000_000_000_000], ids=['simulated', 'dated'])
def week(drives, tmp_path, request):
    """Two drives with equal stamps; what is left in the one is right in the other."""
    labels, _ = drives.scene()
    for turn, name in enumerate(DRIVES):
        with MessageBag(tmp_path / name) as bag:
            for index in range(1, NUM_FRAMES + 1):
                stamp_ns = request.param + index * drives.STEP_NS
                picture = drives.TAXONOMY.palette_bgr[np.roll(labels, index + 48 * turn, axis=1)]
                for camera in ('front', 'rear'):
                    topic, header = f'/{camera}/image_raw', Header(stamp_ns, camera)
                    bag.write_image(topic, stamp_ns, header, picture, 'bgr8')
    return [tmp_path / name for name in DRIVES]


@pytest.mark.parametrize('place', ['labels', 'labels_bag', '.'])
def test_what_an_evaluation_wrote_is_the_truth_of_its_drives(
    drives, predictor, week, tmp_path, request, place
):
    first = drives.evaluated(predictor, tmp_path / 'first', week)
    total = 2 * 2 * NUM_FRAMES
    assert drives.scores(first) == (total, 0, None)
    (first / 'monday.mcap').touch()  # of --mcap, which is no bag of labels
    again = drives.evaluated(predictor, tmp_path / 'again', week, truth=first / place)
    assert drives.scores(again) == (total, total, 1.0)
    assert drives.summary(again)['notes'] == []
    # Of one of them alone, too, though its camera is called otherwise then.
    alone = drives.evaluated(predictor, tmp_path / 'alone', week[1:], truth=first / place)
    assert drives.scores(alone) == (total / 2, total / 2, 1.0)
    shutil.rmtree(first / 'labels_bag')
    for other in (first, again / 'labels') if 'dated' in request.node.name else (first,):
        found = compare_labels(again / 'labels_bag', other)
        assert (found.num_identical, found.agrees) == (total, True)
        assert found.only_first == found.only_second == []


def test_what_an_evaluation_wrote_is_evaluated_like_a_recording(drives, predictor, week, tmp_path):
    first = drives.evaluated(predictor, tmp_path / 'first', week)
    model = {'model': 'recorded'}
    recorded = RecordedPredictor(drives.TAXONOMY, drives.TAXONOMY.cost_table(), model)
    labels = {'truth': first / 'labels', 'recorded': first}
    again = drives.evaluated(recorded, tmp_path / 'again', week, **labels)
    total = 2 * 2 * NUM_FRAMES
    assert drives.scores(again) == (total, total, 1.0)
    shares = [name for name in drives.table(first)[0] if name.startswith('share_')]
    for before, now in zip(drives.table(first), drives.table(again), strict=True):
        assert [now[name] for name in shares] == [before[name] for name in shares]


@pytest.mark.usefixtures('worker_threads')
def test_fleets_find_the_labels_of_each_drive(drives, fleets, predictor, week, tmp_path):
    pytest.importorskip('fsspec', reason='fleets need requirements/fleet.txt')
    first = drives.evaluated(predictor, tmp_path / 'first', week)
    source = drives.source_of(week, truth=first / 'labels_bag')
    serial = fleets.in_one_go(fleets.evaluation_of(source, predictor, tmp_path / 'serial'))
    folder = fleets.result(fleets.evaluation_of(source, predictor, tmp_path / 'fleet'))
    assert drives.scores(folder) == drives.scores(serial)
    assert drives.scores(folder)[2] == 1.0
    assert fleets.said(drives, folder) == fleets.said(drives, serial)


def test_one_bag_of_labels_without_dates_is_of_no_drive_for_sure(
    drives, predictor, week, tmp_path, request
):
    """Stamps that tell a date are of one drive; others are those of any simulation."""
    one = drives.evaluated(predictor, tmp_path / 'one', week[:1])
    both = drives.evaluated(predictor, tmp_path / 'both', week, truth=one / 'labels_bag')
    notes = drives.summary(both)['notes']
    if 'dated' in request.node.name:
        assert (drives.scores(both)[1], notes) == (2 * 2 * NUM_FRAMES, [])
    else:
        assert (drives.scores(both)[1], len(notes)) == (0, 1)
        assert 'labels_bag: labels were left out: their stamps tell no date' in notes[0]
        assert 'fix: give a folder with a bag for each drive' in notes[0]


def test_a_drive_without_a_bag_in_the_folder_of_bags_is_told(drives, tmp_path):
    drive = drives.write_drive(tmp_path / 'bags' / 'monday', ('front',), 1)
    with pytest.raises(SourceError, match='expected a bag, or a folder with one called friday'):
        recorded_labels(drive.parent, 'friday', is_alone=False)
    truth = TruthOptions(str(drive.parent))
    with pytest.raises(SourceError, match='expected label maps, or a bag called friday; check'):
        find_truth(open_frames(drive), drives.TAXONOMY, truth, 'friday', is_alone=False)


@pytest.fixture
def pictures(drives, tmp_path):
    """Two drives of pictures with the same names, and the truth of each: all is of one class."""

    def write(folder, values):
        folder.mkdir(parents=True)
        for index, value in enumerate(values):
            cv2.imwrite(str(folder / f'{index:04d}.png'), value)
        return folder

    ids = [[np.full(drives.SIZE, k, np.uint8) for k in known] for known in ((1, 2), (3, 4))]
    for name, maps in zip('AB', ids, strict=True):
        write(tmp_path / name, [drives.TAXONOMY.palette_bgr[entry] for entry in maps])
        write(tmp_path / 'labels' / name / 'pictures', maps)
    return [tmp_path / name for name in 'AB']


def test_no_drive_gets_the_truth_of_another_with_frames_of_its_names(
    drives, predictor, pictures, tmp_path
):
    labels = tmp_path / 'labels'

    def told(places, truth=labels):
        folder = drives.evaluated(predictor, tmp_path / 'r', places, truth=truth)
        return drives.scores(folder), drives.summary(folder)['notes']

    assert told(pictures) == ((4, 4, 1.0), [])
    assert told(pictures[1:]) == ((2, 2, 1.0), [])
    shutil.rmtree(labels / 'B')  # which leaves its frames without truth, and nothing else
    for places, score in ((pictures, (4, 2, 1.0)), (pictures[1:], (2, 0, None))):
        left, (note,) = told(places)
        assert left == score
        assert '2 files such as A/pictures/0000.png lie in none of B/pictures/' in note
    # Without the drive they are its where there is one, and of any where there are two.
    for folder in ('labels/A/pictures', 'labels/A'):
        flat = tmp_path / folder
        assert told(pictures[:1], flat) == ((2, 2, 1.0), [])
        score, (note,) = told(pictures, flat)
        assert score == (4, 0, None)
        first = (labels / 'A' / 'pictures' / '0000.png').relative_to(flat)
        assert note == (
            f'{flat}: labels were left out: 2 files such as {first} have names that tell no stamp'
            ', in folders that tell not which of several drives; fix: move them to '
            '<drive>/<camera>/'
        )


def test_two_files_of_one_frame_are_told(drives, predictor, tmp_path):
    labels, _ = drives.scene()
    stamp = '1700000000.500000000'
    with MessageBag(tmp_path / 'drive') as bag:
        header, picture = Header(1_700_000_000_500_000_000), drives.TAXONOMY.palette_bgr[labels]
        for camera in ('left', 'right'):
            bag.write_image(f'/{camera}/image_raw', 1, header, picture, 'bgr8')
    truth = tmp_path / 'truth'
    truth.mkdir()
    for camera in ('left', 'right'):
        cv2.imwrite(str(truth / f'{camera}_{stamp}.png'), labels)
    folder = drives.evaluated(predictor, tmp_path / 'r', [tmp_path / 'drive'], truth=truth)
    (note,) = drives.summary(folder)['notes']
    assert f'two files for one frame, such as left_{stamp}.png and right_{stamp}.png' in note
    assert drives.summary(folder)['num_with_truth'] == 0
    for camera in ('left', 'right'):
        (truth / camera).mkdir()
        (truth / f'{camera}_{stamp}.png').rename(truth / camera / f'{stamp}.png')
    folder = drives.evaluated(predictor, tmp_path / 'q', [tmp_path / 'drive'], truth=truth)
    assert drives.summary(folder)['num_with_truth'] == 2


def test_a_file_of_a_name_that_was_changed_is_of_its_frame(drives, predictor, tmp_path):
    labels, _ = drives.scene()
    (tmp_path / 'in').mkdir()
    cv2.imwrite(str(tmp_path / 'in' / 'frame (1).png'), drives.TAXONOMY.palette_bgr[labels])
    first = drives.evaluated(predictor, tmp_path / 'first', [tmp_path / 'in'])
    given = {'truth': first / 'labels'}
    again = drives.evaluated(predictor, tmp_path / 'again', [tmp_path / 'in'], **given)
    assert drives.scores(again) == (1, 1, 1.0)
    (written,) = (first / 'labels').rglob('*.png')
    shutil.copyfile(written, written.with_name('frame (1).png'))
    with pytest.raises(SourceError, match=r'frame \(1\)\.png and .* for one frame, expected one'):
        drives.evaluated(predictor, tmp_path / 'again', [tmp_path / 'in'], **given)
