from functools import partial
from importlib.util import find_spec, module_from_spec, spec_from_file_location
from pathlib import Path
import signal

import cv2
import numpy as np
import pytest

torch = pytest.importorskip('torch')
if find_spec('lightning') is None:
    pytest.skip('lightning is not installed', allow_module_level=True)

from offroad_seg_core.config import load_config  # noqa: E402
from offroad_seg_core.training.config import TrainConfig  # noqa: E402
from offroad_seg_core.training.recorder import (  # noqa: E402
    Recorder,
    TrainingInterruptedError,
)
from offroad_seg_core.training.run import train  # noqa: E402

SIZE = (64, 128)


@pytest.fixture(autouse=True)
def _one_thread():
    torch.set_num_threads(1)


@pytest.fixture(scope='session')
def frames_root(tmp_path_factory):
    """Write four training and two validation frames: sky over ground, with a bush."""
    root = tmp_path_factory.mktemp('frames')
    rng = np.random.default_rng(0)
    for split, count in (('train', 4), ('validation', 2)):
        for folder in ('images', 'labels'):
            (root / split / folder).mkdir(parents=True)
        for index in range(count):
            labels = np.full(SIZE, 8, np.uint8)
            labels[: 20 + 4 * index] = 9
            labels[40:, 20 * index : 20 * index + 30] = 3
            colors = np.zeros((256, 3), np.uint8)
            colors[[3, 8, 9]] = [[20, 60, 90], [75, 150, 210], [230, 200, 130]]
            image = colors[labels] + rng.integers(0, 20, (*SIZE, 3)).astype(np.uint8)
            cv2.imwrite(str(root / split / 'images' / f'f{index}.png'), image)
            cv2.imwrite(str(root / split / 'labels' / f'f{index}.png'), labels)
    return root


def tiny_config(frames_root, output, *overrides):
    """Return the configuration of a tiny run."""
    source = {
        'name': 'tiny',
        'dataset': {'kind': 'folder', 'root': str(frames_root)},
        'model': {'name': 'ddrnet23_slim', 'input_size': list(SIZE)},
        'optimizer': {'max_steps': 4, 'warmup_steps': 1},
        'loader': {'batch_size': 2, 'crop_size': [64, 128]},
        'loss': {'terms': [{'name': 'cross_entropy'}, {'name': 'dice'}]},
        'validate_every': 2,
        'precision': 'fp32',
        'output': str(output),
    }
    return load_config(TrainConfig, source, overrides)


@pytest.fixture
def make_config(frames_root, tmp_path):
    """Return a function that builds a tiny run from 'key=value' overrides."""
    return partial(tiny_config, frames_root, tmp_path / 'runs')


@pytest.fixture
def train_in_two_parts(monkeypatch):
    """Return a function that trains, is interrupted after a step, and goes on."""

    def run(config, stop_after):
        def interrupt(self, trainer, *arguments):
            if trainer.global_step == stop_after:
                signal.raise_signal(signal.SIGINT)
            original(self, trainer, *arguments)

        original = Recorder.on_train_batch_end
        match = f'stopped at step {stop_after} of {config.optimizer.max_steps}; saved .*--resume'
        with monkeypatch.context() as patch:
            patch.setattr(Recorder, 'on_train_batch_end', interrupt)
            with pytest.raises(TrainingInterruptedError, match=match):
                train(config)
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
        return train(config, resume=True)

    return run


@pytest.fixture(scope='session')
def whole(frames_root, tmp_path_factory):
    """Train six steps without a break; return the folder."""
    torch.set_num_threads(1)
    config = tiny_config(frames_root, tmp_path_factory.mktemp('whole'), 'optimizer.max_steps=6')
    train(config)
    return config.folder


@pytest.fixture(scope='session')
def finished(frames_root, tmp_path_factory):
    """Train a tiny run; return its configuration and scores. Its files are shared by tests."""
    torch.set_num_threads(1)
    config = tiny_config(frames_root, tmp_path_factory.mktemp('runs'))
    return config, train(config, command='train.py --config tiny.yaml')


@pytest.fixture(scope='session')
def load_script():
    """Return a function that imports training/<name>.py, which is in no package."""

    def load(name):
        path = Path(__file__).parents[2] / 'training' / f'{name}.py'
        spec = spec_from_file_location(f'{name}_script', path)
        module = module_from_spec(spec)
        spec.loader.exec_module(module)
        return module

    return load
