"""What the demo is made of: pictures as drives, its result folder, its domain, its table."""

import json

import cv2
import numpy as np
import pytest

from offroad_seg_core.bags.camera_topics import CameraTopic
from offroad_seg_core.bags.definitions import Definitions
from offroad_seg_core.bags.reading import BagError
from offroad_seg_core.bags.writing import AtomicBag
from offroad_seg_core.places import OutputError
from offroad_seg_ros.demo_folder import result_folder, write_summary
from offroad_seg_ros.demo_images import read_images
from offroad_seg_ros.demo_inputs import describe, list_pictures, write_pictures
from offroad_seg_ros.demo_process import isolated_environment
from offroad_seg_ros.demo_report import table


def test_pictures_become_a_drive_and_broken_ones_are_named(tmp_path):
    folder = tmp_path / 'pictures'
    folder.mkdir()
    small, large = np.full((20, 30, 3), 50, np.uint8), np.full((1000, 3840, 3), 90, np.uint8)
    cv2.imwrite(str(folder / 'b.png'), small)
    cv2.imwrite(str(folder / 'c.JPG'), large)
    (folder / 'a.jpg').write_bytes(b'no picture')
    (folder / 'notes.txt').write_text('-')
    ticks = []
    remarks = write_pictures(tmp_path / 'bag', folder, lambda: ticks.append(1))
    assert len(ticks) == len(list_pictures(folder)) == 3
    assert remarks == [
        'a.jpg is skipped: it cannot be read as a picture',
        'c.JPG is reduced to 1920 px',
    ]
    images = list(read_images(tmp_path / 'bag', ['/camera/image_raw']))
    assert [pixels.shape for *_, pixels in images] == [(20, 30, 3), (500, 1920, 3)]
    assert images[1][1] - images[0][1] == 200_000_000  # 5 Hz
    np.testing.assert_array_equal(images[0][3], small)

    (folder / 'b.png').unlink()
    (folder / 'c.JPG').unlink()
    with pytest.raises(BagError, match=r'no readable picture; a\.jpg is skipped'):
        write_pictures(tmp_path / 'none', folder, lambda: None)
    assert not (tmp_path / 'none').exists()


def test_a_bag_without_cameras_says_what_it_holds(tmp_path):
    AtomicBag(tmp_path / 'empty').close()
    with pytest.raises(BagError, match='it holds no topics at all'):
        describe(tmp_path / 'empty')


def test_compressed_pictures_are_read_and_broken_ones_left_out(tmp_path):
    definitions = Definitions()
    types, kind = definitions.store.types, 'sensor_msgs/msg/CompressedImage'
    png = cv2.imencode('.png', np.full((4, 6, 3), (10, 20, 30), np.uint8))[1]
    bag = AtomicBag(tmp_path / 'bag')
    topic = '/front/image_raw/compressed'
    connection = definitions.add_connection(bag.writer, topic, kind)
    for sec, data in ((1, png), (2, png[:20])):
        header = types['std_msgs/msg/Header'](types['builtin_interfaces/msg/Time'](sec, 0), '')
        message = types[kind](header, 'png', data)
        bag.writer.write(connection, sec, definitions.store.serialize_cdr(message, kind))
    bag.close()
    assert describe(bag.path).cameras == (CameraTopic('front', topic, 'compressed'),)
    ((_, stamp_ns, _, pixels),) = read_images(bag.path, [topic])
    assert stamp_ns == 10**9
    np.testing.assert_array_equal(pixels, np.full((4, 6, 3), (10, 20, 30)))


def test_a_result_folder_is_whole_or_not_there(tmp_path):
    path = tmp_path / 'result'
    with pytest.raises(FileNotFoundError), result_folder(path) as folder:
        folder.joinpath('none').unlink()
    assert list(tmp_path.iterdir()) == []
    for number in (1, 2):
        with result_folder(path) as folder:
            write_summary(folder, {'number': number})
        assert json.loads((path / 'summary.json').read_text())['number'] == number
    assert [entry.name for entry in tmp_path.iterdir()] == ['result']


def test_an_older_demo_that_cannot_be_removed_stops_no_later_one(ordinary_folder, caplog):
    path = ordinary_folder / 'result'
    for number in range(3):
        with result_folder(path) as folder:
            write_summary(folder, {'number': number})
        assert json.loads((path / 'summary.json').read_text())['number'] == number
        assert len(caplog.messages) == number
        caplog.clear()
        path.chmod(0o555)  # as one of another user


@pytest.mark.parametrize('content', ['{}', '[]', '{"format_version": 1, "counts": {}}', None])
def test_a_folder_that_the_demo_did_not_make_is_kept(tmp_path, content):
    path = tmp_path / 'result'

    def come():
        path.mkdir()
        (path / 'precious').touch()
        if content:
            (path / 'summary.json').write_text(content)

    with pytest.raises(OutputError, match='no older demo result'), result_folder(path):
        come()  # while the demo runs
    assert [entry.name for entry in tmp_path.iterdir()] == ['result']
    with pytest.raises(OutputError, match='no older demo result'), result_folder(path):
        raise AssertionError('work was done')
    assert (path / 'precious').exists()


def test_a_result_from_before_they_said_who_made_them_is_told(tmp_path):
    path = tmp_path / 'demo_output'
    path.mkdir()
    (path / 'summary.json').write_text('{"cameras": {}, "total": {}}')
    with pytest.raises(OutputError) as told, result_folder(path):
        raise AssertionError('work was done')
    assert str(told.value) == (
        f'{path}: got something that is no older demo result: it has no summary.json with '
        '"made_by": "offroad_seg_ros.demo"; expected a new folder; fix: give another one, '
        '--output DIR, or remove this if it is a demo result, as older versions made them without'
    )
    assert (path / 'summary.json').exists()


def test_the_demo_goes_where_a_link_leads_and_keeps_what_it_reads(tmp_path):
    (tmp_path / 'disk' / 'drive').mkdir(parents=True)
    (tmp_path / 'link').symlink_to('disk/result')
    with result_folder(tmp_path / 'link') as folder:
        assert folder.parent == tmp_path / 'disk'
        write_summary(folder, {})
    assert (tmp_path / 'link').is_symlink()
    assert (tmp_path / 'disk' / 'result' / 'summary.json').is_file()
    with pytest.raises(OutputError, match=r'which holds .*drive, which is read'):
        result_folder(tmp_path / 'disk', [None, tmp_path / 'disk' / 'drive', '']).__enter__()
    with pytest.raises(OutputError, match='a mount point'):
        result_folder('/proc').__enter__()
    (tmp_path / 'file').touch()
    with pytest.raises(OutputError, match='expected one in a folder that can be written'):
        result_folder(tmp_path / 'file' / 'result').__enter__()


def test_the_demo_keeps_away_from_a_running_robot():
    added = isolated_environment({'ROS_DOMAIN_ID': '42'}, pid=22)
    assert added == {'ROS_DOMAIN_ID': '43', 'ROS_AUTOMATIC_DISCOVERY_RANGE': 'LOCALHOST'}
    assert isolated_environment({'ROS_DISTRO': 'humble'}, 0)['ROS_LOCALHOST_ONLY'] == '1'
    domains = {int(isolated_environment({}, pid)['ROS_DOMAIN_ID']) for pid in range(1000)}
    assert min(domains) == 20
    assert max(domains) == 99


def test_the_table_reads_well():
    flow = {'frames_in': 60, 'frames_out': 58, 'dropped': 2, 'fps': 9.97}
    some = {**flow, 'latency_p50_ms': 41.26, 'latency_p95_ms': 50.0, 'miou': 0.61234}
    none = {**flow, 'latency_p50_ms': None, 'latency_p95_ms': None, 'miou': None}
    summary = {
        'cameras': {'left': {**some, 'miou_present': 0.7}},
        'total': {**none, 'miou_present': None},
    }
    assert table(summary).splitlines() == [
        '| camera | in | out | dropped |  fps | p50 ms | p95 ms |  mIoU | mIoU present |',
        '|:-------|---:|----:|--------:|-----:|-------:|-------:|------:|-------------:|',
        '| left   | 60 |  58 |       2 | 10.0 |   41.3 |   50.0 | 0.612 |        0.700 |',
        '| total  | 60 |  58 |       2 | 10.0 |      - |      - |     - |            - |',
    ]
