"""Pruned networks are rebuilt from plain data and compute what they did."""

import json

import pytest

torch = pytest.importorskip('torch')

from offroad_seg_core.models import create_model  # noqa: E402
from offroad_seg_core.models.channels import channel_plan, resize_channels  # noqa: E402


class Small(torch.nn.Module):
    """Each kind of layer once, and a parameter of no layer."""

    def __init__(self):
        super().__init__()
        self.conv = torch.nn.Conv2d(3, 8, 3)
        self.norm = torch.nn.BatchNorm2d(8)
        self.depthwise = torch.nn.Conv2d(8, 8, 3, groups=8, bias=False)
        self.grouped = torch.nn.Conv2d(8, 8, 1, groups=2)
        self.group_norm = torch.nn.GroupNorm(2, 8)
        self.gamma = torch.nn.Parameter(torch.ones(8))
        self.layer_norm = torch.nn.LayerNorm(8)
        self.linear = torch.nn.Linear(8, 5)

    def forward(self, x):
        x = self.grouped(self.depthwise(self.norm(self.conv(x))))
        x = self.group_norm(x).movedim(1, -1) * self.gamma
        return self.linear(self.layer_norm(x))


PLAN = {
    'conv.weight': [6, 3],
    'norm.weight': [6],
    'depthwise.weight': [6, 1],
    'grouped.weight': [4, 3],
    'group_norm.weight': [4],
    'gamma': [4],
    'layer_norm.weight': [4],
    'linear.weight': [5, 4],
}


def test_every_kind_of_layer_is_cut_and_runs():
    torch.manual_seed(0)
    model, full = Small().eval(), Small()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    assert resize_channels(model, PLAN) is model
    assert model(torch.randn(2, 3, 9, 9)).shape == (2, 5, 5, 5)
    assert (model.conv.in_channels, model.conv.out_channels, model.conv.groups) == (3, 6, 1)
    assert (model.depthwise.in_channels, model.depthwise.groups) == (6, 6)
    assert (model.grouped.in_channels, model.grouped.out_channels) == (6, 4)
    assert (model.linear.in_features, model.linear.out_features) == (4, 5)
    assert model.norm.running_var.shape == (6,)
    for name, value in model.state_dict().items():
        kept = before[name][tuple(slice(size) for size in value.shape)]
        assert torch.equal(value, kept), name
    assert channel_plan(model, full) == PLAN
    assert all(parameter.requires_grad for parameter in model.parameters())


def test_a_plan_survives_text():
    again = resize_channels(Small(), json.loads(json.dumps(PLAN)))
    assert channel_plan(again, Small()) == PLAN


def test_no_plan_changes_nothing():
    assert channel_plan(resize_channels(Small(), {}), Small()) == {}


@pytest.mark.parametrize(
    ('plan', 'message'),
    [
        ({'conv2.weight': [4, 3]}, "no weight 'conv2.weight'"),
        ({'conv.mass': [4]}, "no weight 'conv.mass'"),
        ({'conv.weight': [9, 3]}, r'got \[9, 3\] for conv.weight, expected up to \(8, 3\)'),
        ({'conv.weight': [0, 3]}, r'got \[0, 3\]'),
        ({'norm.weight': [4, 4]}, r'got \[4, 4\] for norm.weight, expected up to \(8,\)'),
    ],
)
def test_plans_of_other_networks(plan, message):
    with pytest.raises(ValueError, match=message):
        resize_channels(Small(), plan)


def test_models_are_built_with_their_plan():
    plan = {'head.2.weight': [40, 128], 'head.3.weight': [40], 'head.5.weight': [7, 40]}
    model = create_model('ddrnet23_slim', 7, auxiliary=False, channels=plan).eval()
    assert model.head[5].weight.shape == (7, 40, 1, 1)
    assert model(torch.randn(1, 3, 64, 64)).shape == (1, 7, 8, 8)
    with pytest.raises(ValueError, match='no weight'):
        create_model('ddrnet23_slim', 7, channels={'tail.weight': [1]})
