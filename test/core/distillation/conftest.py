import cv2
import numpy as np
import pytest

torch = pytest.importorskip('torch')

from offroad_seg_core.config import dump_config, load_config  # noqa: E402
from offroad_seg_core.models import create_model  # noqa: E402
from offroad_seg_core.taxonomy import load_taxonomy  # noqa: E402
from offroad_seg_core.training.checkpoint import FORMAT_VERSION, KEY  # noqa: E402
from offroad_seg_core.training.config import TrainConfig  # noqa: E402


@pytest.fixture(autouse=True)
def _one_thread():
    torch.set_num_threads(1)


@pytest.fixture(scope='session')
def make_checkpoint(tmp_path_factory):
    """Return a function that writes an untrained network as a run would: (seed, taxonomy)."""

    def make(seed, taxonomy='falcon10', input_size=(64, 96)):
        config = load_config(
            TrainConfig,
            {
                'name': 'teacher',
                'taxonomy': taxonomy,
                'dataset': {'kind': 'folder', 'root': 'nowhere'},
                'model': {'name': 'ddrnet23_slim', 'input_size': list(input_size)},
                'optimizer': {'max_steps': 1},
            },
        )
        torch.manual_seed(seed)
        model = create_model('ddrnet23_slim', load_taxonomy(taxonomy).num_classes)
        for name, weight in model.named_parameters():
            if name.startswith(model.classifiers):  # fresh ones are all but equal
                torch.nn.init.normal_(weight, std=1.0)
        path = tmp_path_factory.mktemp('teacher') / 'best.ckpt'
        record = {
            'format_version': FORMAT_VERSION,
            'config': dump_config(config),
            'taxonomy': load_taxonomy(taxonomy).to_dict(),
            'info': {},
        }
        state = {f'average.{name}': value for name, value in model.state_dict().items()}
        torch.save({KEY: record, 'state_dict': state}, path)
        return path

    return make


@pytest.fixture(scope='session')
def checkpoint(make_checkpoint):
    return make_checkpoint(1)


@pytest.fixture
def pictures(tmp_path):
    """Write four pictures of noise; return their paths."""
    rng = np.random.default_rng(0)
    paths = [tmp_path / 'pictures' / f'{name}.png' for name in 'abcd']
    paths[0].parent.mkdir()
    for path in paths:
        cv2.imwrite(str(path), rng.integers(0, 255, (32, 48, 3)).astype(np.uint8))
    return paths
