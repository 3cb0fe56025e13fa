import cv2
import numpy as np
import pytest

pytest.importorskip('rosbags')

from rosbags.rosbag2 import Writer
from rosbags.typesys import Stores, get_typestore

from offroad_seg_core.bags.camera_topics import find_all_cameras, find_cameras
from offroad_seg_core.bags.pictures import read_pictures
from offroad_seg_core.bags.reading import BagError

STORE = get_typestore(Stores.ROS2_JAZZY)
IMAGE, COMPRESSED = 'sensor_msgs/msg/Image', 'sensor_msgs/msg/CompressedImage'


def header(stamp_ns):
    stamp = STORE.types['builtin_interfaces/msg/Time'](*divmod(stamp_ns, 1_000_000_000))
    return STORE.types['std_msgs/msg/Header'](stamp, 'camera')


def raw(stamp_ns, pixels, encoding='bgr8'):
    height, width = pixels.shape[:2]
    return STORE.types[IMAGE](
        header(stamp_ns), height, width, encoding, 0, pixels.nbytes // height, pixels.reshape(-1)
    )


def compressed(stamp_ns, pixels):
    return STORE.types[COMPRESSED](
        header(stamp_ns), 'png', cv2.imencode('.png', pixels)[1].reshape(-1)
    )


def write(path, messages):
    """Write (topic, type, message) in order."""
    with Writer(path, version=9) as writer:
        connections = {}
        for index, (topic, kind, message) in enumerate(messages):
            if topic not in connections:
                connections[topic] = writer.add_connection(topic, kind, typestore=STORE)
            writer.write(connections[topic], index, STORE.serialize_cdr(message, kind))
    return path


def flat(value):
    return np.full((2, 4, 3), value, np.uint8)


@pytest.fixture
def bag(tmp_path):
    return write(
        tmp_path / 'drive',
        [
            *(('/front/image_raw', IMAGE, raw(5 * n, flat(n))) for n in range(5)),
            ('/left/image_raw', IMAGE, raw(10**9 + 7, flat(9))),
            ('/left/image_raw', IMAGE, raw(8, flat(9), 'thermal14')),
            ('/rear/compressed', COMPRESSED, compressed(3, flat(50))),
            ('/depth/image_raw', IMAGE, raw(0, flat(1))),
        ],
    )


def found(pictures):
    return [(p.camera, p.stamp_ns, int(p.image.bgr()[0, 0, 0])) for p in pictures]


def test_every_camera_by_default(bag, caplog):
    expected = [('front', 5 * n, n) for n in range(5)]
    assert found(read_pictures(bag)) == [*expected, ('left', 10**9 + 7, 9), ('rear', 3, 50)]
    assert '1 pictures left out; the first: /left/image_raw: image encoding' in caplog.text


def test_cameras_of_any_number_and_transport():
    topics = {f'/c{index}/image_raw/compressed': COMPRESSED for index in range(10)}
    topics |= {'/c3/image_raw': IMAGE, '/front/image_raw': IMAGE, '/front/depth/image_raw': IMAGE}
    cameras = find_all_cameras(topics)
    assert [camera.name for camera in cameras] == [*(f'c{index}' for index in range(10)), 'front']
    assert [camera.transport for camera in cameras] == [*['compressed'] * 10, 'raw']
    assert find_all_cameras({}) == ()


def test_compressed_pictures_of_any_name_where_there_is_no_other_camera():
    odd = dict.fromkeys(('/front/jpeg', '/rear/image_jpeg', '/mast/video_frame'), COMPRESSED)
    computed = ('/front/image_raw/compressedDepth', '/rear/zstd', '/front/segmentation/overlay')
    cameras = find_all_cameras(odd | dict.fromkeys(computed, COMPRESSED))
    assert {camera.name: camera.input_topic for camera in cameras} == dict(
        zip(('front', 'rear', 'video_frame'), odd, strict=True)
    )
    assert {camera.transport for camera in cameras} == {'compressed'}
    assert [camera.name for camera in find_all_cameras(odd | {'/left/image': IMAGE})] == ['left']
    assert find_cameras(odd) == ()  # the node's transports have names of their own


def test_named_topics_of_both_kinds_and_every_second_picture(bag):
    pictures = read_pictures(bag, ['/front/image_raw', '/rear/compressed'], every=2)
    assert found(pictures) == [
        ('front', 0, 0),
        ('front', 10, 2),
        ('front', 20, 4),
        ('rear', 3, 50),
    ]


def test_what_is_not_there(bag, tmp_path):
    with pytest.raises(BagError, match=r'got /none, expected .*holds /depth/image_raw .*--topics'):
        list(read_pictures(bag, ['/none']))
    empty = write(tmp_path / 'depth', [('/depth/image_raw', IMAGE, raw(0, flat(1)))])
    told = r'got no topic that is a camera by its name, .*it holds /depth/image_raw .*; fix: name '
    with pytest.raises(BagError, match=told):
        list(read_pictures(empty))
    with pytest.raises(BagError, match='no such bag'):
        list(read_pictures(tmp_path / 'nothing'))
