"""`engine: auto` takes the fastest, remembers it, and measures again when something changed."""

from dataclasses import replace
import json
import logging
from pathlib import Path
import sys

import pytest

sys.path.insert(0, str(Path(__file__).parent))
from fake_engines import Factory, Streamed, refuse

from offroad_seg_core.inference.bundle import Bundle
from offroad_seg_core.inference.engines import (
    ENGINES,
    Engine,
    EngineSettings,
    choices,
    create_engine,
    selection,
)
from offroad_seg_core.inference.engines.selection import fastest
from offroad_seg_core.inference.manifest import ModelFile


@pytest.fixture(scope='module')
def bundle(palette_bundle):
    return Bundle.load(palette_bundle)


@pytest.fixture
def settings(tmp_path):
    return EngineSettings(cache_folder=tmp_path)


def test_the_fastest_is_taken_and_the_log_says_why(bundle, settings, caplog):
    slow, fast = Factory('openvino', 0.05), Factory('onnxruntime', 0.001)
    caplog.set_level(logging.INFO)
    engine = fastest({'openvino': slow, 'onnxruntime': fast, 'torch': refuse}, bundle, settings)
    assert isinstance(engine, Engine)
    assert engine.info.name == 'onnxruntime'
    assert not engine.closed
    assert all(other.closed for other in [*slow.made, *fast.made] if other is not engine)
    assert 'chose onnxruntime as the fastest' in caplog.text


def test_the_reason_of_an_engine_that_is_not_there_is_told(bundle, settings, caplog):
    caplog.set_level(logging.INFO)
    fastest({'openvino': refuse, 'onnxruntime': Factory('onnxruntime')}, bundle, settings)
    assert 'openvino: no such library; fix: install it' in caplog.text


def test_the_choice_is_remembered_until_something_changes(bundle, settings, tmp_path, monkeypatch):
    slow, fast = Factory('openvino', 0.05), Factory('onnxruntime', 0.001)
    engines = {'openvino': slow, 'onnxruntime': fast}
    first = fastest(engines, bundle, settings)
    (file,) = (tmp_path / 'choices').iterdir()
    kept = json.loads(file.read_text())
    assert kept['engine'] == 'onnxruntime'
    slow.asked.clear()
    fast.asked.clear()
    second = fastest(engines, bundle, settings)
    assert second.info == first.info
    assert slow.asked == []
    assert fast.asked == [('fp32', kept['num_threads'])]
    monkeypatch.setattr(choices, 'version', lambda package: 'newer')
    fastest(engines, bundle, settings)
    assert len(slow.asked) == 1


@pytest.mark.parametrize('content', ['', '{"engine": "openvino"}', '[]', 'null'])
def test_a_damaged_choice_is_measured_again(bundle, settings, tmp_path, content):
    engines = {'onnxruntime': Factory('onnxruntime')}
    fastest(engines, bundle, settings)
    (file,) = (tmp_path / 'choices').iterdir()
    file.write_text(content)
    assert fastest(engines, bundle, settings).info.name == 'onnxruntime'
    assert json.loads(file.read_text())['engine'] == 'onnxruntime'


def test_a_choice_that_stopped_working_is_made_again(bundle, settings, caplog):
    engines = {'openvino': Factory('openvino'), 'onnxruntime': Factory('onnxruntime', 0.02)}
    fastest(engines, bundle, settings)
    engines['openvino'] = refuse
    assert fastest(engines, bundle, settings).info.name == 'onnxruntime'
    assert 'worked before' in caplog.text


def test_a_cache_that_cannot_be_written_costs_the_memory_only(bundle, tmp_path):
    file = tmp_path / 'a_file'
    file.touch()
    engines = {'onnxruntime': Factory('onnxruntime')}
    settings = EngineSettings(cache_folder=file)
    assert fastest(engines, bundle, settings).info.name == 'onnxruntime'


def test_threads_must_be_clearly_faster_than_the_engines_own_choice(bundle, settings, monkeypatch):
    monkeypatch.setattr(selection.os, 'sched_getaffinity', lambda _: set(range(8)))
    engines = {'openvino': Factory('openvino', lambda s: 0.004 if s.num_threads == 4 else 0.04)}
    fastest(engines, bundle, settings)
    assert engines['openvino'].asked[0] == ('auto', 0)
    assert set(engines['openvino'].asked[1:]) == {('fp32', 4), ('fp32', 8)}
    again = Factory('openvino', 0.004)
    fastest({'openvino': again}, bundle, settings)
    assert again.asked == [('fp32', 4)]


@pytest.mark.parametrize(('share', 'expected'), [(1.2, 2), (3.0, 1)])
def test_streams_must_give_clearly_more_frames_in_total(bundle, settings, share, expected):
    """One caller takes 0.05 s; two at a time take `share` times as long each."""
    wanted = replace(settings, num_threads=2, num_streams=2)
    factory = Streamed('openvino', lambda s: 0.05 * (share if s.num_streams > 1 else 1))
    engine = fastest({'openvino': factory}, bundle, wanted)
    assert engine.info.num_streams == expected
    assert [other.closed for other in factory.made] == [
        other is not engine for other in factory.made
    ]
    again = Streamed('openvino')
    assert fastest({'openvino': again}, bundle, wanted).info.num_streams == expected
    assert len(again.made) == 1


@pytest.mark.parametrize('first', [1, 2])
def test_streams_and_one_thread_get_the_same_engine(bundle, settings, first):
    """A robot, its evaluation and a second camera: whatever is measured later."""
    engines = {
        'openvino': Streamed('openvino', 0.05),
        'onnxruntime': Streamed('onnxruntime', 0.001),
    }
    assert (
        fastest(engines, bundle, replace(settings, num_streams=first)).info.name == 'onnxruntime'
    )
    later = {'openvino': Streamed('openvino', 0.001), 'onnxruntime': Streamed('onnxruntime', 0.05)}
    for num_streams in (1, 2):
        for for_throughput in (False, True):
            wanted = replace(settings, num_streams=num_streams, for_throughput=for_throughput)
            assert fastest(later, bundle, wanted).info.name == 'onnxruntime'
    assert later['openvino'].asked == []


def test_streams_get_another_engine_when_that_of_one_thread_fails(bundle, settings, caplog):
    fastest({'onnxruntime': Factory('onnxruntime'), 'torch': refuse}, bundle, settings)
    engines = {'onnxruntime': refuse, 'torch': Factory('torch')}
    engine = fastest(engines, bundle, replace(settings, num_streams=2))
    assert engine.info.name == 'torch'
    assert 'worked before, and now: no engine runs on this machine' in caplog.text


def test_an_engine_that_has_no_streams_is_not_timed_again(bundle, settings):
    wanted = replace(settings, num_threads=2, num_streams=2)
    factory = Factory('openvino')
    assert fastest({'openvino': factory}, bundle, wanted) is factory.made[0]
    assert [engine.closed for engine in factory.made] == [False, True]


def test_threads_that_were_asked_for_are_kept(bundle, tmp_path):
    factory = Factory('openvino')
    fastest({'openvino': factory}, bundle, EngineSettings('auto', 1, tmp_path))
    assert factory.asked == [('auto', 1)]


@pytest.mark.parametrize('is_checked', [True, False])
def test_int8_takes_part_where_its_accuracy_was_checked(bundle, settings, is_checked):
    int8 = ModelFile(precision='int8', file='model.onnx', is_checked=is_checked)
    manifest = bundle.manifest.model_copy(update={'models': (*bundle.manifest.models, int8)})
    factory = Factory('openvino', lambda s: 0.001 if s.precision == 'int8' else 0.04)
    engine = fastest({'openvino': factory}, replace(bundle, manifest=manifest), settings)
    assert engine.info.precision == ('int8' if is_checked else 'fp32')


@pytest.mark.parametrize('name', ['openvino', 'onnxruntime'])
def test_int8_is_for_the_engines_that_it_was_checked_with(bundle, settings, name):
    int8 = ModelFile(precision='int8', file='model.onnx', is_checked=True)
    measured = {'quantization': {'int8': {'openvino': {'miou_drop': 0.001}}}}
    changes = {'models': (*bundle.manifest.models, int8), 'metrics': measured}
    bundle = replace(bundle, manifest=bundle.manifest.model_copy(update=changes))
    factory = Factory(name, lambda s: 0.001 if s.precision == 'int8' else 0.04)
    engine = fastest({name: factory}, bundle, settings)
    assert engine.info.precision == ('int8' if name == 'openvino' else 'fp32')


@pytest.mark.parametrize(
    ('is_checked', 'precision', 'expected'),
    [(True, 'auto', 'int8'), (False, 'auto', 'fp32'), (True, 'fp32', 'fp32')],
)
def test_so_it_does_for_an_engine_that_is_named(
    bundle, monkeypatch, tmp_path, is_checked, precision, expected
):
    int8 = ModelFile(precision='int8', file='model.onnx', is_checked=is_checked)
    manifest = bundle.manifest.model_copy(update={'models': (*bundle.manifest.models, int8)})
    factory = Factory('openvino', lambda s: 0.001 if s.precision == 'int8' else 0.04)
    monkeypatch.setitem(ENGINES, 'openvino', factory)
    monkeypatch.setitem(ENGINES, 'onnxruntime', refuse)
    bundle = replace(bundle, manifest=manifest)
    engine = create_engine(bundle, 'openvino', precision, cache_folder=tmp_path)
    assert engine.info.precision == expected


def test_no_time_is_left_for_a_second_candidate(bundle, settings, monkeypatch):
    monkeypatch.setattr(selection, 'BUDGET_S', 0.0)
    engines = {'openvino': Factory('openvino'), 'onnxruntime': Factory('onnxruntime')}
    assert fastest(engines, bundle, settings).info.name == 'openvino'
    assert engines['onnxruntime'].asked == []


def test_no_time_is_left_for_streams(bundle, settings, monkeypatch):
    monkeypatch.setattr(selection, 'BUDGET_S', 0.0)
    factory = Streamed('openvino')
    fastest({'openvino': factory}, bundle, replace(settings, num_threads=2, num_streams=2))
    assert len(factory.made) == 1


@pytest.mark.parametrize(
    ('has_gpu', 'expected'),
    [
        (True, [*selection._GPU_ENGINES, 'openvino', 'onnxruntime']),
        (False, ['openvino', 'onnxruntime', 'torch']),
    ],
)
def test_who_takes_part(bundle, monkeypatch, has_gpu, expected):
    monkeypatch.setattr(selection, 'has_nvidia_gpu', lambda: has_gpu)
    engines = dict.fromkeys([*expected, 'torch2trt', 'onnxruntime_tensorrt', 'tensorrt'], refuse)
    assert [name for name, _ in selection._candidates(engines, bundle, 'auto')] == expected


def test_torch_on_the_cpu_is_the_last_resort(bundle, settings, tmp_path):
    torch = Factory('torch')
    fastest({'openvino': Factory('openvino', 0.01), 'torch': torch}, bundle, settings)
    assert torch.asked == []
    other = EngineSettings(cache_folder=tmp_path / 'other')
    engine = fastest({'openvino': refuse, 'torch': torch}, bundle, other)
    assert engine.info.name == 'torch'
