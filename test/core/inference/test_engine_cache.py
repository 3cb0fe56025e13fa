"""The cache of built engines, with real files and processes and a builder of plain bytes."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
import json
import logging
from pathlib import Path
import signal
import subprocess
import sys
import time

import pytest

from offroad_seg_core.inference.engines.base import EngineError, EngineStoppedError
from offroad_seg_core.inference.engines.engine_cache import EngineCache, Fingerprint
from offroad_seg_core.inference.engines.plan_builder import PlanJob, build_in_child
from offroad_seg_core.inference.engines.stopping import builds_stopped

DEADLINE_S = 60.0
FINGERPRINT = Fingerprint(
    library='tensorrt',
    version='10.3.0',
    bundle='desert',
    onnx_sha256='ab' * 32,
    precision='fp16',
    size=(64, 96),
    gpu='Orin',
    compute_capability='8.7',
    driver='R36',
    options='{}',
)
ENGINE = bytes(range(256)) * 64
# Another process that uses the cache: "built" and "got" are its steps, as files.
PROCESS = f"""
import sys, time
from pathlib import Path
sys.path.insert(0, {str(Path(__file__).parent)!r})
from {Path(__file__).stem} import ENGINE, FINGERPRINT
from offroad_seg_core.inference.engines.engine_cache import EngineCache

folder, name, hold = Path(sys.argv[1]), sys.argv[2], sys.argv[3] == 'hold'

def build(output):
    with open(folder / 'builds', 'a') as stream:
        stream.write(name + chr(10))
    output.write_bytes(ENGINE[:1000])
    while hold:
        time.sleep(0.01)
    output.write_bytes(ENGINE)

engine = EngineCache(folder).get_or_build(FINGERPRINT, build)
(folder / ('got_' + name)).write_bytes(engine)
"""


class Builder:
    def __init__(self, engine=ENGINE):
        self.engine, self.num_builds = engine, 0

    def __call__(self, output):
        self.num_builds += 1
        output.write_bytes(self.engine)


@pytest.fixture
def cache(tmp_path):
    return EngineCache(tmp_path)


def files(cache, fingerprint=FINGERPRINT):
    stem = cache.folder_of(fingerprint) / fingerprint.name
    return stem.with_name(f'{stem.name}.plan'), stem.with_name(f'{stem.name}.json')


def wait_for(condition, what):
    end = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < end, f'timed out waiting for {what}'
        time.sleep(0.01)


@pytest.fixture
def start(tmp_path):
    running = []

    def run(name, hold=False):
        command = [sys.executable, '-c', PROCESS, str(tmp_path), name, 'hold' if hold else '']
        process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
        running.append(process)
        return process

    yield run
    for process in running:
        process.kill()
        process.wait()
        process.stderr.close()


def test_it_is_built_once(cache, caplog):
    builder = Builder()
    assert cache.get_or_build(FINGERPRINT, builder) == ENGINE
    assert 'none is stored yet' in caplog.text
    assert 'takes minutes' in caplog.text
    assert EngineCache(cache.folder.parent).get_or_build(FINGERPRINT, builder) == ENGINE
    assert builder.num_builds == 1


def test_the_user_s_cache_folder_is_the_default(monkeypatch, tmp_path):
    monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path))
    EngineCache().get_or_build(FINGERPRINT, Builder())
    (plan,) = tmp_path.rglob('*.plan')
    assert plan.relative_to(tmp_path).parts[:3] == ('offroad_seg', 'engines', 'tensorrt-10.3.0')


@pytest.mark.parametrize(
    'change', [{'driver': 'R38'}, {'options': '{"graph": 2}'}, {'compute_capability': '8.9'}]
)
def test_what_changed_is_built_again_in_its_place(cache, caplog, change):
    cache.get_or_build(FINGERPRINT, Builder())
    caplog.clear()
    changed = replace(FINGERPRINT, **change)
    assert cache.get_or_build(changed, Builder(b'new')) == b'new'
    ((name, value),) = change.items()
    assert f'{name} was {getattr(FINGERPRINT, name)!r}, is {value!r}' in caplog.text
    assert len(list(cache.folder.rglob('*.plan'))) == 1
    assert cache.get_or_build(changed, Builder()) == b'new'


@pytest.mark.parametrize(
    'change',
    [
        {'onnx_sha256': 'cd' * 32},
        {'precision': 'fp32'},
        {'size': (128, 96)},
        {'gpu': 'RTX 5090'},
        {'version': '10.16.1'},
        {'library': 'tensorrt_rtx'},
        {'bundle': 'forest'},
    ],
)
def test_what_is_used_side_by_side_is_kept_side_by_side(cache, change):
    cache.get_or_build(FINGERPRINT, Builder())
    assert cache.get_or_build(replace(FINGERPRINT, **change), Builder(b'other')) == b'other'
    nothing = Builder(b'never')
    assert cache.get_or_build(FINGERPRINT, nothing) == ENGINE
    assert nothing.num_builds == 0


def test_an_engine_of_another_machine_is_not_taken(cache, tmp_path, caplog):
    foreign = replace(FINGERPRINT, driver='R35', compute_capability='7.2')
    cache.get_or_build(foreign, Builder(b'foreign'))
    assert cache.get_or_build(FINGERPRINT, Builder()) == ENGINE
    assert "compute_capability was '7.2', is '8.7', driver was 'R35'" in caplog.text


@pytest.mark.parametrize(
    ('damage', 'reason'),
    [
        (lambda plan, record: plan.write_bytes(plan.read_bytes()[:-1]), 'is damaged'),
        (lambda plan, record: plan.write_bytes(b'x' + plan.read_bytes()[1:]), 'is damaged'),
        (lambda plan, record: plan.unlink(), 'none is stored'),
        (lambda plan, record: record.unlink(), 'none is stored'),
        (lambda plan, record: record.write_text('{'), 'record is damaged'),
        (lambda plan, record: record.write_text('[]'), 'record is damaged'),
        (lambda plan, record: record.write_text('{"fingerprint": 1, "sha256": 2}'), 'damaged'),
        (lambda plan, record: record.write_bytes(b'\xff\xfe'), 'record is damaged'),
    ],
    ids=['cut', 'changed', 'no_plan', 'no_record', 'half_record', 'list', 'types', 'bytes'],
)
def test_damaged_engines_are_built_again(cache, caplog, damage, reason):
    cache.get_or_build(FINGERPRINT, Builder())
    damage(*files(cache))
    caplog.clear()
    builder = Builder()
    assert cache.get_or_build(FINGERPRINT, builder) == ENGINE
    assert builder.num_builds == 1
    assert reason in caplog.text
    assert cache.get_or_build(FINGERPRINT, builder) == ENGINE
    assert builder.num_builds == 1


def test_a_discarded_engine_is_built_again(cache):
    cache.get_or_build(FINGERPRINT, Builder(b'refused'))
    cache.discard(FINGERPRINT)
    assert cache.get_or_build(FINGERPRINT, Builder()) == ENGINE


def test_a_build_that_fails_leaves_nothing(cache):
    def fail(output):
        output.write_bytes(b'half')
        raise EngineError('no such operator')

    with pytest.raises(EngineError, match='no such operator'):
        cache.get_or_build(FINGERPRINT, fail)
    left = [path for path in cache.folder.rglob('*') if path.is_file()]
    assert [path.suffix for path in left] in ([], ['.lock'])
    assert cache.get_or_build(FINGERPRINT, Builder()) == ENGINE


def test_killed_while_it_writes(cache, start, tmp_path, caplog):
    process = start('victim', hold=True)
    folder = cache.folder_of(FINGERPRINT)
    wait_for(lambda: any(path.stat().st_size for path in folder.glob('.*.plan')), 'half a file')
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not list(folder.glob('*.json'))
    assert cache.get_or_build(FINGERPRINT, Builder()) == ENGINE
    assert not list(folder.glob('.*'))


def test_killed_while_it_replaces_another(cache, start):
    old = replace(FINGERPRINT, driver='R35')
    cache.get_or_build(old, Builder(b'old'))
    process = start('victim', hold=True)
    folder = cache.folder_of(FINGERPRINT)
    wait_for(lambda: list(folder.glob('.*.plan')), 'half a file')
    process.send_signal(signal.SIGKILL)
    process.wait()
    never = Builder()
    assert cache.get_or_build(old, never) == b'old'
    assert never.num_builds == 0


def test_only_one_of_several_processes_builds(start, tmp_path):
    processes = [start(name) for name in ('first', 'second', 'third')]
    for process in processes:
        assert process.wait(DEADLINE_S) == 0, process.stderr.read()
    assert len((tmp_path / 'builds').read_text().split()) == 1
    for name in ('first', 'second', 'third'):
        assert (tmp_path / f'got_{name}').read_bytes() == ENGINE


def test_who_waits_builds_when_the_builder_is_killed(start, tmp_path):
    builder = start('builder', hold=True)
    builds = tmp_path / 'builds'
    wait_for(builds.exists, 'the first build')
    waiting = start('waiting')
    wait_for(lambda: 'waiting for another process' in waiting.stderr.readline(), 'its log')
    assert waiting.poll() is None
    builder.send_signal(signal.SIGKILL)
    assert waiting.wait(DEADLINE_S) == 0
    assert builds.read_text().split() == ['builder', 'waiting']
    assert (tmp_path / 'got_waiting').read_bytes() == ENGINE


def test_waiting_for_another_process_can_be_stopped(cache, start, tmp_path, caplog):
    start('builder', hold=True)
    wait_for((tmp_path / 'builds').exists, 'the build')
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(cache.get_or_build, FINGERPRINT, Builder())
        wait_for(lambda: 'waiting for another process' in caplog.text, 'its log')
        with builds_stopped(), pytest.raises(EngineStoppedError):
            waiting.result(DEADLINE_S)


def test_the_record_says_what_was_built(cache, caplog):
    caplog.set_level(logging.INFO)
    cache.get_or_build(FINGERPRINT, Builder())
    record = json.loads(files(cache)[1].read_text())
    assert record['fingerprint']['size'] == [64, 96]
    assert record['build_s'] >= 0
    assert f'built engine {FINGERPRINT.name}' in caplog.text
    assert FINGERPRINT.name == 'desert-abababababab-fp16-64x96-Orin'


def test_a_build_that_cannot_start_is_no_matter_of_the_folder(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, 'executable', '/nowhere/python')
    job = PlanJob('tensorrt', '', 'fp16', (64, 96), '')
    with pytest.raises(EngineError, match=r'building engine desert-.*No such file.*nowhere') as e:
        EngineCache(tmp_path).get_or_build(FINGERPRINT, lambda path: build_in_child(job, path))
    assert 'folder' not in str(e.value)
    assert EngineCache(tmp_path).get_or_build(FINGERPRINT, Builder()) == ENGINE
