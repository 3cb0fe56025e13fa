import pytest
import torch
from torch import nn

from offroad_seg_core.models import create_model
from offroad_seg_core.models.normalization import replace_batch_norm


def norms_of(model):
    return [m for m in model.modules() if isinstance(m, nn.BatchNorm2d | nn.GroupNorm)]


@pytest.mark.parametrize(('norm', 'groups'), [('group', [4, 2, 1, 3]), ('layer', [1, 1, 1, 1])])
def test_groups(norm, groups):
    model = nn.Sequential(*(nn.BatchNorm2d(channels) for channels in (64, 32, 7, 51)))
    assert [m.num_groups for m in replace_batch_norm(model, norm)] == groups


@pytest.mark.parametrize('norm', ['group', 'layer'])
def test_an_image_does_not_depend_on_the_others_of_its_batch(norm):
    torch.manual_seed(0)
    model = create_model('ddrnet23_slim', 5, norm=norm, auxiliary=False).train()
    images = torch.randn(3, 3, 64, 64)
    together = model(images)
    pair = model(images[1:])
    torch.testing.assert_close(together[1:], pair)
    assert not any(isinstance(m, nn.BatchNorm2d) for m in model.modules())
    with_batch_norm = create_model('ddrnet23_slim', 5, auxiliary=False)
    assert len(norms_of(model)) == len(norms_of(with_batch_norm)) > 50


def test_only_known_names():
    with pytest.raises(ValueError, match="norm is 'instance', expected batch, group or layer"):
        create_model('ddrnet23_slim', 5, norm='instance')
