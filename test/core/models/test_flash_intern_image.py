import pytest
import torch
from torch import nn

from offroad_seg_core.models import flash_intern_image, pretrained
from offroad_seg_core.models.flash_intern_image import VARIANTS, FlashInternImage, Variant
from offroad_seg_core.models.pretrained import WeightsError, load_encoder_weights
from offroad_seg_core.models.uper import UPerNet

# As counted from the published code.
COUNTS = {'t': 28_651_776, 's': 48_490_176, 'b': 94_897_048, 'l': 218_914_640}
TINY = Variant(16, (1, 2, 1, 1), 2.0, True, 0.5, 3, True, {})


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)
    torch.set_num_threads(1)


@pytest.fixture
def tiny(monkeypatch):
    """A backbone of five blocks whose operators do something."""
    monkeypatch.setitem(VARIANTS, 'tiny', TINY)
    return active(FlashInternImage('tiny'))


def active(module):
    for name, parameter in module.named_parameters():
        if '.offset_mask.' in name:
            nn.init.normal_(parameter, std=0.1)
    return module


def published_shapes(size):
    """Return name -> shape of a published classifier's checkpoint, written from its code."""
    variant = VARIANTS[size]
    width, depths = variant.channels, variant.depths
    shapes = {}

    def add(name, *shape, bias=True):
        shapes[f'{name}.weight'] = shape
        if bias:
            shapes[f'{name}.bias'] = shape[:1]

    add('patch_embed.conv1', width // 2, 3, 3, 3)
    add('patch_embed.norm1.1', width // 2)
    add('patch_embed.conv2', width, width // 2, 3, 3)
    add('patch_embed.norm2.1', width)
    for stage, depth in enumerate(depths):
        c = width * 2**stage
        for block in range(depth):
            prefix = f'levels.{stage}.blocks.{block}.'
            if size != 't':
                shapes[prefix + 'gamma1'] = shapes[prefix + 'gamma2'] = (c,)
                add(prefix + 'dcn.offset_mask_dw', c, 1, 3, 3)
            add(prefix + 'norm1.0', c)
            add(prefix + 'norm2.0', c)
            add(prefix + 'dcn.offset_mask', -(-27 * c // 16 // 8) * 8, c)
            add(prefix + 'dcn.value_proj', c, c)
            add(prefix + 'dcn.output_proj', c, c, bias=size == 'l')
            add(prefix + 'mlp.fc1', 4 * c, c)
            add(prefix + 'mlp.fc2', c, 4 * c, bias=size == 'l')
        if size == 't':
            add(f'levels.{stage}.norm.0', c)
        if stage < 3:
            add(f'levels.{stage}.downsample.conv', 2 * c, c, 3, 3, bias=False)
            add(f'levels.{stage}.downsample.norm.1', 2 * c)
    add('conv_head.0', 12 * width, 8 * width, 1, 1, bias=False)
    add('conv_head.1.0', 12 * width)
    shapes['conv_head.1.0.running_mean'] = shapes['conv_head.1.0.running_var'] = (12 * width,)
    shapes['conv_head.1.0.num_batches_tracked'] = ()
    add('head', 1000, 12 * width)
    return shapes


class TestSizes:
    @pytest.mark.parametrize('size', COUNTS)
    def test_weights_are_the_published_ones(self, size):
        with torch.device('meta'):
            backbone = FlashInternImage(size)
        assert sum(parameter.numel() for parameter in backbone.parameters()) == COUNTS[size]
        shapes = {name: tuple(value.shape) for name, value in backbone.state_dict().items()}
        published = published_shapes(size)
        classifier = {name for name in published if name.startswith(('head.', 'conv_head.'))}
        assert shapes == {n: s for n, s in published.items() if n not in classifier}
        if size == 'l':
            assert len(published) == 691
            assert published['levels.3.blocks.0.dcn.offset_mask.weight'] == (2160, 1280)

    def test_unknown_size(self):
        with pytest.raises(ValueError, match="no size 'xl'; expected one of t, s, b, l"):
            FlashInternImage('xl')

    def test_features(self, tiny):
        features = tiny(torch.randn(2, 3, 64, 96))
        expected = [(2, 16, 16, 24), (2, 32, 8, 12), (2, 64, 4, 6), (2, 128, 2, 3)]
        assert [tuple(level.shape) for level in features] == expected
        assert tiny.channels == (16, 32, 64, 128)

    @pytest.mark.parametrize('size', ['t', 'l'])
    def test_a_block_is_the_published_formula(self, size):
        block = active(flash_intern_image._Block(32, VARIANTS[size], 0.0))
        x = torch.randn(1, 5, 6, 32)
        if size == 'l':  # norms behind the operators, and factors
            block.gamma1.data.uniform_(), block.gamma2.data.uniform_()
            expected = x + block.gamma1 * block.norm1(block.dcn(x))
            expected = expected + block.gamma2 * block.norm2(block.mlp(expected))
        else:
            expected = x + block.dcn(block.norm1(x))
            expected = expected + block.mlp(block.norm2(expected))
        torch.testing.assert_close(block(x), expected)

    def test_drop_path_grows_with_depth(self, monkeypatch):
        monkeypatch.setitem(VARIANTS, 'tiny', TINY)
        backbone = FlashInternImage('tiny', drop_path_rate=0.4)
        rates = [m.drop_prob for m in backbone.modules() if type(m).__name__ == 'DropPath']
        assert rates == pytest.approx([0.1, 0.2, 0.3, 0.4])  # the first block has none

    def test_checkpointing_changes_nothing(self, tiny):
        images = torch.randn(1, 3, 32, 64)

        def gradients():
            tiny.zero_grad()
            sum(level.square().mean() for level in tiny(images)).backward()
            return {name: p.grad.clone() for name, p in tiny.named_parameters()}

        plain = gradients()
        tiny.checkpointing = True
        for name, gradient in gradients().items():
            torch.testing.assert_close(gradient, plain[name], rtol=1e-4, atol=1e-6)

    def test_layer_ids(self):
        with torch.device('meta'):
            backbone = FlashInternImage('l')
        ids = {
            'patch_embed.conv1.weight': 0,
            'levels.0.blocks.0.gamma1': 1,
            'levels.0.blocks.4.mlp.fc2.bias': 5,
            'levels.0.downsample.norm.1.weight': 6,
            'levels.1.blocks.0.dcn.offset_mask.weight': 6,
            'levels.2.blocks.21.norm1.0.weight': 32,
            'levels.3.blocks.4.norm1.0.weight': 37,
        }
        assert {name: backbone.layer_id(name) for name in ids} == ids
        assert {backbone.layer_id(name) for name, _ in backbone.named_parameters()} == set(
            range(38)
        )


class TestPublishedWeights:
    @pytest.fixture
    def state(self):
        shapes = published_shapes('t')
        return {name: torch.randn(shape).half() for name, shape in shapes.items()}

    @pytest.fixture
    def model(self):
        return UPerNet(FlashInternImage('t'), 3, head_channels=16, auxiliary=False)

    @pytest.mark.parametrize('container', ['model', 'model_ema', 'state_dict'])
    def test_whatever_they_are_wrapped_in(self, state, model, tmp_path, container):
        prefix = 'backbone.' if container == 'state_dict' else ''
        path = tmp_path / 'flash_intern_image_t_1k_224.pth'
        wrapped = {prefix + name: value for name, value in state.items()}
        torch.save({container: wrapped, 'epoch': 299}, path)
        report = load_encoder_weights(model, str(path))
        own = model.backbone.state_dict()
        assert all(torch.equal(own[name], state[name].float()) for name in own)
        assert report.missing == ()
        assert set(report.loaded) == set(own)
        assert {name.split('.')[0] for name in report.unused} == {'conv_head', 'head'}

    def test_a_file_of_part_of_the_backbone_is_refused(self, state, model, tmp_path):
        path = tmp_path / 'part.pth'
        torch.save({n: v for n, v in state.items() if not n.startswith('levels.3')}, path)
        with pytest.raises(WeightsError, match=r'only \d+ of 385 weights .* expected 95% or more'):
            load_encoder_weights(model, str(path))

    def test_another_size_is_refused(self, tmp_path, model, state):
        path = tmp_path / 'other.pth'
        state['levels.0.blocks.0.mlp.fc1.weight'] = torch.zeros(320, 80)
        torch.save(state, path)
        expected = r'fc1.weight: got \(320, 80\), expected \(256, 64\) of flash_intern_image_t'
        with pytest.raises(WeightsError, match=expected):
            load_encoder_weights(model, str(path))

    def test_other_families_are_refused(self, tmp_path, model, state):
        path = tmp_path / 'internimage.pth'
        # InternImage is the same around its operator, DCNv3, whose layers have other names.
        older = {
            name.replace('offset_mask', 'offset').replace('value_proj', 'input_proj'): value
            for name, value in state.items()
        }
        torch.save({'model': older}, path)
        with pytest.raises(WeightsError, match=r'only 265 of 385 .*; give a file of this'):
            load_encoder_weights(model, str(path))
        torch.save({'conv1.weight': torch.zeros(64, 3, 7, 7)}, path)
        with pytest.raises(WeightsError, match=r'only 0 of 385 .* such as conv1\.weight'):
            load_encoder_weights(model, str(path))

    def test_a_cut_off_file(self, tmp_path, model):
        path = tmp_path / 'cut.pth'
        torch.save({'model': {'head.weight': torch.zeros(100)}}, path)
        path.write_bytes(path.read_bytes()[:500])
        with pytest.raises(WeightsError, match=r'cut\.pth: cannot be read as weights'):
            load_encoder_weights(model, str(path))

    def test_names_lead_to_the_publisher(self):
        address = pretrained._hub_address('flash_intern_image_l', 'imagenet')
        assert address == ('OpenGVLab/DCNv4', None, 'flash_intern_image_l_22kto1k_384.pth')
        with pytest.raises(WeightsError, match="named 'coco'; expected one of imagenet, imagenet"):
            pretrained._hub_address('flash_intern_image_l', 'coco')
