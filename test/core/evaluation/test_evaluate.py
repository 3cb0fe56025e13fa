"""Evaluations of drives whose answers are known, whole and interrupted in every way."""

import errno
import os
from pathlib import Path
import signal
import subprocess
import sys
import time

import cv2
import numpy as np
import pytest

from offroad_seg_core.bags.definitions import header_stamp_ns
from offroad_seg_core.bags.library import QosDurability
from offroad_seg_core.bags.pictures import deserialize
from offroad_seg_core.bags.reading import open_bag
from offroad_seg_core.evaluation.outputs import labels, report_frames
from offroad_seg_core.evaluation.outputs.label_bag import LABEL_NAMES, LabelBag
from offroad_seg_core.evaluation.outputs.labels import LabelFiles
from offroad_seg_core.evaluation.outputs.overlay_video import OverlayVideo
from offroad_seg_core.evaluation.outputs.report_frames import ReportFrames
from offroad_seg_core.evaluation.parts import Unfinished
from offroad_seg_core.legend import legend_entries
from offroad_seg_core.places import OutputError

MANY = 45
"""Frames that fill three parts of 15."""
TINY = (32, 48)


def sinks(drives, predictor):
    legend = legend_entries(drives.TAXONOMY)
    return (
        LabelFiles(),
        ReportFrames(),
        OverlayVideo(predictor.cost_table, legend),
        LabelBag(predictor.cost_table, '{"names": []}'),
    )


def contents(folder):
    """Return what an evaluation says: files of frames, messages, decoded video, numbers."""
    import av

    files = {str(p.relative_to(folder)): p for p in folder.rglob('*') if p.is_file()}
    found = {n: p.read_bytes() for n, p in files.items() if n.endswith(('.png', '.js'))}
    with open_bag(folder / 'labels_bag') as bag:
        found['bag'] = [(c.topic, t, bytes(d)) for c, t, d in bag.messages()]
    for name in files:
        if name.endswith('.mp4'):
            with av.open(str(files[name])) as video:
                found[name] = [f.pts for f in video.decode(video.streams.video[0])]
    return found


def numbers(drives, folder):
    said = drives.summary(folder)
    return [drives.table(folder), *(said[key] for key in ('scores', 'counts', 'means', 'notes'))]


def test_every_output_of_a_drive_is_what_is_known_of_it(drives, predictor, tmp_path):
    labels, _ = drives.scene()
    drive, ticks = drives.write_drive(tmp_path / 'drive'), []
    given = {'sinks': sinks(drives, predictor), 'on_frame': ticks.append}
    folder = drives.run(drive, predictor, tmp_path / 'result', **given)
    assert sum(ticks) == 16
    assert sorted(path.name for path in tmp_path.iterdir()) == ['drive', 'result']

    said = drives.summary(folder)
    together = said['scores']['together']['scores']
    # Landscape is right; of what is called sky half is; rocks are missed: (1 + 0.5 + 0) / 3.
    assert together['miou'] == together['miou_present'] == 0.5
    assert together['miou_all_absent_0'] == pytest.approx(0.15)
    assert (together['iou']['Sky'], together['iou']['Rocks']) == (0.5, 0.0)
    # Sky is unknown and not free: rocks called sky invite nobody.
    assert together['false_safe_rate'] == 0.0
    assert together['num_pixels'] == 16 * 64 * 80
    assert set(said['scores']['environments']) == {'front', 'rear'}
    assert (said['num_frames'], said['num_labelled'], said['num_with_truth']) == (16, 16, 16)
    assert said['source']['cameras']['front'] == {'topic': '/front/image_raw', 'num_messages': 8}
    assert said['recording']['front']['period_ms'] == 100.0

    rows = drives.table(folder)
    assert [row['camera'] for row in rows] == ['front', 'rear'] * 8
    assert [row['miou_present'] for row in rows] == ['0.5'] * 16
    # 40 of 80 valid columns are landscape, 20 are sky that is sky: 3 of 4 pixels are right.
    assert {row['pixel_accuracy'] for row in rows} == {'0.75'}
    assert {row['iou_Trees'] for row in rows} == {''}
    assert {row['problem'] for row in rows} == {''}
    assert float(rows[0]['share_Sky']) + float(rows[0]['share_Landscape']) == pytest.approx(
        1, abs=0.1
    )

    stamp = str(drives.START_NS + drives.STEP_NS)
    mask = cv2.imread(str(folder / 'labels' / 'rear' / f'{stamp}.png'), cv2.IMREAD_UNCHANGED)
    np.testing.assert_array_equal(mask[:, :40], labels[:, :40])
    np.testing.assert_array_equal(mask[:, 56:], labels[:, 56:])
    assert len(list((folder / 'labels').rglob('*.png'))) == 16
    assert len(list((folder / 'report' / 'frames').rglob('*.js'))) == 16


def test_the_label_bag_is_what_the_node_would_have_published(drives, predictor, tmp_path):
    drive = drives.write_drive(tmp_path / 'drive', num_frames=3)
    folder = drives.run(drive, predictor, tmp_path / 'r', sinks=sinks(drives, predictor)[3:])
    with open_bag(folder / 'labels_bag') as bag:
        assert bag.notes == []
        qos = {c.topic: c.ext.offered_qos_profiles[0] for c in bag.connections}
        messages = [(c.topic, c.msgtype, time_ns, data) for c, time_ns, data in bag.messages()]
    outputs = ('mask', 'traversability', 'overlay/compressed')
    wanted = {f'/{camera}/segmentation/{name}' for camera in ('front', 'rear') for name in outputs}
    assert set(qos) == {*wanted, LABEL_NAMES}
    assert qos[LABEL_NAMES].durability is QosDurability.TRANSIENT_LOCAL
    assert qos['/front/segmentation/mask'].durability is QosDurability.VOLATILE
    assert messages[0][0] == LABEL_NAMES
    masks = [entry for entry in messages if entry[0] == '/rear/segmentation/mask']
    assert [header_stamp_ns(data) for *_, data in masks] == [time_ns for *_, time_ns, _ in masks]
    mask = deserialize(masks[0][1], masks[0][3])
    assert (mask.encoding, mask.header.frame_id) == ('mono8', 'rear_link')
    pixels = mask.data.reshape(mask.height, mask.step)
    np.testing.assert_array_equal(pixels[:, :40], drives.LANDSCAPE)
    (costs, *_) = (
        d for topic, _, _, d in messages if topic.endswith('front/segmentation/traversability')
    )
    known = deserialize(masks[0][1], costs).data.reshape(mask.height, mask.step)
    assert set(known[:, :40].ravel()) == {20}
    assert set(known[:, 56:].ravel()) == {255}


def test_parquet_holds_what_csv_holds(drives, predictor, tmp_path):
    parquet = pytest.importorskip('pyarrow.parquet')
    drive = drives.write_drive(tmp_path / 'drive', num_frames=3)
    folder = drives.run(drive, predictor, tmp_path / 'result')
    read = parquet.read_table(folder / 'frames.parquet').to_pylist()
    told = drives.table(folder)
    for row, cells in zip(read, told, strict=True):
        assert row['stamp_ns'] == int(cells['stamp_ns'])
        for name, cell in cells.items():
            assert str('' if row[name] is None else row[name]) == cell, name


@pytest.fixture(scope='module')
def long_drive(drives, tmp_path_factory):
    return drives.write_drive(tmp_path_factory.mktemp('long') / 'drive', ('front',), MANY, TINY)


@pytest.fixture(scope='module')
def uninterrupted(drives, palette_bundle, long_drive, tmp_path_factory):
    """The result of the long drive in one go."""
    from offroad_seg_core.evaluation.predictors import SegmenterPredictor
    from offroad_seg_core.inference.segmenter import Segmenter

    found = SegmenterPredictor(Segmenter.open(palette_bundle, 'onnxruntime', num_threads=1))
    output = tmp_path_factory.mktemp('whole') / 'result'
    return drives.run(long_drive, found, output, sinks=sinks(drives, found))


class Stop(BaseException):
    """Stands for Ctrl-C, which may come anywhere."""


@pytest.mark.parametrize('after', [7, 20, 44])
def test_after_ctrl_c_the_same_result(
    drives, predictor, long_drive, uninterrupted, tmp_path, after
):
    seen = []

    def interrupt(count):
        seen.append(count)
        if len(seen) == after:
            raise Stop

    given = {'sinks': sinks(drives, predictor)}
    with pytest.raises(Stop):
        drives.run(long_drive, predictor, tmp_path / 'result', interrupt, **given)
    assert [path.name for path in tmp_path.iterdir()] == ['result.unfinished']
    resumed = []
    folder = drives.run(long_drive, predictor, tmp_path / 'result', resumed.append, **given)
    assert sum(resumed) == MANY
    # What was complete is not done again: its frames are counted in one call a part.
    assert len(resumed) == MANY - 15 * (after // 15) + after // 15
    assert contents(folder) == contents(uninterrupted)
    assert numbers(drives, folder) == numbers(drives, uninterrupted)
    assert [path.name for path in tmp_path.iterdir()] == ['result']


def test_after_kill_9_the_same_result(
    drives, predictor, palette_bundle, long_drive, uninterrupted, tmp_path
):
    code = f"""
import sys, time
sys.path.insert(0, {str(Path(__file__).parent)!r})
import drives, test_evaluate
drives.make_parts_small(setattr)
from offroad_seg_core.evaluation.predictors import SegmenterPredictor
from offroad_seg_core.inference.segmenter import Segmenter
found = SegmenterPredictor(Segmenter.open({str(palette_bundle)!r}, 'onnxruntime', num_threads=1))
def slow(count):
    time.sleep(0.05)
drives.run({str(long_drive)!r}, found, {str(tmp_path / 'result')!r}, slow,
           sinks=test_evaluate.sinks(drives, found))
"""
    process = subprocess.Popen([sys.executable, '-c', code], cwd=Path(__file__).parents[3])
    first = tmp_path / 'result.unfinished' / 'parts' / '000000.npz'
    deadline = time.monotonic() + 100
    while not first.exists():
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait(30)
    assert not (tmp_path / 'result').exists()
    given = {'sinks': sinks(drives, predictor)}
    resumed = []
    folder = drives.run(long_drive, predictor, tmp_path / 'result', resumed.append, **given)
    assert resumed[0] == 15
    assert contents(folder) == contents(uninterrupted)
    assert numbers(drives, folder) == numbers(drives, uninterrupted)


class FullDisk(LabelFiles):
    """Fails as a full disk does, until there is room again."""

    is_full = True

    def prepare(self, labelled):
        if self.is_full and labelled.frame.stamp_ns > 1_700_000_002_500_000_000:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), 'x.png')
        return super().prepare(labelled)


def test_a_full_disk_loses_nothing_that_was_complete(drives, predictor, long_drive, tmp_path):
    sink = FullDisk()
    with pytest.raises(OSError, match='No space left'):
        drives.run(long_drive, predictor, tmp_path / 'result', sinks=(sink,))
    sink.is_full, resumed = False, []
    drives.run(long_drive, predictor, tmp_path / 'result', resumed.append, sinks=(sink,))
    assert resumed[0] == 15


def test_a_part_counts_as_done_when_its_files_are_on_the_disk(
    drives, predictor, long_drive, tmp_path, monkeypatch
):
    synced, saved, save = set(), [], Unfinished.save
    for module in (labels, report_frames):
        monkeypatch.setattr(module, 'sync', lambda path: synced.add(path.name))

    def check(unfinished, part, result):
        names = {row['name'] for row in result.rows}
        assert {f'{name}{ending}' for name in names for ending in ('.png', '.js')} <= synced
        saved.append(len(names))
        save(unfinished, part, result)

    monkeypatch.setattr(Unfinished, 'save', check)
    given = {'sinks': (LabelFiles(), ReportFrames())}
    drives.run(long_drive, predictor, tmp_path / 'result', **given)
    assert sum(saved) == MANY


def test_an_unfinished_result_of_something_else_is_refused(
    drives, predictor, long_drive, tmp_path, monkeypatch
):
    def interrupt(count):
        raise Stop

    with pytest.raises(Stop):
        drives.run(long_drive, predictor, tmp_path / 'result', interrupt)
    with monkeypatch.context() as patch:
        told = rf'of other version of opencv \({cv2.__version__}, here 4.5.4\); .*--restart'
        patch.setattr(cv2, '__version__', '4.5.4')
        with pytest.raises(OutputError, match=told):
            drives.run(long_drive, predictor, tmp_path / 'result')
    other = drives.write_drive(tmp_path / 'other', num_frames=2)
    with pytest.raises(OutputError, match=r'unfinished evaluation of other source; .*--restart'):
        drives.run(other, predictor, tmp_path / 'result')
    folder = drives.run(other, predictor, tmp_path / 'result', restart=True)
    assert drives.summary(folder)['num_frames'] == 4
    # An older result is replaced; what is none is never touched.
    assert drives.run(other, predictor, tmp_path / 'result') == folder
    (folder / 'summary.json').unlink()
    with pytest.raises(OutputError, match='no older evaluation'):
        drives.run(other, predictor, tmp_path / 'result')
    assert (folder / 'frames.csv').exists()
