"""A network is pruned, trained further, exported and run; the report says what got faster."""

import json

import numpy as np
import pytest

pytest.importorskip('torch_pruning')

from offroad_seg_core.config import load_config
from offroad_seg_core.distillation.pruning_report import PruningCost, conclusions
from offroad_seg_core.inference.engines import create_engine
from offroad_seg_core.training.bundle_export import export_checkpoint
from offroad_seg_core.training.checkpoint import load_checkpoint
from offroad_seg_core.training.config import TrainConfig
from offroad_seg_core.training.run import train


def test_conclusions_by_hand():
    costs = [
        PruningCost('full', 1000, 0, 4.0, {'a fp32': 20.0, 'b fp32': 10.0}),
        PruningCost('pruned', 400, 0, 1.0, {'a fp32': 10.0, 'b fp32': 9.8}),
        PruningCost('sparse', 1000, 200, 4.0, {'a fp32': 21.0, 'b fp32': 10.0}),
    ]
    pruned, sparse = conclusions(costs)
    assert pruned == (
        'pruned: 40% of the parameters (0% of them zero), 25% of the arithmetic; '
        'faster: a fp32 x2.00; not faster: b fp32 x1.02'
    )
    assert sparse == (
        'sparse: 100% of the parameters (20% of them zero), 100% of the arithmetic; '
        'faster: nothing; not faster: a fp32 x0.95, b fp32 x1.00'
    )


@pytest.mark.slow
def test_from_checkpoint_to_a_pruned_bundle(finished, tmp_path, load_script, capsys):
    config, _ = finished
    best = str(config.folder / 'best.ckpt')
    output = tmp_path / 'small'
    arguments = ['--checkpoint', best, '--output', str(output), '--threads', '1']
    arguments += ['--channels', '0.5']
    assert load_script('prune').main(arguments) == 0
    assert 'pruned: ' in capsys.readouterr().out
    full, pruned = json.loads((output / 'pruning.json').read_text())
    assert pruned['num_parameters'] < 0.4 * full['num_parameters']
    assert pruned['giga_macs'] < 0.4 * full['giga_macs']
    # The stem's two convolutions alone, at 32x64 and 16x32.
    assert full['giga_macs'] > (9 * 3 * 32 * 32 * 64 + 9 * 32 * 32 * 16 * 32) / 1e9
    assert pruned['engine_ms'].keys() == full['engine_ms'].keys() >= {'torch fp32'}

    changes = ['optimizer.max_steps=2', f'output={tmp_path}', 'validate_every=2']
    tuning = load_config(TrainConfig, output / 'finetune.yaml', changes)
    assert tuning.name == 'tiny_pruned'
    train(tuning)
    bundle = export_checkpoint(load_checkpoint(tuning.folder / 'best.ckpt'), tmp_path / 'bundle')
    kwargs = bundle.manifest.architecture.kwargs
    assert kwargs['auxiliary'] is False
    assert kwargs['channels']['stem.0.weight'] == [16, 3]
    images = np.random.default_rng(0).integers(0, 256, (1, 64, 128, 3), np.uint8)
    logits = [
        create_engine(bundle, name, 'fp32', 1).run(images).logits.copy()
        for name in ('torch', 'onnxruntime')
    ]
    np.testing.assert_allclose(*logits, atol=1e-3)


def test_the_script_names_what_is_wrong(finished, tmp_path, load_script, capsys):
    config, _ = finished
    script = load_script('prune')
    common = ['--checkpoint', str(config.folder / 'best.ckpt'), '--output', str(tmp_path)]
    assert script.main(common) == 2
    assert 'nothing to do' in capsys.readouterr().err
    assert script.main([*common, '--weights', '0.2']) == 2
    assert 'name the parts' in capsys.readouterr().err
    wrong = ['--checkpoint', 'none.ckpt', '--output', str(tmp_path), '--channels', '0.3']
    assert script.main(wrong) == 2
    assert 'no such file' in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []
