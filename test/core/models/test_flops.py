import torch
from torch import nn
from torch.nn import functional

from offroad_seg_core.models import create_model
from offroad_seg_core.models.dcnv4 import DCNv4
from offroad_seg_core.models.flash_intern_image import VARIANTS, Variant
from offroad_seg_core.models.flops import PartCost, count_costs


class Operator(nn.Module):
    """DCNv4 on images of 32 channels."""

    def __init__(self, **options):
        super().__init__()
        self.dcn = DCNv4(32, 2, **options)

    def forward(self, images):
        batch, _, height, width = images.shape
        return self.dcn(torch.zeros(batch, height, width, 32))


def test_convolutions_by_hand():
    model = nn.Sequential(nn.Conv2d(3, 8, 3, stride=2, padding=1), nn.ReLU(), nn.Conv2d(8, 4, 1))
    pixels = 5 * 6
    assert count_costs(model, (10, 12)) == [
        PartCost('0', 8 * 3 * 9 + 8, 2 * pixels * 8 * 3 * 9),
        PartCost('1', 0, 0),
        PartCost('2', 4 * 8 + 4, 2 * pixels * 4 * 8),
    ]


def test_dcnv4_by_hand():
    pixels, channels, numbers = 6 * 7, 32, 56  # 2 * 27 numbers, padded to a multiple of 8
    matrices = 2 * pixels * channels * (channels + channels + numbers)
    samples = pixels * channels * 9 * 4 * 2  # 9 taps of 4 corners, multiplied and added
    (part,) = count_costs(Operator(), (6, 7))
    assert part.flops == matrices + samples
    assert part.parameters == 2 * (32 * 32 + 32) + 56 * 32 + 56
    (deeper,) = count_costs(Operator(dw_kernel_size=3), (6, 7))
    assert deeper.flops - part.flops == 2 * pixels * channels * 9


def test_attention_by_hand():
    model = create_model('linear_vit', 5, encoder='vit_tiny_patch16_224')
    encoder, classifier = count_costs(model, (32, 48))
    tokens, patches, width = 7, 6, 192  # with the class token
    linear = 2 * tokens * width * (3 + 1 + 4 + 4) * width
    attention = 2 * 2 * tokens * tokens * width
    assert encoder.flops == 12 * (linear + attention) + 2 * patches * width * 3 * 16 * 16
    assert classifier.flops == 2 * patches * width * 5


def test_sampling_by_hand():
    class Sampler(nn.Module):
        def forward(self, images):
            return functional.grid_sample(images, torch.zeros(1, 5, 2, 2), align_corners=False)

    (part,) = count_costs(nn.Sequential(Sampler()), (4, 4))
    assert part.flops == 3 * 5 * 2 * 4 * 2


def test_what_a_network_computes_itself():
    options = {'encoder': 'vit_tiny_patch16_dinov3_qkvb', 'num_queries': 7}
    model = create_model('mask2former_vit', 5, **options)
    backbone, head, other = count_costs(model, (32, 64))
    assert min(backbone.flops, head.flops) > 1e8
    # The masks of 7 queries, weighed by their probabilities of 5 classes, at stride 4.
    assert other == PartCost('other', 0, 2 * 7 * 5 * 8 * 16)
    total = sum(parameter.numel() for parameter in model.parameters())
    assert backbone.parameters + head.parameters == total


def test_convolutional_backbones_cost_by_the_pixel(monkeypatch):
    monkeypatch.setitem(VARIANTS, 'tiny', Variant(16, (1, 1, 1, 1), 2.0, True, 1.0, 3, True, {}))
    model = create_model('upernet_flash_intern_image', 5, size='tiny', head_channels=16)
    small, large = (count_costs(model, size) for size in ((64, 64), (128, 64)))
    assert large[0].flops == 2 * small[0].flops > 0
    assert large[1].flops > small[1].flops > 0
    assert [part.name for part in small] == ['backbone', 'head', 'auxiliary_head']
    assert small[2].flops == 0  # training alone computes it
