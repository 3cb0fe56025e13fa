from importlib.util import module_from_spec, spec_from_file_location
import json
import math
import os
from pathlib import Path
import subprocess
import sys

from hypothesis import given, settings
from hypothesis import strategies as st
import numpy as np
import pytest
import torch

from offroad_seg_core.models import dcnv4_gather
from offroad_seg_core.models.dcnv4 import _grid_sample, dcnv4

FOLDER = Path(__file__).parent
_spec = spec_from_file_location('dcnv4_cases', FOLDER / 'dcnv4_cases.py')
cases = module_from_spec(_spec)
_spec.loader.exec_module(cases)
CASES, Case, reference = cases.CASES, cases.Case, cases.reference


@pytest.fixture(autouse=True)
def _one_thread():
    torch.set_num_threads(1)


def compute(case, value, offset_mask):
    return dcnv4(value, offset_mask, case.groups, **case.settings)


def gradients(function, value, offset_mask, gradient):
    """Return what autograd says of a function of (value, offset_mask)."""
    inputs = value.clone().requires_grad_(), offset_mask.clone().requires_grad_()
    return torch.autograd.grad(function(*inputs), inputs, gradient)


@pytest.mark.parametrize('name', CASES)
class TestAgreement:
    def test_with_the_definition(self, name):
        case = CASES[name]
        value, offset_mask, _ = case.tensors(torch.float64)
        expected = reference(value, offset_mask, case)
        assert np.abs(expected).max() > 1
        output = compute(case, value, offset_mask)
        np.testing.assert_allclose(output, expected, atol=1e-12)
        single = compute(case, value.float(), offset_mask.float())
        np.testing.assert_allclose(single, expected, atol=2e-5)

    def test_with_the_exported_form(self, name):
        case = CASES[name]
        value, offset_mask, _ = case.tensors()
        exported = _grid_sample(value, offset_mask, case.sampling)
        torch.testing.assert_close(
            exported, compute(case, value, offset_mask), rtol=1e-4, atol=2e-5
        )

    def test_gradients_with_autograd_of_the_exported_form(self, name):
        case = CASES[name]
        tensors = case.tensors()
        ours = gradients(lambda *x: compute(case, *x), *tensors)
        theirs = gradients(lambda *x: _grid_sample(*x, case.sampling), *tensors)
        for got, expected in zip(ours, theirs, strict=True):
            torch.testing.assert_close(got, expected, rtol=1e-3, atol=1e-4)
        if case.tail:
            assert ours[1][..., -case.tail :].abs().max() == 0

    def test_gradcheck(self, name):
        case = CASES[name]
        value, offset_mask, _ = case.tensors(torch.float64)
        inputs = value.requires_grad_(), offset_mask.requires_grad_()
        assert torch.autograd.gradcheck(
            lambda *x: compute(case, *x), inputs, fast_mode=True, eps=1e-7, atol=1e-5
        )


@settings(max_examples=30, deadline=None)
@given(
    case=st.builds(
        Case,
        groups=st.integers(1, 3),
        depth=st.integers(1, 3),
        batch=st.integers(1, 3),
        size=st.tuples(st.integers(3, 6), st.integers(3, 6)),
        stride=st.integers(1, 3),
        padding=st.integers(1, 3),
        dilation=st.integers(1, 2),
        offset_scale=st.sampled_from([0.5, 1.0, 2.0]),
        remove_center=st.booleans(),
    ),
    seed=st.integers(0, 99),
)
def test_any_setting_agrees_with_the_definition(case, seed):
    value, offset_mask, _ = case.tensors(torch.float64, seed)
    output = compute(case, value, offset_mask)
    np.testing.assert_allclose(output, reference(value, offset_mask, case), atol=1e-12)


def test_strips_join_without_a_seam(monkeypatch):
    case = Case(size=(11, 4), batch=3)
    value, offset_mask, gradient = case.tensors()
    whole = dcnv4_gather.forward(value, offset_mask, case.sampling)
    whole_gradients = dcnv4_gather.backward(gradient, value, offset_mask, case.sampling)
    # Three rows a strip: strips end within images and reach over their borders.
    monkeypatch.setitem(dcnv4_gather._STRIP_CORNERS, 'cpu', 3 * 4 * case.groups * 36)
    # The same backward, of one group and three of 11 rows at a time.
    monkeypatch.setitem(dcnv4_gather._STRIP_SAMPLES, 'cpu', 3 * 4 * case.depth * 9)
    steps = dcnv4_gather._backward_strip(value, 11, 4, case.sampling)
    assert steps == (1, 3)
    strips = dcnv4_gather.forward(value, offset_mask, case.sampling)
    torch.testing.assert_close(strips, whole, rtol=0, atol=1e-6)
    strip_gradients = dcnv4_gather.backward(gradient, value, offset_mask, case.sampling)
    torch.testing.assert_close(strip_gradients, whole_gradients, rtol=0, atol=1e-5)


def test_a_tap_by_hand():
    # One pixel, offset (0.25, 0.5) and weight 3 on tap 7: column +1, row 0.
    value = torch.arange(12.0).view(1, 3, 4, 1)
    offset_mask = torch.zeros(1, 3, 4, 27)
    offset_mask[0, 1, 1, 14:16] = torch.tensor([0.25, 0.5])
    offset_mask[0, 1, 1, 18 + 7] = 3.0
    output = dcnv4(value, offset_mask, 1)
    # x = 1 + 1 + 0.25, y = 1 + 0.5 of an image that grows by 1 a column and 4 a row.
    assert output[0, 1, 1, 0] == pytest.approx(3 * (2.25 + 4 * 1.5))
    assert output.count_nonzero() == 1
    doubled = dcnv4(value, offset_mask, 1, offset_scale=2.0)
    # x = 1 + 2 * 1.25 is halfway between the last column, 3 and 3 + 4, and nothing.
    assert doubled[0, 1, 1, 0] == pytest.approx(3 * 0.5 * (3 + 4 * 2))


class TestPrecision:
    @pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16])
    def test_half_precision_stays_exact_on_wide_images(self, dtype):
        # In float16, 2 x + 1 has steps of 4 at the right end of 4096 pixels, and x / W * 2 - 1
        # steps of a pixel: whole columns would be sampled beside their place.
        width, groups, depth = 4096, 1, 2
        generator = torch.Generator().manual_seed(0)
        value = torch.randn(1, 3, width, groups * depth, generator=generator).to(dtype)
        offset_mask = torch.randn(1, 3, width, 32, generator=generator).to(dtype)
        output = dcnv4(value, offset_mask, groups)
        assert output.dtype == dtype
        assert torch.isfinite(output).all()
        exact = dcnv4(value.double(), offset_mask.double(), groups)
        # float32 knows places near 4096 to 0.0005 px, their normalised form to a few of these.
        tolerance = torch.finfo(dtype).eps * exact.abs() + 0.004
        assert ((output - exact).abs() <= tolerance).all()
        exported = _grid_sample(value, offset_mask, Case(groups=1).sampling)
        assert ((exported - exact).abs() <= 4 * tolerance).all()

    def test_numbers_that_overflow_lie_outside(self):
        case = Case(groups=1)
        value, offset_mask, gradient = case.tensors()
        offset_mask[..., 0], offset_mask[..., 3] = math.inf, -3e38
        expected = offset_mask.clone()
        expected[..., [18, 19]] = 0.0  # the taps of those offsets
        expected[..., [0, 3]] = 0.0
        output = compute(case, value, offset_mask)
        torch.testing.assert_close(output, compute(case, value, expected))
        grads = gradients(lambda *x: compute(case, *x), value, offset_mask, gradient)
        assert all(torch.isfinite(grad).all() for grad in grads)

    def test_not_a_number_shows(self):
        case = Case(groups=1)
        value, offset_mask, _ = case.tensors()
        offset_mask[0, 2, 2, 5] = math.nan
        output = compute(case, value, offset_mask)
        assert output[0, 2, 2].isnan().all()
        assert output.isnan().sum() == case.depth

    def test_gradients_keep_the_type_and_are_added_in_float32(self):
        case = CASES['plain']
        tensors = case.tensors()
        half = [tensor.bfloat16() for tensor in tensors]
        grads = gradients(lambda *x: compute(case, *x), *half)
        exact = gradients(lambda *x: compute(case, *x), *(tensor.float() for tensor in half))
        for got, expected in zip(grads, exact, strict=True):
            assert got.dtype == torch.bfloat16
            torch.testing.assert_close(got.float(), expected, rtol=2**-8, atol=1e-6)


class TestOperator:
    def test_opcheck(self):
        case = Case(groups=1, size=(3, 3), batch=1)
        value, offset_mask, _ = case.tensors(torch.float64)
        arguments = (value.requires_grad_(), offset_mask.requires_grad_(), 1, 1, 1, 1, 1.0, False)
        torch.library.opcheck(torch.ops.offroad_seg.dcnv4.default, arguments)

    def test_inputs_need_not_be_contiguous(self):
        case = CASES['plain']
        value, offset_mask, gradient = case.tensors()
        expected = gradients(lambda *x: compute(case, *x), value, offset_mask, gradient)
        planar = [tensor.permute(0, 3, 1, 2).contiguous().permute(0, 2, 3, 1)
                  for tensor in (value, offset_mask, gradient)]  # fmt: skip
        assert not planar[0].is_contiguous()
        got = gradients(lambda *x: compute(case, *x), *planar)
        torch.testing.assert_close(got, expected)


class TestTriton:
    def test_kernels_agree_with_pytorch(self):
        pytest.importorskip('triton')
        # In a process of its own: the interpreter must be chosen before Triton is imported.
        result = subprocess.run(
            [sys.executable, FOLDER / 'dcnv4_interpreted.py'],
            env={**os.environ, 'TRITON_INTERPRET': '1'},
            capture_output=True,
            text=True,
            timeout=110,
        )
        assert result.returncode == 0, result.stderr
        errors = json.loads(result.stdout)
        assert len(errors) == 4
        for name, (output, grad_value, grad_numbers) in errors.items():
            assert output < 1e-5, name
            assert grad_value < 1e-5, name
            assert grad_numbers < 3e-5, name

    @pytest.mark.gpu
    @pytest.mark.skipif(not torch.cuda.is_available(), reason='needs CUDA')
    @pytest.mark.parametrize('name', CASES)
    def test_on_a_gpu(self, name):
        case = CASES[name]
        tensors = case.tensors()
        expected = compute(case, *tensors[:2])
        on_gpu = [tensor.cuda() for tensor in tensors]
        torch.testing.assert_close(
            compute(case, *on_gpu[:2]).cpu(), expected, rtol=1e-4, atol=2e-5
        )
        grads = gradients(lambda *x: compute(case, *x), *on_gpu)
        expected_grads = gradients(lambda *x: compute(case, *x), *tensors)
        for got, wanted in zip(grads, expected_grads, strict=True):
            torch.testing.assert_close(got.cpu(), wanted, rtol=1e-3, atol=1e-4)


class TestMistakes:
    def test_channels_and_groups(self):
        with pytest.raises(ValueError, match='got 10 channels in 3 groups, expected a multiple'):
            dcnv4(torch.zeros(1, 3, 3, 10), torch.zeros(1, 3, 3, 81), 3)

    def test_too_small(self):
        with pytest.raises(ValueError, match=r'input of 2x9 px, which is smaller than one step'):
            dcnv4(torch.zeros(1, 2, 9, 4), torch.zeros(1, 1, 1, 27), 1, padding=0, stride=4)

    def test_offsets_of_another_size(self):
        expected = r'offset_mask \(1, 3, 3, 26\), expected \(1, 3, 3\) and 27 numbers or more'
        with pytest.raises(ValueError, match=expected):
            dcnv4(torch.zeros(1, 3, 3, 4), torch.zeros(1, 3, 3, 26), 1)
        with pytest.raises(ValueError, match=r'expected \(1, 2, 2\)'):
            dcnv4(torch.zeros(1, 3, 3, 4), torch.zeros(1, 3, 3, 27), 1, stride=2)
