import json

import pytest


def test_table_and_file(load_script, tmp_path, capsys):
    script, path = load_script('benchmark'), tmp_path / 'costs.json'
    arguments = ['--model', 'linear_vit', '--options', 'encoder=vit_tiny_patch16_224']
    assert script.main([*arguments, '--size', '32', '48', '--json', str(path)]) == 0
    result = json.loads(path.read_text())
    assert result['options'] == {'encoder': 'vit_tiny_patch16_224'}
    classifier = {'name': 'classifier', 'parameters': 192 * 64 + 64, 'flops': 2 * 6 * 192 * 64}
    assert result['parts'][1] == classifier
    assert result['flops'] == sum(part['flops'] for part in result['parts'])
    header, *rows = capsys.readouterr().out.splitlines()[1:]
    assert header.split() == ['part', 'parameters', 'GFLOP']
    assert rows[1].split() == ['classifier', '12,352', '0.000']
    assert rows[2].split()[:2] == ['total', f'{result["parameters"]:,}']


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (['--model', 'ddrnet'], "no model is named 'ddrnet'"),
        (['--model', 'linear_vit', '--options', 'encoder'], 'expected section.key=value'),
        (['--model', 'linear_vit', '--options', 'depth=3'], 'depth'),
        (['--model', 'linear_vit', '--size', '60', '70'], r'pad or resize to (70, 70)'),
    ],
)
def test_mistakes(load_script, capsys, arguments, message):
    assert load_script('benchmark').main(arguments) == 2
    assert message in capsys.readouterr().err
