"""DCNv4 between its projections."""

import pytest
import torch
from torch import nn

from offroad_seg_core.models.dcnv4 import DCNv4


@pytest.fixture(autouse=True)
def _one_thread():
    torch.set_num_threads(1)


def test_state_dict_has_the_published_names_and_shapes():
    module = DCNv4(160, 10, dw_kernel_size=3, offset_scale=2.0)
    shapes = {name: tuple(value.shape) for name, value in module.state_dict().items()}
    assert shapes == {
        'offset_mask_dw.weight': (160, 1, 3, 3),
        'offset_mask_dw.bias': (160,),
        'offset_mask.weight': (272, 160),
        'offset_mask.bias': (272,),
        'value_proj.weight': (160, 160),
        'value_proj.bias': (160,),
        'output_proj.weight': (160, 160),
        'output_proj.bias': (160,),
    }
    plain = DCNv4(64, 4, output_bias=False).state_dict()
    assert {'offset_mask_dw.weight', 'output_proj.bias'}.isdisjoint(plain)


def test_it_starts_at_the_bias():
    module = DCNv4(32, 2)
    nn.init.ones_(module.output_proj.bias)
    assert torch.equal(module(torch.randn(1, 3, 4, 32)), torch.ones(1, 3, 4, 32))


def test_offsets_come_from_the_input_not_from_the_value():
    module = DCNv4(32, 2)
    nn.init.normal_(module.offset_mask.weight)
    nn.init.zeros_(module.value_proj.weight)
    nn.init.ones_(module.value_proj.bias)
    first, second = torch.randn(2, 1, 5, 5, 32)
    assert not torch.allclose(module(first), module(second))


def test_autocast():
    torch.manual_seed(0)
    module = DCNv4(32, 2, dw_kernel_size=3)
    nn.init.normal_(module.offset_mask.weight, std=0.1)
    x = torch.randn(2, 6, 5, 32, requires_grad=True)
    expected = module(x)
    with torch.autocast('cpu', torch.bfloat16):
        output = module(x)
    assert output.dtype == torch.bfloat16
    assert (output - expected).abs().max() < 0.03 * expected.abs().max()
    output.float().square().sum().backward()
    assert torch.isfinite(x.grad).all()


def test_compiled():
    torch.manual_seed(0)
    module = DCNv4(32, 2, dw_kernel_size=3, offset_scale=2.0)
    nn.init.normal_(module.offset_mask.weight, std=0.1)
    x = torch.randn(1, 4, 5, 32, requires_grad=True)
    expected = module(x)
    (expected_grad,) = torch.autograd.grad(expected.sum(), x)
    compiled = torch.compile(module, backend='aot_eager', fullgraph=True)
    output = compiled(x)
    torch.testing.assert_close(output, expected)
    torch.testing.assert_close(torch.autograd.grad(output.sum(), x)[0], expected_grad)


def test_other_kernels():
    with pytest.raises(ValueError, match='kernel_size is 5, expected 3'):
        DCNv4(32, 2, kernel_size=5)


def test_groups_that_do_not_divide_the_channels():
    with pytest.raises(ValueError, match='got 10 channels in 3 groups'):
        DCNv4(10, 3)
