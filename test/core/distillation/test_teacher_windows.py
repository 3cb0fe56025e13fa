import numpy as np
import pytest

torch = pytest.importorskip('torch')

from offroad_seg_core.config import ConfigError, load_config  # noqa: E402
from offroad_seg_core.distillation.config import TeacherConfig  # noqa: E402
from offroad_seg_core.distillation.teachers import Teacher  # noqa: E402
from offroad_seg_core.inference.sliding_window import SlidingWindow  # noqa: E402
from offroad_seg_core.taxonomy import load_taxonomy  # noqa: E402

FALCON = load_taxonomy('falcon10')
SMALL = SlidingWindow((32, 32), (32, 32), 'uniform', 2)


def noise(seed=0):
    return np.random.default_rng(seed).integers(0, 255, (64, 96, 3)).astype(np.uint8)


@pytest.mark.parametrize('tta', ['off', 'flip_scales'])
def test_a_teacher_that_sees_blocks_alone_answers_the_same(palette_bundle, tta):
    image = noise()
    whole = Teacher(TeacherConfig(palette_bundle, tta=tta), FALCON)
    windows = Teacher(TeacherConfig(palette_bundle, tta=tta, sliding_window=SMALL), FALCON)
    expected = whole.probabilities(image, (16, 24))
    np.testing.assert_allclose(windows.probabilities(image, (16, 24)), expected, atol=1e-4)


def test_windows_of_a_checkpoint_side_by_side(checkpoint):
    # Without overlap and temperature, half the frame is what the network says of that half.
    image = noise(1)
    config = TeacherConfig(
        checkpoint, temperature=2.0, sliding_window=SlidingWindow((64, 32), (64, 32))
    )
    teacher = Teacher(config, FALCON)
    logits = teacher._cooled_logits(image[np.newaxis])
    parts = [
        teacher.network.logits(image[np.newaxis, :, left : left + 32]) for left in (0, 32, 64)
    ]
    np.testing.assert_allclose(logits, np.concatenate(parts, 3) / 2, atol=1e-4)
    whole = Teacher(TeacherConfig(checkpoint, temperature=2.0), FALCON)
    assert np.abs(logits - whole._cooled_logits(image[np.newaxis])).max() > 0.01


def test_frames_are_fitted_into_their_own_size(palette_bundle, make_palette_bundle, tmp_path):
    ids = np.random.default_rng(0).integers(0, 10, (16, 24))
    image = FALCON.palette_rgb[np.kron(ids, np.ones((8, 8), int))].copy()
    sliding = SlidingWindow((64, 96), (32, 32), frame_size=(128, 192))
    teacher = Teacher(TeacherConfig(palette_bundle, sliding_window=sliding), FALCON)
    found = teacher.probabilities(image, (16, 24))
    large = make_palette_bundle(tmp_path / 'large', size=[128, 192])
    whole = Teacher(TeacherConfig(large), FALCON).probabilities(image, (16, 24))
    np.testing.assert_allclose(found, whole, atol=1e-4)
    small = Teacher(TeacherConfig(palette_bundle), FALCON).probabilities(image, (16, 24))
    assert np.abs(found - small).max() > 0.1


def test_answers_of_other_windows_are_others(palette_bundle):
    plain = Teacher(TeacherConfig(palette_bundle), FALCON).identity()
    windows = Teacher(TeacherConfig(palette_bundle, sliding_window=SMALL), FALCON).identity()
    assert plain['sliding_window'] is None
    assert windows['sliding_window'] == {
        'window': [32, 32],
        'stride': [32, 32],
        'blend': 'uniform',
        'batch_size': 2,
        'frame_size': None,
    }
    assert {**windows, 'sliding_window': None} == plain


def test_configuration(palette_bundle):
    source = {
        'path': str(palette_bundle),
        'sliding_window': {'window': [64, 96], 'stride': [32] * 2},
    }
    config = load_config(TeacherConfig, source)
    assert config.sliding_window == SlidingWindow((64, 96), (32, 32))
    source['sliding_window']['stride'] = [32, 128]
    with pytest.raises(ConfigError, match=r'sliding_window.*got stride \(32, 128\).*leave gaps'):
        load_config(TeacherConfig, source)
    wrong = SlidingWindow((40, 96), (32, 32))
    with pytest.raises(ValueError, match=r'window: got \(40, 96\), expected multiples of 32'):
        Teacher(TeacherConfig(palette_bundle, sliding_window=wrong), FALCON)
