"""Hard frames of recorded drives: what holds them is read once more, and nothing else."""

import csv
import logging
import shutil

import cv2
import numpy as np
import pytest

from offroad_seg_core.bags.writing import Header, MessageBag
from offroad_seg_core.evaluation.evaluate import Evaluation, evaluate
from offroad_seg_core.evaluation.inputs import open_frames
from offroad_seg_core.evaluation.outputs.labels import LabelFiles
from offroad_seg_core.evaluation.outputs.sink import frame_path
from offroad_seg_core.evaluation.sources.bag import BagFrames
from offroad_seg_core.evaluation.sources.combining import SeveralSources
from offroad_seg_core.evaluation.sources.frame import SourceError
from offroad_seg_core.mining.signals import FrameSignals

NUM_FRAMES = 48  # three parts


@pytest.fixture
def write(drives, tmp_path):
    """Return a function that writes a drive; all its frames but the named ones look the same."""

    def drive(name, unlike=(), num_stamps=NUM_FRAMES):
        with MessageBag(tmp_path / name) as bag:
            for index in range(NUM_FRAMES):
                seed = index + 1 if index in unlike else 0
                blocks = np.random.default_rng(seed).integers(0, 10, (4, 6)).astype(np.uint8)
                labels = np.kron(blocks, np.ones((16, 16), np.uint8))
                time_ns = drives.START_NS + index * drives.STEP_NS
                header = Header(time_ns - index // num_stamps * num_stamps * drives.STEP_NS)
                pixels = drives.TAXONOMY.palette_bgr[labels]
                bag.write_image('/front/image_raw', time_ns, header, pixels, 'bgr8')
        return tmp_path / name

    return drive


class Spy(FrameSignals):
    """Notes what is read after everything was evaluated; may lose drives before that."""

    def __init__(self, monkeypatch, lost=()):
        super().__init__()
        self.seen, self._patch, self._lost = [], monkeypatch, lost

    def finish(self, folder, parts):
        for place in self._lost:
            shutil.rmtree(place)
        frames = BagFrames.frames

        def noted(source, first_part, names):
            for part, frame in frames(source, first_part, names):
                self.seen.append((source.path.name, part))
                yield part, frame

        self._patch.setattr(BagFrames, 'frames', noted)


def export(source, predictor, output, spy, num_hard):
    """Evaluate; return the folder of the result and the rows of its hard frames."""
    sinks = LabelFiles(), spy
    evaluation = Evaluation(source, predictor, output, sinks=sinks, num_hard=num_hard)
    folder = evaluate(evaluation, lambda count: None)
    with open(folder / 'hard_frames' / 'frames.csv', newline='') as stream:
        rows = list(csv.DictReader(stream))
    images = {path.stem for path in (folder / 'hard_frames' / 'JPEGImages').iterdir()}
    assert images == {row['image'] for row in rows}
    for row in rows:
        file = frame_path(folder / 'labels', row['camera'], row['name'], '.png')
        labels = cv2.imread(str(file), cv2.IMREAD_UNCHANGED)
        mask = cv2.imread(
            str(folder / 'hard_frames' / 'SegmentationClass' / f'{row["image"]}.png')
        )
        expected = predictor.taxonomy.palette_bgr[labels]
        np.testing.assert_array_equal(mask[labels != 255], expected[labels != 255])
    return folder, rows


@pytest.mark.parametrize('num_stamps', [NUM_FRAMES, 40])
def test_of_a_bag_only_parts_with_hard_frames_are_read_again(
    drives, predictor, write, tmp_path, monkeypatch, num_stamps
):
    place, spy = write('drive', unlike=(45, 47), num_stamps=num_stamps), Spy(monkeypatch)
    _, rows = export(open_frames(place), predictor, tmp_path / 'out', spy, 3)
    # Where a stamp repeats, the time of recording stands behind it in the name.
    times = [int(row['name'].rpartition('_')[2]) for row in rows]
    places = [(time_ns - drives.START_NS) // drives.STEP_NS for time_ns in times]
    assert {45, 47} < set(places)
    assert sum('_' in row['name'] for row in rows) == sum(at >= num_stamps for at in places)
    assert set(spy.seen) == {('drive', min(2, 3 * at // (NUM_FRAMES - 1))) for at in places}


def test_of_drives_only_those_with_hard_frames_are_read_again(
    drives, predictor, write, tmp_path, monkeypatch
):
    unlike = {'monday': (20,), 'friday': (), 'sunday': (40,)}
    sources = {name: open_frames(write(name, frames)) for name, frames in unlike.items()}
    sources['fetched'] = open_frames(write('there').as_uri())
    spy = Spy(monkeypatch)
    _, rows = export(SeveralSources(sources), predictor, tmp_path / 'out', spy, 3)
    holding = {row['camera'].partition('/')[0] for row in rows}
    assert {'monday', 'sunday'} <= holding
    assert {name for name, _ in spy.seen} == {name.replace('fetched', 'there') for name in holding}
    assert len(holding) < len(sources)


def test_a_drive_that_is_lost_meanwhile_is_told(
    drives, predictor, write, tmp_path, monkeypatch, caplog
):
    caplog.set_level(logging.INFO)
    unlike = {'monday': (20, 30), 'friday': (40,)}
    sources = {name: open_frames(write(name, frames)) for name, frames in unlike.items()}
    spy = Spy(monkeypatch, lost=[tmp_path / 'friday'])
    folder, rows = export(SeveralSources(sources), predictor, tmp_path / 'out', spy, 4)
    assert {row['camera'] for row in rows} == {'monday/front'}
    (note,) = drives.summary(folder)['notes']
    assert note.startswith(f'{4 - len(rows)} of 4 hard frames were not written: ')
    assert 'friday' in note
    assert note in caplog.text
    assert f'{len(rows)} frames worth labelling in' in caplog.text


def test_without_any_hard_frame_the_reason_is_told(
    drives, predictor, write, tmp_path, monkeypatch
):
    place = write('drive', unlike=(20,))
    spy = Spy(monkeypatch, lost=[place])
    told = '2 of 2 hard frames were not written: .*drive.*; fix: make the source readable'
    with pytest.raises(SourceError, match=told):
        export(open_frames(place), predictor, tmp_path / 'out', spy, 2)
