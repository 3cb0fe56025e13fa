"""A PyTorch function between arrays; its capture as a CUDA graph runs where there is a GPU."""

import numpy as np
import pytest

pytest.importorskip('torch')
pytest.importorskip('onnx')

import torch
from torch import nn

from offroad_seg_core.inference.engines import EngineError
from offroad_seg_core.inference.engines.torch_graph import GraphedFunction, ImageFunctions
from offroad_seg_core.inference.export_head import decoded
from offroad_seg_core.inference.head import HeadInputs

CPU = torch.device('cpu')
MEAN, STD = (10.0, 20.0, 30.0), (2.0, 4.0, 8.0)
HEADS = (
    HeadInputs.of_classes(5, range(5)),
    HeadInputs.of_classes(5, (0, 3)),
    HeadInputs(np.linspace(-1, 1, 5, dtype=np.float32), 2.0),
)


def network(seed=0):
    """Return a network of stride 4 with five classes."""
    torch.manual_seed(seed)
    layers = nn.Conv2d(3, 8, 4, stride=4), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 5, 1)
    return nn.Sequential(*layers).eval()


def images(count=2, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (count, 32, 48, 3), np.uint8)


def expected_logits(pixels):
    batch = (pixels - np.array(MEAN)) / np.array(STD)
    with torch.inference_mode():
        return network()(torch.tensor(batch.transpose(0, 3, 1, 2), dtype=torch.float32)).numpy()


def test_logits_are_those_of_the_network_on_normalised_pixels():
    functions = ImageFunctions(network(), MEAN, STD, torch.float32, 4)
    (logits,) = functions.logits(torch.from_numpy(images()))
    assert logits.shape == (2, 5, 8, 12)
    assert logits.is_contiguous()
    np.testing.assert_allclose(logits.detach().numpy(), expected_logits(images()), atol=1e-4)


@pytest.mark.parametrize('head', HEADS)
@pytest.mark.parametrize('factor', [1, 2, 4])
def test_labels_and_confidence_are_those_of_the_decoded_logits(head, factor):
    functions = ImageFunctions(network(), MEAN, STD, torch.float32, factor)
    temperature = np.array(head.temperature, np.float32)
    inputs = [images(), head.logit_bias, temperature]
    labels, confidence = GraphedFunction(functions.labels, inputs, CPU).run(inputs)
    size = (8 * factor, 12 * factor)
    expected_labels, expected_confidence = decoded(expected_logits(images()), head, size)
    assert labels.dtype == np.uint8
    assert labels.shape == (2, *size)
    assert (labels == expected_labels).mean() > 0.999
    np.testing.assert_allclose(confidence, expected_confidence, atol=1e-5)


def test_half_precision_casts_what_multiplies_and_keeps_the_rest():
    model = network()
    functions = ImageFunctions(model, MEAN, STD, torch.bfloat16, 4)
    assert [parameter.dtype for parameter in model[0].parameters()] == [torch.bfloat16] * 2
    assert model[1].running_mean.dtype == torch.float32
    (logits,) = functions.logits(torch.from_numpy(images()))
    expected = expected_logits(images())
    assert logits.dtype == torch.float32
    error = np.abs(logits.detach().numpy() - expected).max()
    assert 0 < error < 0.02 * np.abs(expected).max()


def test_every_run_reads_the_arrays_it_is_given():
    calls = []

    def double(values):
        calls.append(values.shape)
        return (2 * values,)

    function = GraphedFunction(double, [np.zeros((2, 3), np.float32)], CPU)
    for value in (1.0, 5.0):
        array = np.full((2, 3), value, np.float32)
        array.flags.writeable = False
        (result,) = function.run([array])
        np.testing.assert_array_equal(result, 2 * array)


def test_another_shape_is_refused():
    function = GraphedFunction(lambda values: (values,), [np.zeros((2, 3), np.float32)], CPU)
    with pytest.raises(EngineError, match=r'got an array \(2, 4\), expected \(2, 3\)'):
        function.run([np.zeros((2, 4), np.float32)])


def test_what_the_function_raises_names_the_shapes():
    def fail(values):
        raise RuntimeError('out of memory')

    with pytest.raises(EngineError, match=r'failed on \(2, 3\): out of memory'):
        GraphedFunction(fail, [np.zeros((2, 3), np.float32)], CPU)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason='no NVIDIA GPU')
class TestOnAGpu:
    @pytest.mark.parametrize('dtype', [torch.float32, torch.float16])
    def test_the_graph_gives_what_the_network_gives(self, dtype):
        device = torch.device('cuda')
        functions = ImageFunctions(network().to(device), MEAN, STD, dtype, 4)
        function = GraphedFunction(functions.logits, [images()], device)
        assert function._graph is not None
        tolerance = 1e-4 if dtype == torch.float32 else 0.02
        for seed in (0, 1, 2):
            pixels = images(seed=seed)
            expected = expected_logits(pixels)
            (logits,) = function.run([pixels])
            assert np.abs(logits - expected).max() <= tolerance * np.abs(expected).max()

    def test_a_function_that_cannot_be_captured_runs_without_a_graph(self, caplog):
        def synchronizing(values):
            return (values * float(values.max()),)

        array = np.array([1.0, 3.0], np.float32)
        function = GraphedFunction(synchronizing, [array], torch.device('cuda'))
        assert 'no CUDA graph' in caplog.text
        np.testing.assert_array_equal(function.run([array])[0], [3.0, 9.0])
