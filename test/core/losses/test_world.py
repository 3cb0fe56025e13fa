"""Losses of several processes that train together are those of one with all their views."""

import os
from pathlib import Path
import subprocess
import sys

import pytest

torch = pytest.importorskip('torch')

from offroad_seg_core.losses import LOSSES  # noqa: E402

ROOT = Path(__file__).parents[3]
# Averaged over processes, or ranked in each of them; all others are functions of sums.
OF_EACH_PROCESS = {'lovasz'}
OF_QUERIES = {'mask_set'}  # compared at random points: see test_mask_set.py
NAMES = [name for name in LOSSES if name not in OF_QUERIES]

SCRIPT = """
import sys
import torch
from torch import distributed
from offroad_seg_core.losses import LossConfig, LossTerm, SegmentationLoss

rank, folder = int(sys.argv[1]), sys.argv[2]
distributed.init_process_group(
    'gloo', init_method=f'file://{folder}/store', rank=rank, world_size=2
)
data = torch.load(f'{folder}/data.pt', weights_only=True)
results = {}
for name in sys.argv[3:]:
    for part in ('mixed', 'all ignored', 'one ignored'):
        weight = data['weight'].clone().requires_grad_()
        loss = SegmentationLoss(LossConfig((LossTerm(name),)), data['weights'], data['shares'])
        logits = (data['logits'] * weight)[rank::2]
        total = loss(logits, data[part][rank::2])['total']
        total.backward()
        # What DistributedDataParallel does with gradients.
        distributed.all_reduce(weight.grad)
        results[f'{name} {part}'] = (total.detach(), weight.grad / 2)
torch.save(results, f'{folder}/{rank}.pt')
distributed.destroy_process_group()  # gloo's threads abort some processes that leave it alive
"""


def make_data(seed):
    generator = torch.Generator().manual_seed(seed)
    target = torch.randint(0, 5, (4, 8, 9), generator=generator)
    target[0, :, :4] = 255  # the processes have different numbers of valid pixels
    target[1, :4] = 2
    one_ignored = target.clone()
    one_ignored[1::2] = 255
    return {
        'logits': 2 * torch.randn(4, 5, 8, 9, generator=generator, dtype=torch.float64),
        'weight': torch.randn(5, 1, 1, generator=generator, dtype=torch.float64),
        'weights': torch.tensor([1.0, 2, 0.5, 3, 1]),
        'shares': torch.tensor([0.1, 0.2, 0.3, 0.2, 0.2]),
        'mixed': target,
        'all ignored': torch.full_like(target, 255),
        'one ignored': one_ignored,
    }


@pytest.fixture(scope='module')
def results(tmp_path_factory):
    """Return the data and what two processes made of it."""
    folder = tmp_path_factory.mktemp('world')
    data = make_data(0)
    torch.save(data, folder / 'data.pt')
    environment = {**os.environ, 'OMP_NUM_THREADS': '1', 'PYTHONPATH': str(ROOT)}
    processes = [
        subprocess.Popen(
            [sys.executable, '-c', SCRIPT, str(rank), str(folder), *NAMES],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for rank in range(2)
    ]
    for process in processes:
        output, _ = process.communicate(timeout=60)
        assert process.returncode == 0, output
    return data, [torch.load(folder / f'{rank}.pt', weights_only=True) for rank in range(2)]


def alone(name, data, target, views=slice(None)):
    """Return the loss and the gradient of one process without others."""
    from offroad_seg_core.losses import LossConfig, LossTerm, SegmentationLoss

    weight = data['weight'].clone().requires_grad_()
    loss = SegmentationLoss(LossConfig((LossTerm(name),)), data['weights'], data['shares'])
    total = loss((data['logits'] * weight)[views], target[views])['total']
    total.backward()
    return total.detach(), weight.grad


@pytest.mark.parametrize('part', ['mixed', 'all ignored', 'one ignored'])
@pytest.mark.parametrize('name', NAMES)
def test_two_processes_have_the_loss_of_one(results, name, part):
    data, (first, second) = results
    if name in OF_EACH_PROCESS:
        parts = [alone(name, data, data[part], slice(rank, None, 2)) for rank in range(2)]
        loss, gradient = (sum(values) / 2 for values in zip(*parts, strict=True))
    else:
        loss, gradient = alone(name, data, data[part])
    for found_loss, found_gradient in (first[f'{name} {part}'], second[f'{name} {part}']):
        torch.testing.assert_close(found_loss, loss, rtol=1e-10, atol=1e-12)
        torch.testing.assert_close(found_gradient, gradient, rtol=1e-8, atol=1e-12)
    if part == 'all ignored':
        assert float(loss) == 0
        assert torch.isfinite(gradient).all()


class TestWithoutAnyLabel:
    """As training has it: float32, and gradients that a factor multiplies."""

    @pytest.fixture(params=[1, 8])
    def world(self, request, monkeypatch):
        """Let there be so many processes, all with the same batch."""
        if request.param > 1:
            monkeypatch.setattr(torch.distributed, 'is_initialized', lambda: True)
            monkeypatch.setattr(torch.distributed, 'get_world_size', lambda: request.param)
            monkeypatch.setattr(torch.distributed, 'all_reduce', lambda t: t.mul_(request.param))

    @pytest.mark.parametrize('name', LOSSES)
    def test_loss_and_gradient_are_zero(self, world, name):
        from offroad_seg_core.losses import LossConfig, LossTerm, SegmentationLoss
        from offroad_seg_core.models.contract import QueryPredictions

        data = make_data(0)
        logits = data['logits'].float().requires_grad_()
        classes = torch.randn(4, 6, 6, requires_grad=True)
        output = QueryPredictions((classes,), (logits,)) if name in OF_QUERIES else logits
        config = LossConfig((LossTerm(name, weight=8.0),))
        loss = SegmentationLoss(config, data['weights'], data['shares'])
        total = loss(output, data['all ignored'])['total']
        total.backward()
        assert total == 0
        assert torch.equal(logits.grad, torch.zeros_like(logits))
        assert classes.grad is None or torch.equal(classes.grad, torch.zeros_like(classes))
