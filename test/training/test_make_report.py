from html.parser import HTMLParser
import json

import numpy as np
import pytest
import yaml

from offroad_seg_core.config import dump_config


@pytest.fixture
def main(load_script):
    return load_script('make_report').main


class Sources(HTMLParser):
    """Collects the pictures of a page."""

    def __init__(self, path):
        super().__init__()
        self.kinds = []
        self.feed(path.read_text(encoding='utf-8'))

    def handle_starttag(self, tag, attributes):
        self.kinds += [value[:15] for name, value in attributes if name == 'src']


def test_predictions_repeat_what_training_measured(main, finished, tmp_path, capsys):
    config = finished[0]
    assert main([str(config.folder), '--output', str(tmp_path)]) == 0
    assert capsys.readouterr().out.strip() == str(tmp_path / 'index.html')
    numbers = json.loads((tmp_path / 'report.json').read_text())
    assert numbers['notes'] == []
    assert numbers['source'].startswith('best.ckpt of step ')
    assert 'measured for this report on 2 of 2 validation frames' in numbers['source']
    step = int(numbers['source'].split('step ')[1].split(',')[0])
    (row,) = [row for row in numbers['validations'] if row['step'] == step]
    assert numbers['scores']['miou_present'] == pytest.approx(row['miou_present'], abs=1e-3)
    assert {frame['name'] for frame in numbers['frames']} == {'f0', 'f1'}
    means = [frame['miou'] for frame in numbers['frames']]
    assert numbers['best'][0] == f'f{int(np.argmax(means))}'
    assert numbers['worst'] == numbers['best'][::-1]
    assert (
        sum(numbers['border_errors']['pixels']) == numbers['scores']['num_pixels'] == 2 * 64 * 128
    )
    errors = sum(numbers['border_errors']['errors']) / (2 * 64 * 128)
    assert errors == pytest.approx(1 - numbers['scores']['pixel_accuracy'])
    assert 0 <= numbers['calibration']['ece'] <= 1
    assert sum(numbers['calibration']['bin_pixels']) == 2 * 64 * 128
    assert set(numbers['boundary']['f1']) == set(numbers['classes']['iou'])
    kinds = Sources(tmp_path / 'index.html').kinds
    assert kinds.count('data:image/jpeg') == 3
    for name in (
        'gallery',
        'best_frames',
        'worst_frames',
        'boundary_errors',
        'frame_iou',
        'reliability',
    ):
        assert (tmp_path / f'{name}.png').is_file()


def test_other_frames_and_fewer(main, finished, frames_root, tmp_path):
    data = tmp_path / 'data.yaml'
    data.write_text(f'kind: folder\nroot: {frames_root}\n')
    output = tmp_path / 'out'
    arguments = [str(finished[0].folder), '--output', str(output), '--data', str(data)]
    assert main([*arguments, '--max-frames', '1']) == 0
    numbers = json.loads((output / 'report.json').read_text())
    assert len(numbers['frames']) == 1
    assert numbers['source'].endswith('on 1 of 2 validation frames')
    assert 'in training' not in numbers['source']


def test_frames_that_are_gone_cost_only_the_pictures(main, finished, tmp_path):
    data = tmp_path / 'data.yaml'
    data.write_text(f'kind: folder\nroot: {tmp_path / "gone"}\n')
    output = tmp_path / 'out'
    assert main([str(finished[0].folder), '--output', str(output), '--data', str(data)]) == 0
    numbers = json.loads((output / 'report.json').read_text())
    assert numbers['notes'][0].startswith('No pictures, no scores of single frames: ')
    assert numbers['source'].startswith('the last validation in training')


def test_without_predictions(main, finished, tmp_path):
    arguments = [str(finished[0].folder), '--output', str(tmp_path), '--no-predictions']
    assert main(arguments) == 0
    numbers = json.loads((tmp_path / 'report.json').read_text())
    recorded = json.loads((finished[0].folder / 'result.json').read_text())
    (counts,) = [entry['confusion_matrix'] for entry in recorded['environments'].values()]
    assert numbers['confusion_matrix'] == counts
    for key in ('miou', 'miou_present', 'pixel_accuracy', 'false_safe_rate'):
        assert numbers['scores'][key] == recorded['scores'][key]


@pytest.mark.parametrize(
    ('more', 'message'),
    [([], 'got none of steps.csv'), (['--max-frames', '-1'], '--max-frames: got -1; expected 1')],
)
def test_mistakes(main, tmp_path, capsys, more, message):
    assert main([str(tmp_path / 'nothing'), '--output', str(tmp_path / 'out'), *more]) == 2
    assert message in capsys.readouterr().err


def test_of_a_demo_the_evaluation_is_named(main, tmp_path, capsys):
    demo, output = tmp_path / 'demo_output', tmp_path / 'out'
    for place, content in ((demo, {'made_by': 'offroad_seg_ros.demo'}), (demo / 'evaluation', {})):
        place.mkdir()
        (place / 'summary.json').write_text(json.dumps(content))
    assert main([str(demo), '--output', str(output)]) == 2
    told = 'got the summary of something else; expected the output folder of an evaluation; fix: '
    assert f'{told}give {demo / "evaluation"}\n' in capsys.readouterr().err
    assert not output.exists()


def test_training_ends_with_the_same_report(load_script, make_config, capsys):
    config = make_config('optimizer.max_steps=2')
    source = config.output / 'tiny.yaml'
    source.parent.mkdir(parents=True, exist_ok=True)
    source.write_text(yaml.safe_dump(dump_config(config)))
    assert load_script('train').main(['--config', str(source), '--report']) == 0
    page = config.folder / 'report' / 'index.html'
    assert capsys.readouterr().out.splitlines()[-1] == str(page)
    assert json.loads(page.with_name('report.json').read_text())['notes'] == []
    (config.folder / 'steps.csv').write_text('a,b\n1,2\n')
    assert load_script('train').main(['--config', str(source), '--resume', '--report']) == 2
    told = capsys.readouterr()
    assert 'over the classes present' in told.out  # it has trained, whatever became of the report
    assert told.err.startswith('error: ')
    assert "steps.csv: got columns ['a', 'b']; expected step" in told.err


def test_evaluations_get_a_page_that_compares_them(load_script, main, finished, tmp_path, capsys):
    pytest.importorskip('plotly')
    config = finished[0]
    data = tmp_path / 'mine.yaml'
    data.write_text(yaml.safe_dump(dump_config(config.dataset)))
    folders = [tmp_path / name for name in ('one', 'two')]
    for folder, step in zip(folders, ('best', 'last'), strict=True):
        given = ['--data', str(data), '--checkpoint', str(config.folder / f'{step}.ckpt')]
        assert load_script('evaluate').main([*given, '--output', str(folder)]) == 0
    capsys.readouterr()
    arguments = [*map(str, folders), '--output', str(tmp_path / 'page')]
    assert main(arguments) == 0
    page = tmp_path / 'page' / 'index.html'
    assert capsys.readouterr().out.strip() == str(page)
    assert '<title>one against two</title>' in page.read_text(encoding='utf-8')
    assert main([str(config.folder), *arguments]) == 2
    assert 'got runs and evaluations; expected one kind' in capsys.readouterr().err
