import json
from pathlib import Path

import numpy as np
import pytest

from offroad_seg_core.evaluation.run_record import RunError, read_run
from offroad_seg_core.taxonomy import load_taxonomy


def test_everything_is_read(write_run):
    record = read_run(write_run())
    assert record.name == 'run'
    assert record.classes.names == ('ground', 'bush', '<i>rock</i>')
    assert record.steps['step'].tolist() == [1, 10, 20]
    assert record.steps['total'].tolist() == [1.5, 1.0, 0.5]
    assert [(row.step, row.miou_present) for row in record.validations] == [(10, 0.25), (20, 0.5)]
    np.testing.assert_array_equal(record.validations[0].iou, [0.25, 0.25, np.nan])
    assert record.matrices['there'].counts[0].tolist() == [50, 0, 40, 10]
    assert record.notes == ()


def test_colours_and_costs_are_those_of_the_taxonomy(write_run):
    taxonomy = load_taxonomy('falcon10')
    counts = np.zeros((10, 11), int)
    folder = write_run(names=taxonomy.names, environments={'a': counts})
    content = json.loads((folder / 'result.json').read_text())
    content['config']['taxonomy'] = 'falcon10'
    (folder / 'result.json').write_text(json.dumps(content))
    classes = read_run(folder).classes
    np.testing.assert_array_equal(classes.palette_rgb[:10], taxonomy.palette_rgb[:10])
    np.testing.assert_array_equal(classes.costs, taxonomy.cost_table())


def test_unknown_taxonomies_get_colours_of_their_own(write_run):
    classes = read_run(write_run()).classes
    assert classes.costs is None
    assert len(np.unique(classes.colors_rgb, axis=0)) == 3


@pytest.mark.parametrize('name', ['steps.csv', 'validation.jsonl', 'result.json'])
def test_a_missing_file_is_noted(write_run, name):
    record = read_run(write_run(without=[name]))
    assert len(record.notes) == 1
    assert record.notes[0].startswith(f'{name} is missing: no ')


def test_a_result_that_was_kept_alone(write_run, tmp_path):
    kept = tmp_path / 'kept.json'
    kept.write_bytes((write_run() / 'result.json').read_bytes())
    record = read_run(kept)
    assert (record.name, set(record.matrices), record.validations) == (
        'run',
        {'here', 'there'},
        (),
    )


def test_a_last_line_that_was_cut_off_is_left_out(write_run):
    folder = write_run()
    for name, text in (('steps.csv', '30,0.0'), ('validation.jsonl', '{"step": 30, "pix')):
        with open(folder / name, 'a') as stream:
            stream.write(text)
    record = read_run(folder)
    assert record.steps['step'].tolist() == [1, 10, 20]
    assert len(record.validations) == 2
    assert sorted(record.notes) == [
        'The last line of steps.csv is cut off and was left out.',
        'The last line of validation.jsonl is cut off and was left out.',
    ]


def test_before_the_first_validation_there_are_only_curves(write_run):
    record = read_run(write_run(without=['result.json', 'validation.jsonl']))
    assert record.classes.names == ()
    assert record.matrices == {}
    assert len(record.steps['step']) == 3


@pytest.mark.parametrize('name', ['nothing', 'empty'])
def test_no_run(tmp_path, name):
    (tmp_path / 'empty').mkdir()
    with pytest.raises(RunError, match=r'got none of steps\.csv.*give it as runs/NAME'):
        read_run(tmp_path / name)


def broken(folder: Path, name: str, text: str) -> Path:
    (folder / name).write_text(text)
    return folder


@pytest.mark.parametrize(
    ('name', 'text', 'message'),
    [
        ('result.json', '{', r'result\.json: got .*; expected JSON'),
        ('result.json', '[]', 'expected the result of a training run'),
        ('result.json', '{"config": 1}', 'expected the result of a training run'),
        ('steps.csv', 'a,b\n1,2\n', r"got columns \['a', 'b'\]; expected step"),
        ('steps.csv', 'step,total\n1,x\n2,3\n', 'line 2: got could not convert.*2 numbers'),
        ('steps.csv', 'step,total\n1\n2,3\n', 'line 2: got 1 values; expected 2 numbers'),
        ('validation.jsonl', 'x\n{"step": 1}\n', 'line 1: got .*; expected JSON'),
        ('validation.jsonl', '{"iou": {}}\n', 'line 1: got no step'),
        ('validation.jsonl', '{"step": 1, "iou": {"sky": 1}}\n', r"IoU of \['sky'\]; expected of"),
        (
            'validation.jsonl',
            '{"step": 1, "iou": {"ground": "x", "bush": 1, "<i>rock</i>": 1}}\n',
            "step 1: got 'x'; expected numbers",
        ),
    ],
)
def test_damaged_files(write_run, name, text, message):
    with pytest.raises(RunError, match=message):
        read_run(broken(write_run(), name, text))


@pytest.mark.parametrize(
    'rows', [[[1, 2], [3, 4]], [[1] * 4] * 2, [[1.5] * 4] * 3, [[-1] * 4] * 3, [1, 2, 3]]
)
def test_counts_that_cannot_be(write_run, rows):
    folder = write_run()
    content = json.loads((folder / 'result.json').read_text())
    content['environments']['here']['confusion_matrix'] = rows
    with pytest.raises(RunError, match=r'confusion_matrix of here: .*expected'):
        read_run(broken(folder, 'result.json', json.dumps(content)))
