"""Folders of label files: which file is of which frame, and what is said of the others."""

import shutil

import cv2
import numpy as np
import pytest

from offroad_seg_core.bags.writing import Header, MessageBag
from offroad_seg_core.video import VideoWriter, open_video

STAMP_NS = 1_700_000_000_500_000_000
TIMES_NS = [STAMP_NS + index * 1_000_000 for index in (5, 6, 7)]


def write_labels(drives, folder, names, value=1):
    """Write label files of one class."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        cv2.imwrite(str(folder / f'{name}.png'), np.full(drives.SIZE, value, np.uint8))
    return folder


@pytest.fixture
def pictures(drives, tmp_path):
    """A drive of two pictures of one class."""
    home = tmp_path / 'run' / 'A'
    home.mkdir(parents=True)
    for name in ('000', '001'):
        picture = drives.TAXONOMY.palette_bgr[np.full(drives.SIZE, 1)]
        cv2.imwrite(str(home / f'{name}.png'), picture)
    return home


@pytest.fixture
def told(drives, predictor, tmp_path):
    """Return a function that evaluates; it returns scores and notes."""

    def evaluated(places, truth):
        folder = drives.evaluated(predictor, tmp_path / 'result', places, truth=truth)
        return drives.scores(folder), drives.summary(folder)['notes']

    return evaluated


@pytest.mark.parametrize('place', ['A/pictures', 'A', 'pictures', '.', 'labels/A', 'labels'])
def test_where_the_files_of_a_drive_lie(drives, told, pictures, tmp_path, place):
    truth = tmp_path / 'truth'
    write_labels(drives, truth / place, ('000', '001'))
    assert told([pictures], truth) == ((2, 2, 1.0), [])


def test_the_folder_of_a_drive_is_enough_where_it_has_one_camera(drives, told, pictures, tmp_path):
    other = pictures.with_name('B.mp4')
    picture = drives.TAXONOMY.palette_bgr[np.full((64, 96), 2)]
    with open_video(other, picture.shape[:2]) as video:
        assert isinstance(video, VideoWriter)
        video.write(picture, 0)
    truth = tmp_path / 'truth'
    write_labels(drives, truth / 'A', ('000', '001'))
    write_labels(drives, truth / 'B', ('000000',), 2)
    assert told([pictures, other], truth) == ((3, 3, 1.0), [])
    shutil.rmtree(truth / 'B')
    write_labels(drives, truth / 'B' / 'video', ('000000',), 2)
    assert told([pictures, other], truth) == ((3, 3, 1.0), [])


def test_files_that_lie_elsewhere_are_told(drives, told, pictures, tmp_path):
    truth = tmp_path / 'truth'
    write_labels(drives, truth / 'train' / 'pictures', ('000', '001'))
    write_labels(drives, truth / 'a' / 'b' / 'c', ('000',))
    score, (note,) = told([pictures], truth)
    assert score == (2, 0, None)
    assert note == (
        f'{truth}: labels were left out: 3 files such as a/b/c/000.png lie in none of A/pictures/'
        ', A/, pictures/ and the folder itself; fix: move those of this drive to A/pictures/'
    )
    # Where it has some, the others are of other drives and cameras.
    write_labels(drives, truth / 'pictures', ('000', '001'))
    assert told([pictures], truth) == ((2, 2, 1.0), [])


@pytest.mark.parametrize('name', ['A', 'pictures'])
def test_pictures_are_not_their_own_truth(drives, told, pictures, name):
    """Not even in a folder that is called as the drive or the camera is."""
    drive = pictures.rename(pictures.with_name(name))
    write_labels(drives, drive.parent, ('000', '001'))
    assert told([drive], drive.parent) == ((2, 2, 1.0), [])


@pytest.fixture
def repeating(drives, tmp_path):
    """A drive whose camera says one stamp three times, of one class each, and another once."""
    with MessageBag(tmp_path / 'drive') as bag:
        for value, time_ns in enumerate(TIMES_NS, 1):
            picture = drives.TAXONOMY.palette_bgr[np.full(drives.SIZE, value)]
            bag.write_image('/front/image_raw', time_ns, Header(STAMP_NS), picture, 'bgr8')
        picture = drives.TAXONOMY.palette_bgr[np.full(drives.SIZE, 4)]
        header = Header(STAMP_NS + drives.STEP_NS)
        bag.write_image('/front/image_raw', TIMES_NS[-1] + 1, header, picture, 'bgr8')
    return tmp_path / 'drive'


@pytest.mark.parametrize('is_first_there', [True, False])
def test_of_a_stamp_that_repeats_the_name_tells_the_frame(
    drives, told, repeating, tmp_path, is_first_there
):
    truth = tmp_path / 'truth'
    if is_first_there:
        write_labels(drives, truth / 'front', [STAMP_NS], 1)
    write_labels(drives, truth / 'front', [f'{STAMP_NS}_{TIMES_NS[1]}'], 2)
    write_labels(drives, truth / 'front', [f'cut_{STAMP_NS + drives.STEP_NS}'], 4)
    score, notes = told([repeating], truth)
    note = (
        f'{truth}: labels were left out: those of a stamp that repeats are of its first frame; '
        'fix: call those of the others <stamp>_<time of recording>.png'
    )
    expected = (3, [note]) if is_first_there else (2, [])
    assert (score, notes) == ((4, expected[0], 1.0), expected[1])


def test_of_two_files_of_one_stamp_neither_counts(drives, told, repeating, tmp_path):
    truth = tmp_path / 'truth'
    write_labels(drives, truth, [f'{name}_{STAMP_NS}' for name in ('left', 'right')])
    write_labels(drives, truth, [STAMP_NS + drives.STEP_NS], 4)
    score, notes = told([repeating], truth)
    assert score == (4, 1, 1.0)
    assert notes[0] == (
        f'{truth}: labels were left out: got two files for one frame, such as left_{STAMP_NS}.png '
        f'and right_{STAMP_NS}.png, expected one; fix: remove one, or move each to the folder of '
        'its camera, <drive>/<camera>/'
    )


@pytest.mark.usefixtures('worker_threads')
def test_a_drive_whose_label_files_were_left_out_is_not_done_twice(
    drives, fleets, predictor, tmp_path
):
    pytest.importorskip('fsspec', reason='fleets need requirements/fleet.txt')
    drive = drives.write_drive(tmp_path / 'drive', ('front',), 40, with_truth=False)
    names = [f'{name}_{drives.START_NS + drives.STEP_NS}' for name in ('left', 'right')]
    truth = write_labels(drives, tmp_path / 'truth', names)

    def evaluation(output):
        return fleets.evaluation_of(drives.source_of([drive], truth=truth), predictor, output)

    done = []
    serial = fleets.in_one_go(evaluation(tmp_path / 'serial'))
    folder = fleets.result(evaluation(tmp_path / 'fleet'), done=done)
    assert len(done) == len(set(done)) == 3
    assert fleets.said(drives, folder) == fleets.said(drives, serial)
    assert 'labels were left out: got two files' in drives.summary(folder)['notes'][0]
