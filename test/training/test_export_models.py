"""Networks without an auxiliary head become bundles that compute what PyTorch does."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from offroad_seg_core.inference.engines import create_engine
from offroad_seg_core.models import create_model
from offroad_seg_core.taxonomy import load_taxonomy
from offroad_seg_core.training.bundle_export import export_checkpoint
from offroad_seg_core.training.checkpoint import Checkpoint
from offroad_seg_core.training.config import ModelConfig

SIZE = (64, 128)


@pytest.mark.timeout(900)  # tracing an attention network is slow beside other tests on few cores
@pytest.mark.parametrize(
    ('name', 'options', 'resize', 'weights', 'license_name'),
    [
        ('fpn', {'encoder': 'resnet18'}, 'stretch', 'swsl', 'CC-BY-NC-4.0'),
        ('segformer_b0', {}, 'letterbox', 'imagenet', 'LicenseRef-NVIDIA-SegFormer'),
    ],
)
def test_bundle(make_config, tmp_path, name, options, resize, weights, license_name):
    torch.manual_seed(0)
    taxonomy = load_taxonomy('falcon10')
    settings = ModelConfig(name, options, SIZE, resize, weights=weights)
    config = replace(make_config(), model=settings)
    model = create_model(name, 10, **options).eval()
    checkpoint = Checkpoint(
        Path('best.ckpt'), config, taxonomy, {'scores': {}}, model.state_dict()
    )
    bundle = export_checkpoint(checkpoint, tmp_path / 'bundle')
    assert bundle.manifest.input.resize == resize
    assert bundle.manifest.provenance['license'] == license_name
    image = np.random.default_rng(0).integers(0, 256, (1, *SIZE, 3), np.uint8)
    mean, std = (torch.tensor(v).view(1, 3, 1, 1) for v in (config.model.mean, config.model.std))
    with torch.inference_mode():
        pixels = torch.from_numpy(image).permute(0, 3, 1, 2).float()
        expected = model((pixels - mean) / std).numpy()
    for engine_name in ('onnxruntime', 'torch'):
        engine = create_engine(bundle, engine_name, 'fp32')
        found = engine.run(image).logits
        engine.close()
        np.testing.assert_allclose(found, expected, atol=5e-3 * np.abs(expected).max())
