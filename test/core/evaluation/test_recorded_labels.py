"""Label maps beside frames: those of their stamp, and which topics hold them."""

import numpy as np
import pytest

from offroad_seg_core.bags.camera_topics import IMAGE_TYPE, CameraTopic
from offroad_seg_core.bags.writing import Header, MessageBag
from offroad_seg_core.evaluation.inputs import find_truth, open_frames, recorded_labels
from offroad_seg_core.evaluation.recorded_labels import output_topics, truth_topics
from offroad_seg_core.evaluation.sources.combining import LabelledFrames
from offroad_seg_core.evaluation.sources.frame import UniqueNames


def test_recorded_labels_of_cameras_with_clocks_of_their_own(drives, tmp_path):
    """Each frame gets the labels of its stamp, wherever the evaluation begins."""
    ahead_ns, size = {'front': 5_000_000_000, 'rear': 0}, (4, 6)
    stamps = [(camera, drives.STEP_NS * (n + 1) + ahead_ns[camera])
              for n in range(40) for camera in ('front', 'rear')]  # fmt: skip
    pixels = np.zeros((*size, 3), np.uint8)
    with MessageBag(tmp_path / 'drive') as drive, MessageBag(tmp_path / 'live') as live:
        for index, (camera, stamp) in enumerate(stamps):
            header = Header(stamp)
            drive.write_image(f'/{camera}/image_raw', index * 10**7, header, pixels, 'bgr8')
            if index % 5:
                mask = np.full(size, index, np.uint8)
                topic = f'/{camera}/segmentation/mask'
                live.write_image(topic, 10**15 + 3 * index * 10**8, header, mask, 'mono8')
    source = LabelledFrames(open_frames(tmp_path / 'drive'), recorded_labels(tmp_path / 'live'))
    expected = [index if index % 5 else None for index in range(80)]
    for first_part in (0, 3):
        frames = [frame for _, frame in source.frames(first_part, UniqueNames())]
        said = [frame.maps['label_map']() if frame.maps else None for frame in frames]
        got = [None if label_map is None else int(label_map[0, 0]) for label_map in said]
        assert got == expected[80 - len(frames) :]
    assert 0 < len(frames) < 40


def test_damage_in_the_bag_of_labels_is_a_note(drives, tmp_path):
    pixels, mask = np.zeros((4, 6, 3), np.uint8), np.zeros((4, 6), np.uint8)
    with MessageBag(tmp_path / 'drive') as drive, MessageBag(tmp_path / 'live') as live:
        for index in range(1, 5):
            time_ns = index * drives.STEP_NS
            drive.write_image('/front/image_raw', time_ns, Header(time_ns), pixels, 'bgr8')
            topic = '/front/segmentation/mask'
            live.write_image(topic, time_ns, Header(time_ns), mask, 'mono8')
    drives.damage_chunk(tmp_path / 'live', 0)
    (tmp_path / 'live' / 'metadata.yaml').unlink()
    source = LabelledFrames(open_frames(tmp_path / 'drive'), recorded_labels(tmp_path / 'live'))
    assert len(source.notes) == 1
    assert 'has no metadata.yaml' in source.notes[0]
    frames = source.frames(0, UniqueNames())
    next(frames)
    _, damaged = source.notes
    assert 'damaged after' in damaged


@pytest.mark.parametrize(
    ('stamps', 'expected'),
    [
        ([0] * 6, [None] * 6),
        ([7] * 6, [None] * 6),
        ([5, 6, 7, 7, 8, 9], [0, 1, None, None, 4, 5]),
        ([5, 6, 7, 8, 9, 10], [0, 1, 2, 3, 4, 5]),
    ],
    ids=['unset', 'stopped', 'one_twice', 'unique'],
)
@pytest.mark.parametrize('missing', [None, 0])
def test_no_frame_gets_the_truth_of_another(drives, tmp_path, stamps, expected, missing):
    """Each truth is recorded beside its frame, and only the stamp says whose it is."""
    pixels = np.zeros((4, 6, 3), np.uint8)
    with MessageBag(tmp_path / 'drive') as bag:
        for index, stamp in enumerate(stamps):
            time_ns = (index + 1) * drives.STEP_NS
            bag.write_image('/front/image_raw', time_ns, Header(stamp), pixels, 'bgr8')
            if index != missing:
                truth = np.full((4, 6), index, np.uint8)
                topic = '/front/ground_truth/label_map'
                bag.write_image(topic, time_ns + 1, Header(stamp), truth, 'mono8')
    frames = open_frames(tmp_path / 'drive')
    source = LabelledFrames(frames, {'t': find_truth(frames, drives.TAXONOMY, drives.AUTO)})
    maps = [frame.maps for _, frame in source.frames(0, UniqueNames())]
    got = [int(found['t']()[0, 0]) if found else None for found in maps]
    assert got == [None if index == missing else label for index, label in enumerate(expected)]
    assert [('others within 2 s' in note) for note in source.notes] == [True] * (None in expected)


def test_truth_of_a_drive_that_was_recorded_twice(drives, tmp_path):
    """Of a bag that was played in a loop, each round has its own."""
    pixels = np.zeros((4, 6, 3), np.uint8)
    with MessageBag(tmp_path / 'drive') as bag:
        for index in range(6):
            time_ns, header = (index + 1) * 10**9, Header(5 + index % 3)
            bag.write_image('/front/image_raw', time_ns, header, pixels, 'bgr8')
            truth = np.full((4, 6), index, np.uint8)
            bag.write_image('/front/ground_truth/ids', time_ns + 1, header, truth, 'mono8')
    frames = open_frames(tmp_path / 'drive')
    source = LabelledFrames(frames, {'t': find_truth(frames, drives.TAXONOMY, drives.AUTO)})
    got = [frame.maps['t']()[0, 0] for _, frame in source.frames(0, UniqueNames())]
    assert got == [0, 1, 2, 3, 4, 5]


def test_label_maps_are_preferred_among_exact_images():
    cameras = {'/front/image_raw': CameraTopic('front', '/front/image_raw')}

    def chosen(*names):
        topics = {f'/front/ground_truth/{name}': IMAGE_TYPE for name in names}
        return truth_topics(topics, cameras)['front'].rpartition('/')[2]

    assert chosen('depth', 'instances', 'label_map') == 'label_map'
    assert chosen('instance_labels', 'semantic', 'visible') == 'semantic'
    assert chosen('depth', 'ids') == 'ids'
    assert chosen('depth') == 'depth'


def test_outputs_of_cameras_and_of_drives():
    topics = ['/robot/front/segmentation/mask', '/rear/segmentation/mask', '/rear/image_raw']
    types = dict.fromkeys(topics, IMAGE_TYPE)
    assert output_topics(types, 'mask') == {'front': topics[0], 'rear': topics[1]}
    topics = [f'/{drive}/front/segmentation/mask' for drive in ('monday', 'friday')]
    found = output_topics(dict.fromkeys(topics, IMAGE_TYPE), 'mask')
    assert found == {'monday/front': topics[0], 'friday/front': topics[1]}
