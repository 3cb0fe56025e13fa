import pytest
import torch

from offroad_seg_core.models import create_model
from offroad_seg_core.models.contract import QueryPredictions
from offroad_seg_core.models.mask2former import semantic_logits
from offroad_seg_core.models.mask2former_weights import convert_head
from offroad_seg_core.models.pretrained import WeightsError, load_encoder_weights

SMALL = {'encoder': 'vit_tiny_patch16_dinov3_qkvb', 'drop_path_rate': 0.0}
NUM_CLASSES = 5


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)
    torch.set_num_threads(1)


@pytest.fixture(scope='module')
def model():
    torch.manual_seed(0)
    return create_model('mask2former_vit', NUM_CLASSES, num_queries=7, **SMALL)


def published_head(num_classes, num_queries=7, channels=(256, 256, 256, 256)):
    """Return a head's weights with the names of mmsegmentation, written from its code."""
    shapes = {}

    def add(name, *shape, bias=True):
        shapes[f'{name}.weight'] = shape
        if bias:
            shapes[f'{name}.bias'] = shape[:1]

    pixel = 'pixel_decoder.'
    for index, count in enumerate(channels[:0:-1]):
        add(f'{pixel}input_convs.{index}.conv', 256, count, 1, 1)
        add(f'{pixel}input_convs.{index}.gn', 256)
    for layer in range(6):
        prefix = f'{pixel}encoder.layers.{layer}.'
        for name, size in (('sampling_offsets', 192), ('attention_weights', 96),
                           ('value_proj', 256), ('output_proj', 256)):  # fmt: skip
            add(f'{prefix}attentions.0.{name}', size, 256)
        add(f'{prefix}ffns.0.layers.0.0', 2048, 256)
        add(f'{prefix}ffns.0.layers.1', 256, 2048)
        add(f'{prefix}norms.0', 256)
        add(f'{prefix}norms.1', 256)
    add(f'{pixel}level_encoding', 3, 256, bias=False)
    add(f'{pixel}lateral_convs.0.conv', 256, channels[0], 1, 1, bias=False)
    add(f'{pixel}lateral_convs.0.gn', 256)
    add(f'{pixel}output_convs.0.conv', 256, 256, 3, 3, bias=False)
    add(f'{pixel}output_convs.0.gn', 256)
    add(f'{pixel}mask_feature', 256, 256, 1, 1)
    for layer in range(9):
        prefix = f'transformer_decoder.layers.{layer}.'
        for index in range(2):
            attention = f'{prefix}attentions.{index}.attn.'
            shapes[f'{attention}in_proj_weight'] = (768, 256)
            shapes[f'{attention}in_proj_bias'] = (768,)
            add(f'{attention}out_proj', 256, 256)
        add(f'{prefix}ffns.0.layers.0.0', 2048, 256)
        add(f'{prefix}ffns.0.layers.1', 256, 2048)
        for index in range(3):
            add(f'{prefix}norms.{index}', 256)
    add('transformer_decoder.post_norm', 256)
    for name in ('query_embed', 'query_feat'):
        add(name, num_queries, 256, bias=False)
    add('level_embed', 3, 256, bias=False)
    add('cls_embed', num_classes + 1, 256)
    for index in (0, 2, 4):
        add(f'mask_embed.{index}', 256, 256)
    return {f'decode_head.{name}': torch.randn(shape) for name, shape in shapes.items()}


class TestNetwork:
    def test_published_parameter_count(self):
        with torch.device('meta'):
            model = create_model('mask2former_flash_intern_image', 150, size='l')
        total = sum(parameter.numel() for parameter in model.parameters())
        assert total == 218_914_640 + 23_367_767

    def test_ten_stages_in_training_and_probabilities_otherwise(self, model):
        images = torch.randn(2, 3, 64, 96)
        predictions = model.train()(images)
        assert isinstance(predictions, QueryPredictions)
        assert [tuple(x.shape) for x in predictions.class_logits] == [(2, 7, 6)] * 10
        assert [tuple(x.shape) for x in predictions.mask_logits] == [(2, 7, 16, 24)] * 10
        logits = model.eval()(images)
        assert logits.shape == (2, NUM_CLASSES, 16, 24)
        total = logits.exp().sum(1)
        torch.testing.assert_close(total, torch.ones_like(total))
        torch.testing.assert_close(logits.softmax(1), logits.exp())

    def test_half_precision(self, model):
        images = torch.randn(1, 3, 64, 64)
        with torch.inference_mode():
            expected = model.eval()(images).exp()
            with torch.autocast('cpu', torch.bfloat16):
                logits = model(images)
        assert logits.dtype == torch.float32
        assert (logits.exp() - expected).abs().max() < 0.1

    def test_size_error_names_the_fix(self, model):
        with pytest.raises(ValueError, match=r'pad or resize to \(64, 96\)'):
            model(torch.randn(1, 3, 63, 95))

    def test_classifiers_are_exactly_the_weights_that_depend_on_the_classes(self, model):
        other = create_model('mask2former_vit', NUM_CLASSES + 1, num_queries=7, **SMALL)
        state, other_state = model.state_dict(), other.state_dict()
        changed = {key for key in state if state[key].shape != other_state[key].shape}
        assert changed == {key for key in state if key.startswith(model.classifiers)}


def test_semantic_logits_by_hand():
    # Two queries, two classes and "nothing"; one pixel in both masks, one in none.
    probs = torch.tensor([[[0.7, 0.1, 0.2], [0.2, 0.6, 0.2]]])
    masks = torch.tensor([[0.9, 0.1], [0.5, 0.1]]).view(1, 2, 1, 2)
    logits = semantic_logits(probs.log(), masks.logit())
    scores = torch.tensor([[0.7 * 0.9 + 0.2 * 0.5, 0.09], [0.1 * 0.9 + 0.6 * 0.5, 0.07]])
    expected = scores / scores.sum(0)
    torch.testing.assert_close(logits.exp()[0, :, 0], expected)


def test_no_query_anywhere_is_no_error():
    logits = semantic_logits(torch.zeros(1, 2, 4), torch.full((1, 2, 1, 1), -1e4))
    torch.testing.assert_close(logits.exp(), torch.full((1, 3, 1, 1), 1 / 3))


class TestPublishedWeights:
    def test_every_weight_of_the_head_has_its_place(self, model):
        state = published_head(NUM_CLASSES)
        converted = convert_head({**state, 'backbone.patch_embed.conv1.bias': torch.zeros(1)})
        own = model.head.state_dict()
        assert {n: v.shape for n, v in converted.items()} == {n: v.shape for n, v in own.items()}
        prefix = 'decode_head.transformer_decoder.layers.3.attentions.'
        decoder = 'transformer_module.decoder.layers.3.'
        both = state[f'{prefix}1.attn.in_proj_weight']
        assert torch.equal(converted[f'{decoder}self_attn.k_proj.weight'], both[256:512])
        cross = state[f'{prefix}0.attn.in_proj_weight']
        assert torch.equal(converted[f'{decoder}cross_attn.in_proj_weight'], cross)
        masks = state['decode_head.mask_embed.4.weight']
        name = 'transformer_module.decoder.mask_predictor.mask_embedder.2.0.weight'
        assert torch.equal(converted[name], masks)

    def test_ade20k_to_other_classes(self, tmp_path, caplog):
        model = create_model('mask2former_flash_intern_image', 64, size='t', num_queries=7)
        channels = model.backbone.channels
        state = published_head(150, channels=channels)
        backbone = {
            f'backbone.{name}': torch.randn_like(value).half()
            for name, value in model.backbone.state_dict().items()
        }
        path = tmp_path / 'mask2former.pth'
        torch.save({'state_dict': {**backbone, **state}, 'meta': {}}, path)
        fresh = model.head.class_predictor.weight.clone()
        load_encoder_weights(model, str(path))
        head, expected = model.head.state_dict(), convert_head(state)
        different = [
            name
            for name, value in head.items()
            if value.shape != expected[name].shape or not torch.equal(value, expected[name])
        ]
        assert different == ['class_predictor.weight', 'class_predictor.bias']
        assert torch.equal(model.head.class_predictor.weight, fresh)
        assert 'missing in the head: class_predictor.weight, class_predictor.bias' in caplog.text
        name = 'levels.2.blocks.17.mlp.fc1.weight'
        loaded = model.backbone.state_dict()[name]
        assert torch.equal(loaded, backbone[f'backbone.{name}'].float())

    def test_a_head_of_another_size(self, tmp_path, model):
        with pytest.raises(ValueError, match=r'got \(9, 256\), expected \(7, 256\)'):
            model.load_head_weights(published_head(NUM_CLASSES, num_queries=9))
        path = tmp_path / 'other.pth'
        backbone = {f'backbone.{n}': v for n, v in model.encoder.state_dict().items()}
        torch.save({**backbone, **published_head(NUM_CLASSES, num_queries=9)}, path)
        with pytest.raises(WeightsError, match=r'other\.pth: 2 weights of the head'):
            load_encoder_weights(model, str(path))

    def test_a_file_of_the_backbone_alone_leaves_the_head(self, model):
        before = {name: value.clone() for name, value in model.head.state_dict().items()}
        names = model.load_head_weights({'patch_embed.conv1.bias': torch.zeros(1)})
        assert names['loaded'] == []
        assert all(torch.equal(before[n], v) for n, v in model.head.state_dict().items())
