"""A result that goes on keeps the engines it began with, of the model and of the reference."""

import json

import pytest

from offroad_seg_core.evaluation import command
from offroad_seg_core.evaluation.command import open_reference, recorded_engine
from offroad_seg_core.inference.engines import EngineError

AUTO = 'auto', 'auto'
MODEL, REFERENCE = ('openvino', 'bf16'), ('tensorrt', 'fp16')


@pytest.fixture
def output(tmp_path):
    """The place of a result that is not finished."""
    folder = tmp_path / 'result.unfinished'
    folder.mkdir()
    pairs = {'model': MODEL, 'reference': REFERENCE}
    known = {
        who: {'engine': {'name': name, 'precision': precision}}
        for who, (name, precision) in pairs.items()
    }
    (folder / 'run.json').write_text(json.dumps(known))
    return tmp_path / 'result'


@pytest.fixture
def opened(monkeypatch):
    """What references were opened with; onnxruntime cannot take them."""
    found = []

    def open_segmenter(bundle, engine, precision):
        found.append((engine, precision))
        if engine == 'onnxruntime':
            raise EngineError('got int8, expected fp32')

    monkeypatch.setattr(command.Segmenter, 'open', open_segmenter)
    return found


def test_what_was_asked_for_counts_more_than_what_is_recorded(output, tmp_path):
    assert recorded_engine(tmp_path / 'other', *AUTO) == AUTO
    assert recorded_engine(output, *AUTO) == MODEL
    assert recorded_engine(output, 'torch', 'auto') == ('torch', 'bf16')
    assert recorded_engine(output, *AUTO, 'reference') == REFERENCE
    (tmp_path / 'result.unfinished' / 'run.json').write_text('{"model": {}, "reference": null}')
    assert recorded_engine(output, *AUTO, 'reference') == AUTO


def test_a_reference_runs_with_the_engine_that_is_asked_for_or_recorded(output, opened, tmp_path):
    new = tmp_path / 'new'
    open_reference('bundle', new, 'torch', 'fp32')
    open_reference('bundle', new, *AUTO)
    open_reference('bundle', new, *AUTO, MODEL)
    open_reference('bundle', output, *AUTO, MODEL)
    open_reference('bundle', output, 'torch', 'fp32')
    assert opened == [('torch', 'fp32'), AUTO, MODEL, REFERENCE, ('torch', 'fp32')]


def test_a_reference_that_cannot_take_an_engine_chooses_one(output, opened, tmp_path, caplog):
    open_reference('bundle', tmp_path / 'new', 'onnxruntime', 'auto')
    open_reference('bundle', output, 'onnxruntime', 'fp32')
    assert opened[1::2] == [AUTO, REFERENCE]
    assert '--reference: got int8, expected fp32; its engine is chosen as by auto' in caplog.text


def test_a_reference_that_no_engine_can_take_is_an_error(opened, tmp_path, monkeypatch):
    def refuse(bundle, engine, precision):
        raise EngineError(f'{engine}: no graph')

    monkeypatch.setattr(command.Segmenter, 'open', refuse)
    with pytest.raises(EngineError, match='auto: no graph'):
        open_reference('bundle', tmp_path / 'new', 'onnxruntime', 'auto')
