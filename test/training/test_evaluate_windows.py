"""training/evaluate.py with several passes a frame."""

import json

import pytest
import yaml

from offroad_seg_core.config import dump_config

torch = pytest.importorskip('torch')
pytest.importorskip('plotly')

from offroad_seg_core.evaluation.predictions import (  # noqa: E402
    CheckpointPredictor,
    PredictionOptions,
    score_checkpoint,
)
from offroad_seg_core.inference.pipeline import Passes  # noqa: E402
from offroad_seg_core.inference.sliding_window import SlidingWindow  # noqa: E402
from offroad_seg_core.training.checkpoint import load_checkpoint  # noqa: E402


@pytest.fixture
def evaluate(finished, load_script, tmp_path):
    """Return a function that evaluates the finished run and returns model and counts."""
    data = tmp_path / 'mine.yaml'
    data.write_text(yaml.safe_dump(dump_config(finished[0].dataset)))
    given = ['--data', str(data), '--checkpoint', str(finished[0].folder / 'last.ckpt')]

    def run(name, *more):
        code = load_script('evaluate').main([*given, '--output', str(tmp_path / name), *more])
        assert code == 0
        summary = json.loads((tmp_path / name / 'summary.json').read_text())
        return summary['model'], {
            place: entry['confusion_matrix'] for place, entry in summary['counts'].items()
        }

    return run


def test_one_window_of_the_whole_frame_is_the_validation(evaluate, finished):
    known = json.loads((finished[0].folder / 'result.json').read_text())['environments']
    size = list(finished[0].model.input_size)
    window = yaml.safe_dump({'window': size, 'stride': size}, default_flow_style=True)
    model, counts = evaluate('whole', '--sliding-window', window)
    assert counts == {name: entry['confusion_matrix'] for name, entry in known.items()}
    assert model['options']['sliding_window']['window'] == size


def test_windows_and_views_reach_the_network(evaluate, finished, capsys):
    window = '{window: [32, 64], stride: [32, 32]}'
    _, counts = evaluate('windows', '--sliding-window', window, '--tta', 'flip')
    checkpoint = load_checkpoint(finished[0].folder / 'last.ckpt')
    passes = Passes('flip', SlidingWindow((32, 64), (32, 32)))
    options = PredictionOptions(progress=False, passes=passes)
    expected = score_checkpoint(checkpoint, options).matrices
    assert counts == {name: matrix.counts.tolist() for name, matrix in expected.items()}
    plain = score_checkpoint(checkpoint, PredictionOptions(progress=False)).matrices
    assert any((plain[name].counts != expected[name].counts).any() for name in plain)


def test_mistakes(finished, load_script, tmp_path, capsys):
    with pytest.raises(ValueError, match="got tta 'twice', expected one of"):
        Passes('twice')
    checkpoint = load_checkpoint(finished[0].folder / 'last.ckpt')
    with pytest.raises(ValueError, match=r'window: got \(33, 64\), expected multiples of'):
        CheckpointPredictor(checkpoint, Passes(sliding_window=SlidingWindow((33, 64), (32, 32))))
    given = ['--data', 'none.yaml', '--checkpoint', str(finished[0].folder / 'last.ckpt')]
    output = ['--output', str(tmp_path / 'out'), '--sliding-window', '896']
    assert load_script('evaluate').main([*given, *output]) == 1
    assert 'holds no mapping' in capsys.readouterr().err
