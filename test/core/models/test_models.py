import pytest
import torch
from torch.nn import functional

from offroad_seg_core.models import MODELS, create_model

NUM_CLASSES = 5


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)
    torch.set_num_threads(1)


@pytest.fixture(params=MODELS)
def model(request):
    return create_model(request.param, NUM_CLASSES)


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
        target = torch.randint(0, NUM_CLASSES, (2, *outputs[0].shape[-2:]))
        sum(functional.cross_entropy(logits, target) for logits in outputs).backward()
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

    def test_classifiers_are_exactly_the_weights_that_depend_on_the_classes(self, model):
        name = next(key for key in MODELS if type(create_model(key, 2)) is type(model))
        other = create_model(name, NUM_CLASSES + 1).state_dict()
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
