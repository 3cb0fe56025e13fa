import shutil

import cv2
import numpy as np
import pytest

torch = pytest.importorskip('torch')

from offroad_seg_core.config import ConfigError  # noqa: E402
from offroad_seg_core.datasets.masks import DatasetError, read_image  # noqa: E402
from offroad_seg_core.distillation.cache import SoftLabelCache  # noqa: E402
from offroad_seg_core.distillation.config import SoftLabelConfig  # noqa: E402
from offroad_seg_core.distillation.soft_labels import ClassSet, SoftLabels  # noqa: E402

CLASSES = ClassSet(3, (0, 1, 2))
IDENTITY = {
    'teachers': [{'sha256': 'a' * 64, 'weight': 1.0, 'tta': 'off'}],
    'input_size': [64, 96],
}


class Answers:
    """Answers with the brightness of a frame; remembers what it was asked."""

    def __init__(self, die_at=None):
        self.asked = []
        self.die_at = die_at

    def __call__(self, image):
        if len(self.asked) == self.die_at:
            raise KeyboardInterrupt
        self.asked.append(image.copy())
        share = image.mean() / 255
        return np.broadcast_to(
            np.array([share, 1 - share, 0], np.float32)[:, None, None], (3, 4, 6)
        )


@pytest.fixture
def make_cache(tmp_path):
    def make(identity=IDENTITY, classes=CLASSES, **options):
        config = SoftLabelConfig(tmp_path / 'cache', storage='float16', **options)
        return SoftLabelCache(config, identity, classes)

    return make


def test_each_frame_is_answered_once(make_cache, pictures):
    answers = Answers()
    files = make_cache().fill(pictures, answers)
    assert len(answers.asked) == 4
    again = Answers()
    assert make_cache().fill(pictures[::-1], again) == files[::-1]
    assert again.asked == []
    for picture, file in zip(pictures, files, strict=True):
        labels = SoftLabels.read(file, CLASSES)
        assert labels.frame_size == (32, 48)
        assert labels.dense()[0, 0, 0] == pytest.approx(read_image(picture).mean() / 255, abs=1e-3)


def test_a_killed_run_is_gone_on_with(make_cache, pictures):
    with pytest.raises(KeyboardInterrupt):
        make_cache().fill(pictures, Answers(die_at=3))
    rest = Answers()
    files = make_cache().fill(pictures, rest)
    assert len(rest.asked) == 1
    assert np.array_equal(rest.asked[0], read_image(pictures[3]))
    folder = files[0].parent
    assert sorted(folder.iterdir()) == sorted(files)  # nothing half-written is left


def test_frames_are_known_by_their_content(make_cache, pictures, tmp_path):
    files = make_cache().fill(pictures, Answers())
    moved = tmp_path / 'moved'
    shutil.copytree(pictures[0].parent, moved)
    asked = Answers()
    assert make_cache().fill([moved / path.name for path in pictures], asked) == files
    assert asked.asked == []
    cv2.imwrite(str(pictures[1]), np.full((32, 48, 3), 7, np.uint8))
    changed = make_cache().fill(pictures, asked)
    assert [one == other for one, other in zip(changed, files, strict=True)] == [
        True, False, True, True,
    ]  # fmt: skip
    assert len(asked.asked) == 1


def test_equal_frames_share_an_answer(make_cache, pictures):
    shutil.copy(pictures[0], pictures[2])
    answers = Answers()
    files = make_cache().fill(pictures, answers)
    assert len(answers.asked) == 3
    assert files[0] == files[2]


def test_several_processes_begin_apart_and_leave_nothing_missing(make_cache, pictures):
    second = Answers(die_at=1)
    with pytest.raises(KeyboardInterrupt):
        make_cache().fill(pictures, second, part=(1, 2))
    assert np.array_equal(second.asked[0], read_image(pictures[2]))
    first = Answers()
    make_cache().fill(pictures, first, part=(0, 2))
    assert len(first.asked) == 3


@pytest.mark.parametrize(
    ('changes', 'message'),
    [
        (
            {
                'identity': {
                    **IDENTITY,
                    'teachers': [{**IDENTITY['teachers'][0], 'sha256': 'b' * 64}],
                }
            },
            r'teachers\[0\]\.sha256: got aaaaaaaaaaaa…, expected bbbbbbbbbbbb…; name another',
        ),
        (
            {'identity': {**IDENTITY, 'teachers': [{**IDENTITY['teachers'][0], 'weight': 2.0}]}},
            r'weight: got 1\.0, expected 2\.0',
        ),
        ({'identity': {**IDENTITY, 'teachers': []}}, 'teachers: got .*, expected '),
        ({'identity': {**IDENTITY, 'input_size': [64, 128]}}, r'input_size\[1\]: got 96, exp'),
        ({'top_k': 2}, 'top_k: got 8, expected 2'),
        ({'classes': ClassSet(3, (0, 2))}, 'known_classes: got'),
    ],
)
def test_answers_of_others_are_refused(make_cache, pictures, changes, message):
    make_cache().fill(pictures, Answers())
    with pytest.raises(ConfigError, match=f'holds soft labels of other teachers.*{message}'):
        make_cache(**changes)


def test_a_broken_picture_is_named(make_cache, pictures):
    pictures[1].write_bytes(b'no picture')
    with pytest.raises(DatasetError, match=r'b\.png: not a picture'):
        make_cache().fill(pictures, Answers())
    pictures[1].unlink()
    with pytest.raises(DatasetError, match=r'b\.png: no such file'):
        make_cache().fill(pictures, Answers())
