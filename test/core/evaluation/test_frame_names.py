"""Every frame has a name of its own, though its stamp and time of recording be another's, too."""

import cv2
import numpy as np
import pytest

from offroad_seg_core.bags.writing import Header, MessageBag
from offroad_seg_core.evaluation.inputs import open_frames
from offroad_seg_core.evaluation.outputs.labels import LabelFiles
from offroad_seg_core.evaluation.outputs.sink import frame_path
from offroad_seg_core.evaluation.sources.combining import SeveralSources
from offroad_seg_core.evaluation.sources.frame import UniqueNames

SIZE = (32, 48)
NUM_FRAMES, NUM_ALIKE = 45, 7
"""Frames of three parts, and how many of them one after another nothing tells apart."""


@pytest.fixture(params=[0, 1], ids=['stamps_unset', 'stamps_that_repeat'])
def alike(drives, tmp_path, request):
    """A drive whose pictures are of one class each, in turn; return its path and the classes."""
    classes = [index % drives.TAXONOMY.num_classes for index in range(NUM_FRAMES)]
    with MessageBag(tmp_path / 'drive') as bag:
        for index, known in enumerate(classes):
            time_ns = drives.START_NS + index // NUM_ALIKE * drives.STEP_NS
            pixels = drives.TAXONOMY.palette_bgr[np.full(SIZE, known, np.uint8)]
            header = Header(request.param * time_ns, 'front')
            bag.write_image('/front/image_raw', time_ns, header, pixels, 'bgr8')
    return tmp_path / 'drive', classes


def labels_of(drives, folder):
    """Return the class in the label file of each frame, in the order of the table."""
    found = []
    for row in drives.table(folder):
        file = frame_path(folder / 'labels', row['camera'], row['name'], '.png')
        (value,) = np.unique(cv2.imread(str(file), cv2.IMREAD_UNCHANGED))
        found.append(int(value))
    return found


def test_each_of_the_same_stamp_and_time_keeps_its_labels(drives, predictor, alike, tmp_path):
    path, classes = alike
    folder = drives.run(path, predictor, tmp_path / 'whole', sinks=(LabelFiles(),))
    assert labels_of(drives, folder) == classes
    assert len(list((folder / 'labels').rglob('*.png'))) == NUM_FRAMES

    def interrupt(count):
        seen.append(count)
        if len(seen) == 30:
            raise KeyboardInterrupt

    seen, again = [], []
    for on_frame in (interrupt, again.append):
        try:
            given = {'sinks': (LabelFiles(),), 'on_frame': on_frame}
            resumed = drives.run(path, predictor, tmp_path / 'resumed', **given)
        except KeyboardInterrupt:
            continue
    assert len(again) < NUM_FRAMES
    assert drives.table(resumed) == drives.table(folder)
    assert labels_of(drives, resumed) == classes


@pytest.mark.usefixtures('worker_threads')
def test_chunks_give_the_names_of_one_go(drives, fleets, predictor, alike, tmp_path):
    pytest.importorskip('fsspec', reason='fleets need requirements/fleet.txt')
    path, classes = alike
    source = SeveralSources({'a': open_frames(path), 'b': open_frames(path)})
    serial = fleets.in_one_go(fleets.evaluation_of(source, predictor, tmp_path / 'serial'))
    done = []
    evaluation = fleets.evaluation_of(source, predictor, tmp_path / 'fleet')
    folder = fleets.result(evaluation, done=done)
    assert sorted({(chunk.first, chunk.end) for chunk in done}) == [(0, 1), (1, 2), (2, 3)]
    assert drives.table(folder) == drives.table(serial)
    assert labels_of(drives, folder) == classes + classes


def test_names():
    names = UniqueNames()
    of_drive = names.within('monday')
    asked = [(5, 7), (5, 8), (5, 8), (5, 8), (0, 8), (0, 8), (6, 8)]
    expected = ['5', '5_8', '5_8_2', '5_8_3', '0_8', '0_8_2', '6']
    for given in (names, of_drive):  # each camera has its own
        assert [given.name('front', *stamp_and_time) for stamp_and_time in asked] == expected
    assert names.name('monday/front', 5, 8) == '5_8_4'
