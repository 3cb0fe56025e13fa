"""Two sets of labels: what is identical, what differs and by how much, what only one has."""

import cv2
import numpy as np
import pytest

from offroad_seg_core.bags.definitions import Definitions
from offroad_seg_core.bags.reading import open_bag
from offroad_seg_core.bags.writing import AtomicBag, Header, MessageBag
from offroad_seg_core.evaluation.label_comparison import Key, compare_labels
from offroad_seg_core.evaluation.outputs.label_bag import LabelBag
from offroad_seg_core.evaluation.outputs.labels import LabelFiles
from offroad_seg_core.evaluation.sources.frame import SourceError

SIZE = (10, 20)
STAMPS = [1_700_000_000_000_000_000 + index * 10**8 for index in range(5)]


def live(path, values, camera='front', size=SIZE):
    """Record masks of single values, as a node says them; None: it said nothing."""
    with MessageBag(path) as bag:
        for index, (stamp, value) in enumerate(zip(STAMPS, values, strict=True)):
            if value is not None:
                mask = np.full(size, value, np.uint8)
                bag.write_image(
                    f'/{camera}/segmentation/mask', index, Header(stamp), mask, 'mono8'
                )
    return path


def files(folder, values, camera='front'):
    (folder / camera).mkdir(parents=True)
    for stamp, value in zip(STAMPS, values, strict=True):
        if value is not None:
            mask = np.full(SIZE, value, np.uint8)
            cv2.imwrite(str(folder / camera / f'{stamp}.png'), mask)
    return folder


def test_a_recording_against_files(tmp_path):
    recorded = live(tmp_path / 'live', [1, None, 3, 255, 200])
    made = files(tmp_path / 'made', [1, 2, 3, 255, None])
    found = compare_labels(made, recorded)
    assert found.num_identical == 3
    assert found.only_first == [Key('front', STAMPS[1])]
    assert found.only_second == [Key('front', STAMPS[4])]
    assert found.agrees
    assert found.text().splitlines() == [
        '3 frames are in both: 3 identical',
        '1 frames are only in the first',
        '1 frames are only in the second',
    ]


def test_one_pixel_is_a_difference(tmp_path):
    recorded, made = live(tmp_path / 'live', [1] * 5), files(tmp_path / 'made', [1] * 5)
    path = made / 'front' / f'{STAMPS[2]}.png'
    mask = np.full(SIZE, 1, np.uint8)
    mask[9, 19] = 2
    cv2.imwrite(str(path), mask)
    found = compare_labels(made, recorded)
    assert found.num_identical == 4
    assert found.different == {Key('front', STAMPS[2]): 1 / 200}
    assert not found.agrees
    assert '0.5000 % of the pixels differ' in found.text()


def test_labels_of_another_size_are_told_as_that(tmp_path):
    made = files(tmp_path / 'made', [1] * 5)
    found = compare_labels(made, live(tmp_path / 'small', [1] * 5, size=(5, 8)))
    assert not found.agrees
    assert set(found.different) == {Key('front', stamp) for stamp in STAMPS}
    first, *_, last = found.text().splitlines()
    assert first == '5 frames are in both: 0 identical'
    assert (
        f'  front {STAMPS[0]}: got labels of (10, 20) and (5, 8) (height, width)' in found.text()
    )
    assert (
        last
        == '5 frames differ in size; expected equal ones; fix: record with output_size: camera'
    )
    assert '%' not in found.text()


def test_sets_that_overlap_little_are_not_kept_in_memory(tmp_path):
    """Of frames that only one has, the labels are not kept."""
    import tracemalloc

    size, stamps = (200, 500), [10**9 * second for second in range(400)]
    for name, chosen in (('one', stamps[::2]), ('two', [*stamps[1::2], stamps[-2]])):
        with MessageBag(tmp_path / name) as bag:
            for stamp in sorted(chosen):
                mask = np.zeros(size, np.uint8)
                bag.write_image('/c/segmentation/mask', stamp, Header(stamp), mask, 'mono8')
    tracemalloc.start()
    found = compare_labels(tmp_path / 'one', tmp_path / 'two')
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert (found.num_identical, len(found.only_first), len(found.only_second)) == (1, 199, 200)
    assert peak < 100 * 200 * 500  # of 400 maps


def test_cameras_do_not_mix(tmp_path):
    left, right = (live(tmp_path / name, [1] * 5, name) for name in ('left', 'right'))
    found = compare_labels(left, right)
    assert (found.num_identical, len(found.only_first), len(found.only_second)) == (0, 5, 5)
    assert not found.agrees
    assert found.apart == []


def masks(path, messages):
    """Record (camera, stamp, value) a tenth of a second apart."""
    with MessageBag(path) as bag:
        for index, (camera, stamp, value) in enumerate(messages):
            mask = np.full(SIZE, value, np.uint8)
            topic = f'/{camera}/segmentation/mask'
            bag.write_image(topic, index * 10**8, Header(stamp), mask, 'mono8')
    return path


def test_each_camera_has_a_clock_of_its_own_and_may_set_it(tmp_path):
    step = 10**8
    left = [n * step for n in range(100)]
    left[50:] = [stamp - 4_000_000_000 + 7 for stamp in left[50:]]  # set back while recording
    left[20] = 10**18
    frames = [
        frame
        for n in range(100)
        for frame in (('left', left[n], n), ('right', 5_000_000_000 + n * step, n))
    ]
    one = masks(tmp_path / 'one', frames)
    # Delayed by some frames, as a slower camera's, and without every seventh.
    slow = [frame for n, frame in enumerate(frames) if n % 7]
    slow.sort(key=lambda frame: frame[2] + 3 * (frame[0] == 'right'))
    found = compare_labels(one, masks(tmp_path / 'two', slow))
    assert (found.num_identical, len(found.only_first), found.only_second) == (171, 29, [])
    assert found.agrees
    changed = [
        (camera, stamp, 200 if camera == 'left' else value) for camera, stamp, value in slow
    ]
    found = compare_labels(masks(tmp_path / 'three', changed), one)
    assert {key.camera for key in found.different} == {'left'}
    assert (found.num_identical, len(found.different)) == (86, 85)


def test_a_camera_of_both_without_a_frame_of_both(tmp_path):
    frames = [('left', 10**9 + n, 1) for n in range(3)]
    one = masks(tmp_path / 'one', [*frames, *(('right', 10**9 + n, 1) for n in range(3))])
    two = masks(tmp_path / 'two', [*frames, *(('right', 10**9 + 5 + n, 2) for n in range(3))])
    found = compare_labels(one, two)
    assert (found.num_identical, found.different, found.apart) == (3, {}, ['right'])
    assert not found.agrees
    assert 'right: no frame is in both' in found.text()


def test_messages_too_short_for_a_stamp_are_left_out(tmp_path):
    live(tmp_path / 'whole', [1] * 5)
    bag, definitions = AtomicBag(tmp_path / 'one'), Definitions()
    with open_bag(tmp_path / 'whole') as whole:
        topic, kind = '/front/segmentation/mask', whole.connections[0].msgtype
        entry = definitions.add_connection(bag.writer, topic, kind)
        bag.writer.write(entry, 0, b'\0\1\0\0\7')
        for _, time_ns, data in whole.messages():
            bag.writer.write(entry, time_ns + 1, data)
    bag.close()
    found = compare_labels(tmp_path / 'one', files(tmp_path / 'made', [1] * 5))
    assert (found.num_identical, found.agrees) == (5, True)


def test_files_of_a_result_have_the_stamps_of_its_table(drives, predictor, tmp_path):
    """Simulation time begins at zero; of a stamp that repeats, the first is held against."""
    labels, _ = drives.scene()
    first, other = (
        drives.TAXONOMY.palette_bgr[labels],
        drives.TAXONOMY.palette_bgr[labels[:, ::-1]],
    )
    stamps = [12_340_000_000 + index * drives.STEP_NS for index in (0, 1, 1, 2)]
    with MessageBag(tmp_path / 'drive') as bag:
        for index, stamp in enumerate(stamps):
            pixels = other if index == 2 else first
            bag.write_image('/front/image_raw', 10**9 * index, Header(stamp), pixels, 'bgr8')
    sinks = {'png': LabelFiles(), 'bag': LabelBag(predictor.cost_table, '{}')}
    png, bag = (
        drives.run(tmp_path / 'drive', predictor, tmp_path / name, sinks=(sink,))
        for name, sink in sinks.items()
    )
    found = compare_labels(png, bag)
    assert (found.num_identical, found.agrees) == (3, True)
    assert found.only_first == found.only_second == []
    assert len(list((png / 'labels').rglob('*.png'))) == 4


def test_both_kinds_of_labels_that_an_evaluation_writes_are_the_same(drives, predictor, tmp_path):
    drive = drives.write_drive(tmp_path / 'drive', num_frames=20)
    png = drives.run(drive, predictor, tmp_path / 'png', sinks=(LabelFiles(),))
    bag = drives.run(
        drive, predictor, tmp_path / 'bag', sinks=(LabelBag(predictor.cost_table, '{}'),)
    )
    (png / 'drive.mcap').touch()  # of --mcap, which is no bag of labels
    found = compare_labels(png, bag)
    assert (found.num_identical, found.agrees) == (40, True)
    assert found.only_first == found.only_second == []


def test_one_drive_on_each_side_is_one_whatever_it_is_called(tmp_path):
    values = [1, 2, None, 4, 5]
    bag = live(tmp_path / 'bags' / 'monday', values)
    made = files(tmp_path / 'made', values)
    for second in (live(tmp_path / 'others' / 'mon day', values).parent, bag, made):
        found = compare_labels(bag.parent, second)
        assert (found.num_identical, found.agrees) == (4, True)
        assert found.only_first == found.only_second == []
        assert found.drives_first == found.drives_second == []
    (tmp_path / 'nested').mkdir()
    made.rename(tmp_path / 'nested' / 'thursday')
    assert compare_labels(tmp_path / 'nested', bag).num_identical == 4


def test_drives_of_one_side_alone_are_named(tmp_path):
    for name in ('monday', 'friday'):
        live(tmp_path / 'bags' / name, [1] * 5)
        files(tmp_path / 'made' / name.replace('fri', 'satur'), [1] * 5)
    found = compare_labels(tmp_path / 'bags', tmp_path / 'made')
    assert (found.num_identical, found.agrees) == (5, True)
    assert (found.drives_first, found.drives_second) == (['friday'], ['saturday'])
    assert found.text().splitlines() == [
        '5 frames are in both: 5 identical',
        '5 frames are only in the first',
        'drives only in the first: friday',
        '5 frames are only in the second',
        'drives only in the second: saturday',
    ]
    found = compare_labels(tmp_path / 'bags' / 'monday', tmp_path / 'made')
    assert found.num_identical == 0
    assert 'drives only in the first: one without a name' in found.text()


def test_what_holds_no_labels(drives, tmp_path):
    made = files(tmp_path / 'made', [1] * 5)
    drive = drives.write_drive(tmp_path / 'drive', num_frames=1)
    (tmp_path / 'empty').mkdir()
    for path, told in (
        (drive, r'got no topic \.\.\./segmentation/mask; it holds /front'),
        (tmp_path / 'empty', r'got no <camera>/<stamp>\.png'),
        (tmp_path / 'nowhere', 'not there'),
    ):
        with pytest.raises(SourceError, match=told):
            compare_labels(made, path)
