import cv2
import numpy as np
import pytest

torch = pytest.importorskip('torch')
pytest.importorskip('rosbags')
from rosbags.rosbag2 import Writer  # noqa: E402
from rosbags.typesys import Stores, get_typestore  # noqa: E402

from offroad_seg_core.config import ConfigError, load_config  # noqa: E402
from offroad_seg_core.datasets.frames import FrameFiles, FrameSet  # noqa: E402
from offroad_seg_core.datasets.masks import DatasetError, MaskReader, read_image  # noqa: E402
from offroad_seg_core.distillation.config import (  # noqa: E402
    DistillationConfig,
    UnlabelledConfig,
)
from offroad_seg_core.distillation.lesson import prepare_lesson  # noqa: E402
from offroad_seg_core.distillation.unlabelled import find_pictures, refuse_measured  # noqa: E402
from offroad_seg_core.inference.manifest import InputSpec  # noqa: E402
from offroad_seg_core.taxonomy import load_taxonomy  # noqa: E402

FALCON = load_taxonomy('falcon10')
SPEC = InputSpec(size=(64, 96), mean=(0, 0, 0), std=(1, 1, 1), stride=1)


def write_bag(path, images):
    store = get_typestore(Stores.ROS2_JAZZY)
    kind = 'sensor_msgs/msg/Image'
    with Writer(path, version=9) as writer:
        connection = writer.add_connection('/front/image_raw', kind, typestore=store)
        for index, image in enumerate(images):
            stamp = store.types['builtin_interfaces/msg/Time'](0, 0)  # a camera without a clock
            header = store.types['std_msgs/msg/Header'](stamp, 'front')
            height, width = image.shape[:2]
            message = store.types[kind](
                header, height, width, 'rgb8', 0, 3 * width, image.reshape(-1)
            )
            writer.write(connection, index, store.serialize_cdr(message, kind))
    return path


def painted(*names):
    """Return an image (32, 48, 3) of vertical stripes in the colours of classes."""
    ids = np.repeat([FALCON.index(name) for name in names], 48 // len(names))
    return np.broadcast_to(FALCON.palette_rgb[ids], (32, 48, 3)).copy()


@pytest.fixture
def drive(tmp_path):
    """Write a drive over rocks, then logs, then landscape."""
    images = [painted(*names) for names in (['Rocks'], ['Logs', 'Sky'], ['Landscape'])]
    return write_bag(tmp_path / 'drive', images), images


@pytest.fixture
def labelled(tmp_path):
    """Return one labelled frame of grass."""
    image, label = tmp_path / 'frame.png', tmp_path / 'label.png'
    cv2.imwrite(str(image), painted('Dry Grass')[..., ::-1])
    cv2.imwrite(str(label), np.full((32, 48), FALCON.index('Dry Grass'), np.uint8))
    files = [FrameFiles(image, label, 'here')]
    return FrameSet(files, FALCON, MaskReader(FALCON, 'class_ids'), 'here')


def lesson_of(labelled, bundle, folder, temperature=1.0, **unlabelled):
    source = {
        'teachers': [{'path': str(bundle), 'temperature': temperature}],
        'soft_labels': {'folder': str(folder), 'stride': 16},
        'unlabelled': {**unlabelled, 'path': str(unlabelled['path'])},
    }
    config = load_config(DistillationConfig, source)
    return prepare_lesson(config, FALCON, SPEC, labelled)


class TestPictures:
    def test_of_a_bag_are_taken_out_once(self, drive, tmp_path, monkeypatch):
        bag, images = drive
        config = UnlabelledConfig(bag, every=2)
        found = find_pictures(config, tmp_path / 'out')
        assert [path.name for path in found] == ['front_000000.png', 'front_000001.png']
        for path, image in zip(found, images[::2], strict=True):
            assert np.array_equal(read_image(path), image)
        monkeypatch.setattr('offroad_seg_core.bags.pictures.read_pictures', None)
        assert find_pictures(config, tmp_path / 'out') == found
        monkeypatch.undo()
        assert len(find_pictures(UnlabelledConfig(bag), tmp_path / 'out')) == 3

    def test_of_a_folder_are_used_where_they_are(self, pictures, tmp_path):
        found = find_pictures(UnlabelledConfig(pictures[0].parent), tmp_path / 'out')
        assert found == pictures
        assert not (tmp_path / 'out').exists()
        some = UnlabelledConfig(pictures[0].parent, pattern='{b,d}.png')
        assert find_pictures(some, tmp_path / 'out') == pictures[1::2]

    def test_there_must_be_some(self, tmp_path):
        with pytest.raises(DatasetError, match='nowhere: no such folder or bag'):
            find_pictures(UnlabelledConfig(tmp_path / 'nowhere'), tmp_path)
        (tmp_path / 'empty').mkdir()
        with pytest.raises(DatasetError, match='empty: no pictures'):
            find_pictures(UnlabelledConfig(tmp_path / 'empty'), tmp_path)


def test_a_drive_becomes_frames_that_the_teachers_labelled(
    drive, labelled, palette_bundle, tmp_path
):
    bag, _ = drive
    lesson = lesson_of(
        labelled, palette_bundle, tmp_path / 'soft', path=bag, confidence=0.5, share=0.75
    )
    frames = lesson.frames
    assert [entry.environment for entry in frames.files] == ['here', *['unlabelled'] * 3]
    assert np.array_equal(frames.read(0)[1], labelled.read(0)[1])
    assert (frames.read(1)[1] == FALCON.index('Rocks')).all()
    logs_and_sky = frames.read(2)[1]
    assert (logs_and_sky[:, :16] == FALCON.index('Logs')).all()
    assert (logs_and_sky[:, 32:] == FALCON.index('Sky')).all()
    assert frames.weights.sum() == pytest.approx(4)
    assert frames.weights[1:].sum() / 4 == pytest.approx(0.75)
    assert lesson.strengths.tolist() == [1, 2, 2, 2]
    assert len(lesson.answers) == 4
    origins = np.stack(np.meshgrid(np.arange(48), np.arange(32)), axis=-1).astype(np.float32)
    soft = lesson.reader(8)(2, origins)
    assert soft.shape == (4, 6, 10)
    assert (soft[:, :2].argmax(axis=-1) == FALCON.index('Logs')).all()


def test_an_empty_gate_says_so(drive, labelled, checkpoint, tmp_path):
    bag, _ = drive
    match = (
        r'drive: got no pixel of 3 frames that reaches .*confidence 0\.9; the teachers are sure'
    )
    with pytest.raises(DatasetError, match=match):
        lesson_of(labelled, checkpoint, tmp_path / 'soft', 1e4, path=bag, confidence=0.9)


def test_features_alone_need_no_answers(labelled, tmp_path):
    config = load_config(
        DistillationConfig,
        {
            'teachers': [{'path': 'nowhere.ckpt'}],
            'soft_labels': {'folder': str(tmp_path / 'soft')},
            'terms': [],
            'features': [{'student_layer': 'detail5', 'teacher_layer': 'detail5'}],
        },
    )
    lesson = prepare_lesson(config, FALCON, SPEC, labelled)
    assert lesson.frames is labelled
    assert lesson.reader(8) is None
    assert not (tmp_path / 'soft').exists()


@pytest.mark.parametrize(
    ('changes', 'message'),
    [
        ({'terms': []}, 'got neither terms nor features'),
        ({'terms': [{'name': 'kl'}, {'name': 'kl'}]}, 'kl, kl, expected every loss once'),
        ({'teachers': []}, 'at least 1 item'),
        (
            {'features': [{'student_layer': 'a', 'teacher_layer': 'b', 'teacher': 1}]},
            'got teacher 1, expected 0 to 0: there are 1 teachers',
        ),
    ],
)
def test_configurations_that_teach_nothing(changes, message):
    source = {'teachers': [{'path': 'a.ckpt'}], 'soft_labels': {'folder': 'soft'}}
    with pytest.raises(ConfigError, match=message):
        load_config(DistillationConfig, {**source, **changes})


def test_what_is_measured_on_must_be_new(labelled, tmp_path):
    other = tmp_path / 'other.png'
    cv2.imwrite(str(other), painted('Rocks'))
    refuse_measured([other], labelled)
    link = tmp_path / 'link.png'
    link.symlink_to(labelled.files[0].image)
    with pytest.raises(
        ConfigError, match=r'1 of 2 pictures, such as .*link\.png, are also frames'
    ):
        refuse_measured([other, link], labelled)
