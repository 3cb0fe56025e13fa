"""A training that is killed at any moment goes on as if nothing had happened."""

import os
from pathlib import Path
import random
import signal
import subprocess
import sys
import time

import torch
import yaml

from offroad_seg_core.config import dump_config
from offroad_seg_core.training.checkpoint import load_checkpoint
from offroad_seg_core.training.run import train

ROOT = Path(__file__).parents[2]
# The network draws random numbers of its own: their state must survive, too.
STOCHASTIC = (
    'model.name=convnext_tiny_fpn',
    'model.options={encoder: test_convnext, width: 32, drop_path_rate: 0.5, dropout: 0.3}',
    'optimizer.max_steps=24', 'validate_every=8', 'checkpoint_every=1',
)  # fmt: skip


def test_killed_at_a_random_moment_and_resumed(make_config, load_script):
    whole = make_config('name=whole', *STOCHASTIC)
    train(whole)
    config = make_config('name=parts', *STOCHASTIC)
    source = config.output / 'parts.yaml'
    source.write_text(yaml.safe_dump(dump_config(config)))
    process = subprocess.Popen(
        [sys.executable, ROOT / 'training' / 'train.py', '--config', source],
        env={**os.environ, 'OMP_NUM_THREADS': '1'},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    last = config.folder / 'last.ckpt'
    num_saved, wait_s = random.randrange(1, 7), random.uniform(0, 0.05)
    seen = set()
    while len(seen) < num_saved:  # each checkpoint is a new file
        assert process.poll() is None, process.communicate()
        if last.exists():
            seen.add(last.stat().st_mtime_ns)
        time.sleep(0.002)
    time.sleep(wait_s)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert process.returncode == -signal.SIGKILL
    killed_at = load_checkpoint(last).info['step']
    assert 1 <= killed_at < 24
    assert load_script('train').main(['--config', str(source), '--resume']) == 0
    first, second = (
        torch.load(run.folder / 'last.ckpt', weights_only=True) for run in (whole, config)
    )
    differing = [
        name
        for name, value in first['state_dict'].items()
        if not torch.equal(value, second['state_dict'][name])
    ]
    assert differing == [], f'killed {wait_s} s after checkpoint {num_saved}, of step {killed_at}'
    assert not list(config.folder.glob('.*'))
    for name in ('validation.jsonl', 'steps.csv'):
        texts = [(run.folder / name).read_text().splitlines() for run in (whole, config)]
        assert len(texts[0]) == len(texts[1])
