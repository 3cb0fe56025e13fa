import pytest
import torch

from offroad_seg_core.models import create_model


@pytest.fixture(scope='module')
def model():
    torch.manual_seed(0)
    model = create_model('upernet_flash_intern_image', 64, size='l', auxiliary=False)
    for name, parameter in model.named_parameters():
        if '.offset_mask.' in name:  # 0 at first, so that nothing would be sampled
            torch.nn.init.normal_(parameter, std=0.02)
    return model.eval()


@pytest.mark.timeout(900)
@pytest.mark.parametrize('size', [(64, 96), pytest.param((512, 896), marks=pytest.mark.large)])
def test_logits_of_the_large_network(model, size):
    with torch.inference_mode():
        logits = model(torch.randn(1, 3, *size))
    assert logits.shape == (1, 64, size[0] // 4, size[1] // 4)
    assert torch.isfinite(logits).all()
    assert logits.std() > 1e-3
