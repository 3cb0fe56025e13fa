import cv2
import numpy as np
import onnx
import pytest
import torch

from offroad_seg_core.evaluation.engine_check import check_frames
from offroad_seg_core.inference import export as export_module
from offroad_seg_core.inference.bundle import Bundle
from offroad_seg_core.inference.export import (
    ExportError,
    compare,
    export_onnx,
    round_weights,
    state_dict_from_onnx,
)
from offroad_seg_core.models import create_model
from offroad_seg_core.models.ddrnet import DDRNet
from offroad_seg_core.training.checkpoint import load_checkpoint


def small_model():
    torch.manual_seed(0)
    model = DDRNet(3, planes=16, spp_channels=16, head_channels=16, auxiliary=False)
    with torch.no_grad():  # norms that do something
        for value in model.state_dict().values():
            if value.is_floating_point() and value.ndim == 1:
                value.uniform_(0.5, 1.5)
    return model.eval()


@pytest.fixture(scope='module')
def exported(tmp_path_factory):
    torch.set_num_threads(1)
    model = small_model()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    path = tmp_path_factory.mktemp('export') / 'model.onnx'
    return model, before, path, export_onnx(model, path)


class TestOnnx:
    def test_computes_what_the_model_does_at_any_size(self, exported):
        model, _, path, parity = exported
        assert parity.max_rel_error < 1e-4
        assert parity.label_agreement == 1
        assert parity.sizes == ((128, 192), (224, 160))
        assert compare(model, path, [(32, 32), (96, 64)]).max_rel_error < 1e-4

    def test_large_weights_are_float16_and_small_ones_exact(self, exported):
        _, before, path, _ = exported
        types = {tensor.name: tensor.data_type for tensor in onnx.load(path).graph.initializer}
        weights = state_dict_from_onnx(path)
        assert weights.keys() == {n for n, v in before.items() if v.is_floating_point()}
        num_large = 0
        for name, value in weights.items():
            is_large = before[name].numel() >= 4096
            num_large += is_large
            assert value.dtype == torch.float32
            assert types[name] == (
                onnx.TensorProto.FLOAT16 if is_large else onnx.TensorProto.FLOAT
            )
            expected = before[name].half().float() if is_large else before[name]
            assert torch.equal(value, expected), name
        assert num_large > 5

    def test_rebuilds_the_model(self, exported):
        model, _, path, _ = exported
        other = DDRNet(3, planes=16, spp_channels=16, head_channels=16, auxiliary=False).eval()
        missing, unexpected = other.load_state_dict(state_dict_from_onnx(path), strict=False)
        assert unexpected == []
        assert all(name.endswith('num_batches_tracked') for name in missing)
        images = torch.randn(1, 3, 64, 96)
        with torch.inference_mode():
            assert torch.equal(other(images), model(images))

    def test_graph_is_lean(self, exported):
        model = onnx.load(exported[2])
        nodes = model.graph.node
        assert [(entry.domain, entry.version) for entry in model.opset_import] == [('', 18)]
        assert all(
            len(node.input) == 2
            for node in nodes
            if node.op_type == 'Conv' and 'head.5' not in node.input[1]
        )
        assert not {'Expand', 'CastLike'} & {node.op_type for node in nodes}
        dims = [dim.dim_param for dim in model.graph.input[0].type.tensor_type.shape.dim]
        assert [bool(name) for name in dims] == [True, False, True, True]

    def test_parses_in_tensorrt(self, exported):
        trt = pytest.importorskip('tensorrt_rtx')
        logger = trt.Logger(trt.Logger.ERROR)
        builder = trt.Builder(logger)  # the network must not outlive it
        network = builder.create_network(0)
        parser = trt.OnnxParser(network, logger)
        assert parser.parse(exported[2].read_bytes()), parser.get_error(0).desc()

    def test_openvino_agrees(self, exported):
        openvino = pytest.importorskip('openvino')
        model, _, path, _ = exported
        images = torch.randn(2, 3, 64, 96)
        compiled = openvino.Core().compile_model(path, 'CPU', {'INFERENCE_PRECISION_HINT': 'f32'})
        with torch.inference_mode():
            np.testing.assert_allclose(compiled(images.numpy())[0], model(images), atol=1e-3)


class TestRefusals:
    def test_out_of_tolerance_writes_nothing(self, exported, tmp_path, monkeypatch):
        model, _, path, _ = exported
        wrong = onnx.load(path)
        first = next(node for node in wrong.graph.node if node.op_type == 'BatchNormalization')
        del first.attribute[:]
        first.attribute.append(onnx.helper.make_attribute('epsilon', 0.5))
        monkeypatch.setattr(export_module, '_trace', lambda model, multiple: wrong)
        with pytest.raises(ExportError, match='differs from PyTorch: Parity'):
            export_onnx(model, tmp_path / 'model.onnx')
        assert list(tmp_path.iterdir()) == []

    def test_weights_beyond_float16(self):
        model = small_model()
        model.context5.layers[0].weight.data[0] = 1e5
        with pytest.raises(
            ExportError, match=r'context5\.layers\.0\.weight: largest value 1e\+05'
        ):
            round_weights(model)

    def test_training_mode(self, tmp_path):
        with pytest.raises(ExportError, match='call eval'):
            export_onnx(small_model().train(), tmp_path / 'model.onnx')

    @pytest.mark.parametrize('change', ['lost', 'changed'])
    def test_weights_that_the_exporter_lost_or_changed(self, exported, tmp_path, change):
        model, _, path, _ = exported
        content = onnx.load(path)
        tensor = next(t for t in content.graph.initializer if t.name == 'head.5.bias')
        if change == 'lost':
            tensor.name = 'val_1'
        else:
            tensor.CopyFrom(onnx.numpy_helper.from_array(np.ones(3, np.float32), tensor.name))
        onnx.save(content, tmp_path / 'a.onnx')
        match = (
            '2 weights are in only one' if change == 'lost' else r'changed the weights .*head\.5'
        )
        with pytest.raises(ExportError, match=match):
            export_module._check_weights(model, tmp_path / 'a.onnx')


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_checkpoint_to_bundle(finished, frames_root, tmp_path, load_script, capsys):
    config, _ = finished
    checkpoint = config.folder / 'best.ckpt'
    output = tmp_path / 'models' / 'tiny'
    script = load_script('export')
    arguments = ['--checkpoint', str(checkpoint), '--output', str(output)]
    arguments += ['--fuse', '--frames', '1']
    assert script.main(arguments) == 0
    told = capsys.readouterr().out
    assert 'same label on 100.0000% of pixels' in told
    assert 'measured on 2 frames' in told
    bundle = Bundle.load(output)
    fused = bundle.manifest.metrics['fused_head']
    assert bundle.manifest.outputs.kind == 'fused'
    assert bundle.manifest.outputs.label_stride == fused['label_stride']
    assert fused['parity']['fp32']['label_agreement'] > 0.9999
    assert list(fused['strides']) == ['8', '4', '2', '1']
    assert (output / 'model.onnx').stat().st_size < 12e6
    manifest = bundle.manifest
    assert manifest.input.size == (64, 128)
    assert manifest.input.stride == 32
    assert manifest.outputs.stride == 8
    assert bundle.taxonomy.names == load_checkpoint(checkpoint).taxonomy.names
    assert manifest.metrics['miou_present'] == pytest.approx(
        load_checkpoint(checkpoint).info['miou_present']
    )
    training = manifest.provenance['training']
    assert manifest.provenance['license'] == 'Apache-2.0'
    assert training['config']['seed'] == config.seed
    assert training['command'] == 'train.py --config tiny.yaml'
    assert len(training['config_sha256']) == 64

    model = create_model(manifest.architecture.name, **manifest.architecture.kwargs)
    model.load_state_dict(state_dict_from_onnx(bundle.model_file('fp32')), strict=False)
    averaged = load_checkpoint(checkpoint).build()
    images = torch.randn(1, 3, 64, 128)
    with torch.inference_mode():
        torch.testing.assert_close(model.eval()(images), averaged(images), atol=5e-3, rtol=5e-3)

    pictures = frames_root / 'validation' / 'images'
    assert manifest.provenance['frames'] == ['validation/f0.png']
    (frame,), origin = check_frames(bundle)
    assert origin == 'the bundle'
    expected = cv2.imread(str(pictures / 'f0.png'))
    assert np.abs(frame.astype(int) - expected).mean() < 8  # what JPEG costs


def test_what_cannot_be_fused_leaves_the_bundle_that_was_there(
    finished, tmp_path, load_script, capsys
):
    script, output = load_script('export'), tmp_path / 'tiny'
    arguments = ['--checkpoint', str(finished[0].folder / 'best.ckpt'), '--output', str(output)]
    assert script.main(arguments) == 0
    before = {file: file.read_bytes() for file in output.rglob('*') if file.is_file()}

    def refuse(*_):
        raise ValueError('no labelled frames')

    script.validation_frames = refuse
    assert script.main([*arguments, '--fuse', '--frames', '0']) == 2
    assert 'no labelled frames' in capsys.readouterr().err
    assert {file: file.read_bytes() for file in output.rglob('*') if file.is_file()} == before


def test_export_script_names_what_is_wrong(tmp_path, load_script, capsys):
    script = load_script('export')
    arguments = ['--checkpoint', str(tmp_path / 'none.ckpt'), '--output', str(tmp_path / 'b')]
    assert script.main(arguments) == 2
    assert 'no such file' in capsys.readouterr().err
