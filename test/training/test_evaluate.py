"""training/evaluate.py: the numbers of a validation, and those of the robot."""

import csv
from dataclasses import replace
import json

import numpy as np
import pytest
import yaml

from offroad_seg_core.config import dump_config

pytest.importorskip('plotly')


@pytest.fixture
def main(load_script):
    return load_script('evaluate').main


@pytest.fixture
def data(finished, tmp_path):
    """The configuration of the finished run's frames, as a file."""
    path = tmp_path / 'mine.yaml'
    path.write_text(yaml.safe_dump(dump_config(finished[0].dataset)))
    return path


def summary(folder):
    return json.loads((folder / 'summary.json').read_text())


def test_a_checkpoint_gives_exactly_the_numbers_of_its_validation(
    main, finished, data, tmp_path, capsys
):
    config = finished[0]
    given = ['--data', str(data), '--checkpoint', str(config.folder / 'last.ckpt')]
    assert main([*given, '--output', str(tmp_path / 'out')]) == 0
    assert 'mIoU' in capsys.readouterr().out
    said = summary(tmp_path / 'out')
    known = json.loads((config.folder / 'result.json').read_text())
    assert said['model']['model'] == f'tiny, step {known["step"]}'
    assert set(said['counts']) == set(known['environments'])
    for name, entry in known['environments'].items():
        assert said['counts'][name]['confusion_matrix'] == entry['confusion_matrix']
    scores = said['scores']['together']['scores']
    rules = ('miou', 'miou_present', 'miou_all_absent_0', 'miou_all_absent_1')
    for key in (*rules, 'pixel_accuracy', 'false_safe_rate', 'iou'):
        assert scores[key] == known['scores'][key], key
    assert said['scores']['together']['boundary']['mean_iou'] is not None
    assert (tmp_path / 'out' / 'report' / 'index.html').is_file()


def test_the_weights_of_a_checkpoint_are_part_of_its_predictions(finished):
    from offroad_seg_core.evaluation.predictions import CheckpointPredictor
    from offroad_seg_core.training.checkpoint import load_checkpoint

    checkpoint = load_checkpoint(finished[0].folder / 'last.ckpt')
    known = CheckpointPredictor(checkpoint).identity()
    assert CheckpointPredictor(checkpoint).identity() == known
    name = next(iter(checkpoint.weights))
    weights = {**checkpoint.weights, name: checkpoint.weights[name] + 1}
    trained_anew = replace(checkpoint, weights=weights)
    assert CheckpointPredictor(trained_anew).identity() != known


def test_a_bundle_is_measured_as_the_robot_runs_it(main, finished, data, palette_bundle, tmp_path):
    from offroad_seg_core.inference.segmenter import Segmenter
    from offroad_seg_core.metrics.confusion_matrix import ConfusionMatrix

    given = ['--data', str(data), '--bundle', str(palette_bundle), '--engine', 'onnxruntime']
    output = ['--output', str(tmp_path / 'out')]
    assert main([*given, *output, '--labels', 'none', '--tta', 'flip']) == 0
    assert not (tmp_path / 'out' / 'labels').exists()
    segmenter = Segmenter.open(palette_bundle, 'onnxruntime')
    segmenter.options = type(segmenter.options)(tta='flip')
    matrix = ConfusionMatrix(10)
    frames = finished[0].dataset.frames('validation', segmenter.bundle.taxonomy)
    for index in range(len(frames)):
        image, target = frames.read(index)
        matrix.update(segmenter.segment(image, 'rgb').label_map, target)
    (entry,) = summary(tmp_path / 'out')['counts'].values()
    assert entry['confusion_matrix'] == matrix.counts.tolist()

    assert main([*given, *output, '--labels', 'none', '--max-frames', '1']) == 0
    assert summary(tmp_path / 'out')['num_frames'] == 1


def test_hard_frames_are_those_where_two_models_disagree(
    main, finished, data, palette_bundle, tmp_path
):
    given = ['--data', str(data), '--checkpoint', str(finished[0].folder / 'last.ckpt')]
    others = ['--reference', str(palette_bundle), '--labels', 'none', '--export-hard', '1']
    engine = ['--engine', 'openvino']  # which the checkpoint does not need
    assert main([*given, *others, *engine, '--output', str(tmp_path / 'out')]) == 0
    assert summary(tmp_path / 'out')['reference']['engine'].startswith('openvino')
    with open(tmp_path / 'out' / 'hard_frames' / 'frames.csv', newline='') as stream:
        (chosen,) = csv.DictReader(stream)
    with open(tmp_path / 'out' / 'frames.csv', newline='') as stream:
        rows = {row['name']: row for row in csv.DictReader(stream)}
    agreement = float(rows[chosen['name']]['pixel_accuracy'])
    assert float(chosen['disagreement']) == pytest.approx(1 - agreement)
    assert 'flicker' not in chosen  # frames of a data set follow no camera


@pytest.mark.parametrize(
    ('arguments', 'told'),
    [
        (['--max-frames', '-1'], 'got -1; expected 1 or more'),
        (['--export-hard', '-1'], 'got -1; expected 1 or more, 0 for none'),
        (['--checkpoint', 'none.ckpt'], 'none.ckpt: no such file'),
        (['root=/nowhere'], '/nowhere'),
    ],
)
def test_errors_name_the_cause(main, finished, data, tmp_path, capsys, arguments, told):
    model = ['--checkpoint', str(finished[0].folder / 'last.ckpt')]
    model = [] if '--checkpoint' in arguments else model
    given = ['--data', str(data), *model, '--output', str(tmp_path / 'out')]
    assert main([*given, *arguments]) == 1
    assert told in capsys.readouterr().err
    assert not (tmp_path / 'out').exists()


def test_what_is_read_is_never_replaced(main, finished, data, frames_root, tmp_path, capsys):
    model = finished[0].folder / 'last.ckpt'
    images = frames_root / 'validation' / 'images'
    for output, read in ((data.parent, data), (model.parent, model), (images / 'x', images)):
        before = sorted(output.parent.rglob('*'))
        given = ['--data', str(data), '--checkpoint', str(model), '--output', str(output)]
        assert main(given) == 1
        relation = 'lies in' if read == images else 'holds'
        assert f'which {relation} {read}, which is read; expected' in capsys.readouterr().err
        assert sorted(output.parent.rglob('*')) == before


@pytest.mark.slow
@pytest.mark.parametrize(
    ('taxonomy_name', 'folder', 'dataset', 'places'),
    [
        ('falcon10', 'falcon_desert', {'kind': 'falcon', 'holdout': 'w0'}, {'w0'}),
        ('rugd', 'rugd_sample', {'kind': 'rugd'}, {'park-8', 'trail-5'}),
    ],
    ids=['falcon', 'rugd'],
)
def test_real_frames_give_the_numbers_of_the_validation(
    data_folder, tmp_path, taxonomy_name, folder, dataset, places
):
    """Of a network at random: what counts is that both ways count the same."""
    import torch

    from offroad_seg_core.config import load_config
    from offroad_seg_core.datasets.loading import ValidationViews
    from offroad_seg_core.evaluation.evaluate import Evaluation, evaluate
    from offroad_seg_core.evaluation.predictions import CheckpointPredictor, validation_indices
    from offroad_seg_core.evaluation.sources.dataset import DatasetFrames
    from offroad_seg_core.models import create_model
    from offroad_seg_core.taxonomy import load_taxonomy
    from offroad_seg_core.training.checkpoint import Checkpoint
    from offroad_seg_core.training.config import TrainConfig
    from offroad_seg_core.training.validation import confusion_matrices

    root = data_folder / folder
    if not root.is_dir():
        pytest.skip(f'no frames at {root}; set OFFROAD_SEG_DATA to the folder that holds them')
    source = {
        'name': 'random',
        'taxonomy': taxonomy_name,
        'dataset': {**dataset, 'root': str(root)},
        'model': {'name': 'ddrnet23_slim', 'input_size': [128, 224]},
        'optimizer': {'max_steps': 1, 'warmup_steps': 0},
        'loader': {'batch_size': 2, 'crop_size': [64, 128]},
        'loss': {'terms': [{'name': 'cross_entropy'}]},
        'validate_every': 1,
        'precision': 'fp32',
        'output': str(tmp_path),
    }
    config = load_config(TrainConfig, source)
    torch.manual_seed(0)
    taxonomy = load_taxonomy(config.taxonomy)
    weights = create_model('ddrnet23_slim', taxonomy.num_classes).state_dict()
    info = {'step': 0, 'config_sha256': ''}
    predictor = CheckpointPredictor(Checkpoint(tmp_path, config, taxonomy, info, weights))
    frames = config.dataset.frames('validation', taxonomy)
    kept = frames.subset(validation_indices(len(frames), 4))
    output = tmp_path / 'out'
    evaluate(Evaluation(DatasetFrames(kept, folder), predictor, output), lambda count: None)
    with torch.inference_mode():
        views = ValidationViews(kept, predictor.spec)
        loop = (views[index] for index in range(len(kept)))
        expected = confusion_matrices(predictor._logits, loop, taxonomy.num_classes)
    found = summary(output)['counts']
    assert set(found) == set(expected) == places
    for place in places:
        assert expected[place].num_pixels > 0
        np.testing.assert_array_equal(found[place]['confusion_matrix'], expected[place].counts)
