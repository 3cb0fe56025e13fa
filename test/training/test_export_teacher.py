"""A recipe's network on FlashInternImage-T becomes a bundle that computes what PyTorch does."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from offroad_seg_core.config import load_config
from offroad_seg_core.inference.engines import create_engine
from offroad_seg_core.inference.export import round_weights
from offroad_seg_core.models import create_model
from offroad_seg_core.models.flash_intern_image import VARIANTS
from offroad_seg_core.taxonomy import load_taxonomy
from offroad_seg_core.training.bundle_export import export_checkpoint
from offroad_seg_core.training.checkpoint import Checkpoint
from offroad_seg_core.training.config import TrainConfig
from offroad_seg_core.training.run import smoke_run

ROOT = Path(__file__).parents[2]
RECIPE = ROOT / 'config' / 'train' / 'goose64_upernet_flashinternimage_l.yaml'

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]


@pytest.fixture(
    scope='module',
    params=[
        pytest.param((1, 1, 1, 1), id='shallow'),
        pytest.param(VARIANTS['t'].depths, id='whole', marks=pytest.mark.large),
    ],
)
def depths(request):
    """Blocks of the stages: the export of all 30 takes a minute."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(VARIANTS, 't', replace(VARIANTS['t'], depths=request.param))
        yield request.param


@pytest.fixture(scope='module')
def checkpoint(tmp_path_factory, depths):
    """The checkpoint of a smoke run of the recipe, whose operators do something."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    output = tmp_path_factory.mktemp('teacher')
    config = smoke_run(load_config(TrainConfig, RECIPE, [f'output={output}']))
    assert config.model.options['size'] == 't'
    model = create_model(config.model.name, 64, **config.model.options)
    for name, parameter in model.named_parameters():
        # 0 at first, so that nothing would be sampled. With 0.05 the network is chaotic: PyTorch's
        # own float32 is a hundredth of the largest logit away from its float64.
        if '.offset_mask.' in name:
            torch.nn.init.normal_(parameter, std=0.02)
    info = {'scores': {}}
    state = model.state_dict()
    return Checkpoint(output / 'best.ckpt', config, load_taxonomy('goose64'), info, state)


@pytest.fixture(scope='module')
def bundle(checkpoint):
    return export_checkpoint(checkpoint, checkpoint.path.parent / 'bundle')


def test_onnx_runtime_agrees_with_pytorch(bundle):
    parity = bundle.manifest.provenance['export']['parity']
    assert parity['max_rel_error'] <= 1e-4
    assert parity['label_agreement'] > 0.9999
    assert bundle.manifest.outputs.stride == 4
    assert bundle.manifest.architecture.kwargs['auxiliary'] is False


def test_engines_agree(bundle, checkpoint):
    model = checkpoint.config.model
    image = np.random.default_rng(0).integers(0, 256, (1, *model.input_size, 3), np.uint8)
    mean, std = (torch.tensor(v).view(1, 3, 1, 1) for v in (model.mean, model.std))
    network = checkpoint.build()
    round_weights(network)  # as the file stores them
    with torch.inference_mode():
        pixels = torch.from_numpy(image).permute(0, 3, 1, 2).float()
        expected = network((pixels - mean) / std).numpy()
    assert expected.std() > 0.01
    for name in ('onnxruntime', 'torch'):
        engine = create_engine(bundle, name, 'fp32')
        logits = engine.run(image).logits
        engine.close()
        np.testing.assert_allclose(logits, expected, rtol=0, atol=1e-3 * np.abs(expected).max())


def test_parses_in_tensorrt(bundle, depths):
    reason = 'tensorrt_rtx, the builder that needs no GPU, is not installed'
    trt = pytest.importorskip('tensorrt_rtx', reason=reason)
    logger = trt.Logger(trt.Logger.ERROR)
    builder = trt.Builder(logger)  # the network must not outlive it
    network = builder.create_network(0)
    parser = trt.OnnxParser(network, logger)
    assert parser.parse(bundle.model_file('fp32').read_bytes()), parser.get_error(0).desc()
    kinds = [network.get_layer(index).type for index in range(network.num_layers)]
    assert kinds.count(trt.LayerType.GRID_SAMPLE) == sum(depths)  # one an operator
