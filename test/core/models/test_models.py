import pytest
import torch
from torch.nn import functional

from offroad_seg_core.models import create_model

NUM_CLASSES = 5


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)
    torch.set_num_threads(1)


# Every builder once, with the smallest encoder: what it adds to the library's parts is the same.
SMALL = {
    'ddrnet23_slim': {},
    'convnext_tiny_fpn': {'encoder': 'convnext_atto', 'drop_path_rate': 0.0, 'dropout': 0.0},
    'fpn': {'encoder': 'resnet18', 'decoder_dropout': 0.0},
    'deeplabv3plus': {'encoder': 'resnet18', 'atrous_rates': (6, 12, 18)},
    'deeplabv3': {'encoder': 'resnet18'},
    'upernet': {'encoder': 'resnet18'},
    'unet': {'encoder': 'resnet18'},
    'segformer_b0': {'drop_path_rate': 0.0},
    'upernet_flash_intern_image': {
        'size': 't', 'drop_path_rate': 0.0, 'head_channels': 32, 'dropout': 0.0,
    },
    'upernet_vit': {
        'encoder': 'vit_tiny_patch16_dinov3_qkvb', 'drop_path_rate': 0.0, 'head_channels': 32,
        'dropout': 0.0,
    },
    'linear_vit': {},
}  # fmt: skip


def small(name, num_classes):
    model = create_model(name, num_classes, **SMALL[name])
    for weight, parameter in model.named_parameters():
        if '.offset_mask.' in weight:  # 0 at first: then nothing reaches DCNv4's projections
            torch.nn.init.normal_(parameter, std=0.02)
    return model


@pytest.fixture(params=SMALL)
def name(request):
    return request.param


@pytest.fixture
def model(name):
    return small(name, NUM_CLASSES)


class TestEveryModel:
    @pytest.mark.parametrize('cells', [(1, 1), (2, 3), (3, 5)])
    def test_logits_have_the_declared_stride(self, model, cells):
        height, width = (count * model.input_multiple for count in cells)
        with torch.inference_mode():
            logits = model.eval()(torch.randn(2, 3, height, width))
        assert logits.shape == (2, NUM_CLASSES, height // model.stride, width // model.stride)
        assert logits.dtype == torch.float32

    def test_every_weight_gets_a_finite_gradient(self, model):
        size = (2 * model.input_multiple, 4 * model.input_multiple)
        result = model.train()(torch.randn(2, 3, *size))
        outputs = result if isinstance(result, tuple) else (result,)
        targets = [torch.randint(0, NUM_CLASSES, (2, *x.shape[-2:])) for x in outputs]
        sum(map(functional.cross_entropy, outputs, targets)).backward()
        for name, parameter in model.named_parameters():
            assert parameter.grad is not None, name
            assert torch.isfinite(parameter.grad).all(), name
            assert parameter.grad.abs().max() > 0, name

    def test_evaluation_is_deterministic_and_independent_of_the_batch(self, model):
        images = torch.randn(2, 3, model.input_multiple, 2 * model.input_multiple)
        model.eval()
        with torch.inference_mode():
            both, again, first = model(images), model(images), model(images[:1])
        assert torch.equal(both, again)
        torch.testing.assert_close(both[:1], first, rtol=1e-4, atol=1e-4)

    def test_size_error_names_the_fix(self, model):
        multiple = model.input_multiple
        with pytest.raises(ValueError, match=rf'pad or resize to \({multiple}, {2 * multiple}\)'):
            model.eval()(torch.randn(1, 3, multiple - 1, multiple + 1))

    def test_classifiers_are_exactly_the_weights_that_depend_on_the_classes(self, name, model):
        other = small(name, NUM_CLASSES + 1).state_dict()
        changed = {
            key for key, value in model.state_dict().items() if value.shape != other[key].shape
        }
        assert changed == {key for key in other if key.startswith(model.classifiers)}


def test_unknown_names_and_options_list_what_exists():
    with pytest.raises(ValueError, match=r'no model is named .*ddrnet23_slim'):
        create_model('ddrnet', 3)
    with pytest.raises(ValueError, match='depth'):
        create_model('ddrnet23_slim', 3, depth=2)
    with pytest.raises(ValueError, match='num_classes is 1'):
        create_model('ddrnet23_slim', 1)


# As published or as counted from the published architecture.
@pytest.mark.parametrize(
    ('name', 'num_classes', 'options', 'count'),
    [
        ('fpn', 10, {}, 44_737_866),
        ('deeplabv3plus', 7, {'atrous_rates': (6, 12, 18)}, 45_671_255),
        ('deeplabv3', 10, {}, 39_636_042),
        ('segformer_b2', 10, {}, 24_724_682),
        ('convnext_tiny_fpn', 10, {}, 28_075_882),
        ('ddrnet23', 10, {'auxiliary': False}, 20_147_658),
    ],
)
def test_parameter_counts(name, num_classes, options, count):
    model = create_model(name, num_classes, **options)
    assert sum(parameter.numel() for parameter in model.parameters()) == count


def test_atrous_rates_reach_the_convolutions():
    model = create_model('deeplabv3plus', 3, encoder='resnet18', atrous_rates=[6, 12, 18])
    rates = {m.dilation for m in model.network.decoder.modules() if hasattr(m, 'dilation')}
    assert {(6, 6), (12, 12), (18, 18)} <= rates
    assert (24, 24) not in rates


def test_drop_path_grows_with_depth():
    encoder = create_model('segformer_b0', 3, drop_path_rate=0.3).encoder
    rates = [m.drop_prob for m in encoder.modules() if type(m).__name__ == 'DropPath']
    assert rates[0] == 0
    assert rates[-1] == pytest.approx(0.3)
    assert rates == sorted(rates)
    with pytest.raises(ValueError, match='the encoder has no drop path'):
        create_model('fpn', 3, encoder='resnet18', drop_path_rate=0.1)


def test_encoders_that_do_not_exist_or_do_not_fit():
    with pytest.raises(ValueError, match='no_such_net'):
        create_model('convnext_tiny_fpn', 3, encoder='no_such_net')
    with pytest.raises(ValueError, match='expected 4, 8, 16 and 32'):
        create_model('convnext_tiny_fpn', 3, encoder='levit_128')
    with pytest.raises(ValueError, match='no_such_net'):
        create_model('fpn', 3, encoder='no_such_net')


class TestDDRNet:
    def test_parameter_count(self):
        def count(**options):
            model = create_model('ddrnet23_slim', 10, **options)
            return sum(parameter.numel() for parameter in model.parameters())

        assert count(auxiliary=False) == 5_695_338
        assert count() == 5_695_338 + 37_770  # 64-channel 3x3, two norms, classifier with bias

    def test_auxiliary_logits_come_in_training_only(self):
        model = create_model('ddrnet23_slim', 3)
        images = torch.randn(2, 3, 64, 128)
        logits, auxiliary = model.train()(images)
        assert logits.shape == auxiliary.shape == (2, 3, 8, 16)
        assert isinstance(model.eval()(images), torch.Tensor)
        plain = create_model('ddrnet23_slim', 3, auxiliary=False).train()
        assert isinstance(plain(images), torch.Tensor)
        assert set(model.state_dict()) - set(plain.state_dict()) == {
            key for key in model.state_dict() if key.startswith('auxiliary_head.')
        }

    def test_training_on_one_image_says_what_to_do(self):
        model = create_model('ddrnet23_slim', 3).train()
        with pytest.raises(ValueError, match='raise the batch size or call eval'):
            model(torch.randn(1, 3, 64, 64))

    def test_context_reaches_the_whole_image(self):
        model = create_model('ddrnet23_slim', 3).eval()
        images = torch.randn(1, 3, 64, 256, requires_grad=True)
        model(images)[0, 0, 0, 0].backward()
        assert images.grad[..., -32:].abs().max() > 0
