"""Trainings with kept results, one JSON file a run: never trained twice, resumed when stopped.

A benchmark names its runs; ``train_missing`` trains what has no result yet. Kept are what
training wrote (configuration, hash, seed, command, wall time, confusion matrices) and the curve
of its loss. A result of another configuration is refused, so a table never mixes two of them.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
import csv
from dataclasses import dataclass
import json
from pathlib import Path
import re
import shutil
import subprocess
import sys
from typing import Any

import numpy as np
from report import ROOT

from offroad_seg_core.config import dump_config, load_config
from offroad_seg_core.evaluation.predictions import PredictionOptions, score_checkpoint
from offroad_seg_core.files import atomic_path
from offroad_seg_core.metrics.confusion_matrix import ConfusionMatrix
from offroad_seg_core.taxonomy import load_taxonomy
from offroad_seg_core.training.checkpoint import load_checkpoint
from offroad_seg_core.training.config import TrainConfig
from offroad_seg_core.training.trials import without_variation

_FACTS = ('config_sha256', 'seed', 'command', 'elapsed_s', 'git_commit', 'cpu', 'versions')
_NUMBERS = re.compile(r'\[([^][{}"]*)\]')
RESULTS = ROOT / 'benchmarks' / 'results' / 'runs'


def options_parser(description: str) -> argparse.ArgumentParser:
    """Return a parser with the options that all such benchmarks have."""
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('--quick', action='store_true', help='train nothing')
    parser.add_argument('--json', type=Path, help='where to write the result')
    parser.add_argument('--list', action='store_true', help='only tell which runs are there')
    return parser


@dataclass(frozen=True)
class Run:
    """One training.

    Attributes:
        group: The folder of its result.
        name: The name of its result.
        config: File of config/.
        changes: ``section.key=value``, applied to it.
        script: What trains it.
    """

    group: str
    name: str
    config: Path
    changes: tuple[str, ...] = ()
    script: str = 'train'

    @property
    def overrides(self) -> list[str]:
        """What is applied to the configuration."""
        return [*self.changes, f'name={self.group}_{self.name}']

    @property
    def settings(self) -> TrainConfig:
        """The whole configuration."""
        return load_config(TrainConfig, ROOT / self.config, self.overrides)

    @property
    def path(self) -> Path:
        """Where its result is kept."""
        return RESULTS / self.group / f'{self.name}.json'


def load(run: Run) -> dict[str, Any] | None:
    """Return a kept result; None if there is none.

    Raises:
        ValueError: It is of another configuration.
    """
    if not run.path.exists():
        return None
    result = json.loads(run.path.read_text())
    kept, expected = result['config'], run.settings
    if expected.precision == 'auto':  # what it became depends on the machine
        kept = {**kept, 'precision': 'auto'}
    if expected.overfit_frames:
        expected = without_variation(expected)  # as training does
    if load_config(TrainConfig, kept) != expected:
        raise ValueError(f'{run.path}: is of another configuration; delete it to train it again')
    return result


def scores_of(result: dict[str, Any], environment: str) -> tuple[float, np.ndarray]:
    """Return mIoU over the classes in the truth, and the IoU of each class, of kept counts."""
    counts = np.array(result['environments'][environment]['confusion_matrix'])
    taxonomy = load_taxonomy(result['config']['taxonomy'])
    matrix = ConfusionMatrix(taxonomy.num_classes)
    matrix.counts[:] = counts
    return matrix.miou_present, matrix.iou()


def train_missing(runs: Sequence[Run]) -> None:
    """Train the runs that have no result, in their order; go on with one that was interrupted."""
    todo = [run for run in runs if load(run) is None]
    print(f'{len(todo)} of {len(runs)} runs to do', flush=True)
    for number, run in enumerate(todo, 1):
        print(f'== run {number} of {len(todo)}: {run.group} {run.name}', flush=True)
        train_run(run)


def measure(own: Run, trained: Run) -> None:
    """Keep what a training's weights reach on the frames of another configuration, if not there.

    Args:
        own: Names the result and the dataset; trains nothing.
        trained: Whose weights are measured.
    """
    if load(own) is not None:
        return
    checkpoint = load_checkpoint(ROOT / trained.settings.folder / 'best.ckpt')
    scores = score_checkpoint(checkpoint, PredictionOptions(own.settings.dataset))
    kept = {
        'checkpoint_of': trained.name,
        **{key: value for key, value in (load(trained) or {}).items() if key in _FACTS},
        'config': dump_config(own.settings),
        'environments': {
            name: {'confusion_matrix': matrix.counts.tolist()}
            for name, matrix in scores.matrices.items()
        },
    }
    keep(own.path, kept)


def tell(runs: Sequence[Run]) -> None:
    """Print which runs have a result."""
    for run in runs:
        print(run.group, run.name, 'missing' if load(run) is None else 'there')


def keep(path: Path, result: dict[str, Any]) -> None:
    """Write a result."""
    path.parent.mkdir(parents=True, exist_ok=True)
    # A list of numbers is a line: a row of a confusion matrix, or a step and its loss.
    text = _NUMBERS.sub(
        lambda found: f'[{" ".join(found[1].split())}]', json.dumps(result, indent=1)
    )
    with atomic_path(path) as temporary:
        temporary.write_text(text + '\n')


def train_run(run: Run) -> None:
    """Train, or go on with what was interrupted, and keep the result and the best weights."""
    folder = ROOT / run.settings.folder
    script = f'training/{run.script}.py'
    command = [sys.executable, script, '--config', str(run.config), *run.overrides]
    if (folder / 'last.ckpt').exists():
        command.append('--resume')
    subprocess.run(command, cwd=ROOT, check=True)
    result = json.loads((folder / 'result.json').read_text())
    result['loss_curve'] = _loss_curve(folder / 'steps.csv')
    keep(run.path, result)
    for name in ('last.ckpt', 'tensorboard'):  # best.ckpt is enough
        path = folder / name
        shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)


def _loss_curve(path: Path) -> list[tuple[int, float]]:
    with open(path) as stream:
        return [(int(row['step']), float(row['total'])) for row in csv.DictReader(stream)]
