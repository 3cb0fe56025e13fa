"""A fleet's evaluation gives what one in a row gives, whatever happens on the way.

Workers are in this process here; test_fleet_cluster.py has real ones.
"""

from importlib import metadata
import os

import cv2
import numpy as np
import pytest

from offroad_seg_core import provenance
from offroad_seg_core.evaluation.outputs.label_bag import LabelBag
from offroad_seg_core.evaluation.outputs.labels import LabelFiles
from offroad_seg_core.evaluation.parts import Unfinished

pytest.importorskip('fsspec', reason='fleets need requirements/fleet.txt')

from offroad_seg_core.fleet.chunks import plan
from offroad_seg_core.fleet.run import MAX_ATTEMPTS
from offroad_seg_core.fleet.storage import ChunkStore

TINY = (32, 48)
pytestmark = pytest.mark.usefixtures('worker_threads')


@pytest.fixture
def week(drives, tmp_path):
    """Two drives of 40 frames: three chunks each."""
    return {
        name: drives.write_drive(tmp_path / name, ('front',), 40, TINY)
        for name in ('monday', 'friday')
    }


def opened(drives, fleets, places):
    return {name: fleets.drive(place, drives.TAXONOMY) for name, place in places.items()}


def test_chunks_in_any_order_make_the_result_of_one_go(drives, fleets, predictor, week, tmp_path):
    sources = opened(drives, fleets, week)
    serial = fleets.in_one_go(fleets.evaluation_of(sources, predictor, tmp_path / 'serial'))
    told = []
    evaluation = fleets.evaluation_of(opened(drives, fleets, week), predictor, tmp_path / 'fleet')
    folder = fleets.result(evaluation, on_chunk=lambda *counts: told.append(counts))
    assert fleets.said(drives, folder) == fleets.said(drives, serial)
    assert told[0][:2] == (1, 6)
    assert told[-1] == (6, 6, 80)
    assert sorted(path.name for path in folder.iterdir()) == sorted(
        path.name for path in serial.iterdir()
    )
    assert not (tmp_path / 'fleet.unfinished').exists()


def test_after_a_crash_at_the_end_it_goes_on_without_a_fleet(
    drives, fleets, predictor, week, tmp_path, monkeypatch
):
    def fail(chunk):
        if chunk.drive == 'monday':
            raise ValueError('it is no bag')

    def full_disk(sink, folder, parts):
        raise OSError('no space left')

    def evaluation(output='fleet'):
        return fleets.evaluation_of(opened(drives, fleets, week), predictor, tmp_path / output)

    with monkeypatch.context() as patch:
        patch.setattr(LabelFiles, 'finish', full_disk)
        with pytest.raises(OSError, match='no space left'):
            fleets.result(evaluation(), fail=fail)
    # Without the fleet no drive fails; its parts are not those of the other.
    folder, alone = fleets.in_one_go(evaluation()), fleets.in_one_go(evaluation('one'))
    assert fleets.said(drives, folder) == fleets.said(drives, alone)
    assert {path.name for path in folder.iterdir()} == {path.name for path in alone.iterdir()}


def test_after_kill_while_chunks_are_put_together_nothing_of_them_stays(
    drives, fleets, predictor, week, tmp_path, monkeypatch
):
    def evaluation(output='fleet'):
        return fleets.evaluation_of(opened(drives, fleets, week), predictor, tmp_path / output)

    def kill(unfinished, folder):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Unfinished, 'adopt', kill)
        with pytest.raises(KeyboardInterrupt):
            fleets.result(evaluation())
    assert list((tmp_path / 'fleet.unfinished').rglob('*.npz'))
    folder, alone = fleets.in_one_go(evaluation()), fleets.in_one_go(evaluation('one'))
    assert {path.name for path in folder.iterdir()} == {path.name for path in alone.iterdir()}


def test_progress_ends_at_all_though_the_last_drive_fails(
    drives, fleets, predictor, week, tmp_path
):
    def fail(chunk):
        if chunk.drive == 'monday':  # the first, whose chunks come last
            raise ValueError('it is no bag')

    told = []
    evaluation = fleets.evaluation_of(opened(drives, fleets, week), predictor, tmp_path / 'fleet')
    fleets.result(evaluation, on_chunk=lambda *counts: told.append(counts), fail=fail)
    assert told[-2:] == [(3, 6, 40), (3, 3, 40)]


def test_what_fails_is_tried_again(drives, fleets, predictor, week, tmp_path):
    attempts = []

    def fail(chunk):
        attempts.append(chunk)
        if attempts.count(chunk) < MAX_ATTEMPTS:
            raise OSError('the network is down')

    evaluation = fleets.evaluation_of(opened(drives, fleets, week), predictor, tmp_path / 'fleet')
    folder = fleets.result(evaluation, fail=fail)
    assert len(attempts) == 6 * MAX_ATTEMPTS
    assert drives.summary(folder)['num_labelled'] == 80
    assert drives.summary(folder)['source']['left_out'] == []


@pytest.mark.parametrize(
    ('error', 'num_attempts', 'reason'),
    [
        (ValueError('no bag'), 1, 'no bag'),
        (OSError('out of reach'), MAX_ATTEMPTS, 'OSError: out of reach'),
    ],
)
def test_a_drive_that_fails_is_named_and_the_others_are_done(
    drives, fleets, predictor, week, tmp_path, error, num_attempts, reason
):
    def fail(chunk):
        if (chunk.drive, chunk.first) == ('monday', 1):
            raise error

    evaluation = fleets.evaluation_of(opened(drives, fleets, week), predictor, tmp_path / 'fleet')
    done = []
    folder = fleets.result(evaluation, fail=fail, done=done)
    told = drives.summary(folder)
    assert told['source']['left_out'] == [f'monday: not evaluated: {reason}']
    assert f'monday: not evaluated: {reason}' in told['notes']
    assert sum((chunk.drive, chunk.first) == ('monday', 1) for chunk in done) == num_attempts
    others = opened(drives, fleets, {'friday': week['friday']})
    alone = fleets.in_one_go(fleets.evaluation_of(others, predictor, tmp_path / 'alone'))
    assert told['counts'] == drives.summary(alone)['counts']
    assert drives.table(folder) == drives.table(alone)


def test_a_share_that_is_away_is_no_damage_of_its_drives(
    drives, fleets, predictor, week, tmp_path, caplog
):
    away = tmp_path / 'away'

    def come_and_go(chunk):
        if away.exists():
            away.rename(week['monday'])
        elif (chunk.drive, chunk.first) == ('monday', 1):
            week['monday'].rename(away)

    evaluation = fleets.evaluation_of(opened(drives, fleets, week), predictor, tmp_path / 'fleet')
    folder = fleets.result(evaluation, fail=come_and_go)
    assert 'monday: part 1 is tried again after FileNotFoundError' in caplog.text
    assert drives.summary(folder)['num_labelled'] == 80
    assert drives.summary(folder)['source']['left_out'] == []


def test_without_any_drive_the_reason_is_told(drives, fleets, predictor, week, tmp_path):
    def fail(chunk):
        raise ValueError(f'{chunk.drive} is no bag')

    evaluation = fleets.evaluation_of(opened(drives, fleets, week), predictor, tmp_path / 'fleet')
    with pytest.raises(ValueError, match='friday is no bag; monday is no bag'):
        fleets.result(evaluation, fail=fail)
    assert not (tmp_path / 'fleet').exists()


@pytest.mark.parametrize('damage', [False, True])
def test_after_ctrl_c_only_what_is_left_is_done(drives, fleets, predictor, week, tmp_path, damage):
    def evaluation():
        return fleets.evaluation_of(opened(drives, fleets, week), predictor, tmp_path / 'fleet')

    def interrupt(num_done, *_):
        if num_done == 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fleets.result(evaluation(), on_chunk=interrupt)
    assert not (tmp_path / 'fleet').exists()
    kept = sorted((tmp_path / 'fleet.unfinished' / 'chunks').iterdir())
    assert len(kept) == 4
    if damage:
        os.truncate(kept[0], kept[0].stat().st_size // 2)
    done = []
    folder = fleets.result(evaluation(), done=done)
    assert len(done) == (3 if damage else 2)
    whole = fleets.evaluation_of(opened(drives, fleets, week), predictor, tmp_path / 'serial')
    assert fleets.said(drives, folder) == fleets.said(drives, fleets.in_one_go(whole))


def test_named_chunks_serve_later_runs_in_object_storage(
    drives, fleets, predictor, week, tmp_path
):
    options = {'chunks': f'memory://{tmp_path.name}/chunks'}
    first = opened(drives, fleets, {'monday': week['monday']})
    done = []
    evaluation = fleets.evaluation_of(first, predictor, tmp_path / 'first')
    fleets.result(evaluation, done=done, **options)
    assert len(done) == 3
    done.clear()
    evaluation = fleets.evaluation_of(opened(drives, fleets, week), predictor, tmp_path / 'both')
    folder = fleets.result(evaluation, done=done, **options)
    assert {chunk.drive for chunk in done} == {'friday'}
    assert drives.summary(folder)['num_labelled'] == 80
    done.clear()
    evaluation = fleets.evaluation_of(opened(drives, fleets, week), predictor, tmp_path / 'both')
    fleets.result(evaluation, done=done, restart=True, **options)
    assert len(done) == 6


def test_a_chunk_that_is_removed_after_it_was_seen_is_done_again(
    drives, fleets, predictor, week, tmp_path, monkeypatch
):
    def evaluation(output):
        return fleets.evaluation_of(opened(drives, fleets, week), predictor, tmp_path / output)

    chunks, keys = tmp_path / 'chunks', ChunkStore.keys
    first = fleets.result(evaluation('first'), chunks=str(chunks))

    def removing(store):
        found = keys(store)
        next(chunks.iterdir()).unlink()
        return found

    monkeypatch.setattr(ChunkStore, 'keys', removing)
    done = []
    again = fleets.result(evaluation('again'), chunks=str(chunks), done=done)
    assert len(done) == 1
    assert fleets.said(drives, again) == fleets.said(drives, first)


def test_keys_change_with_whatever_changes_the_result(
    drives, fleets, predictor, week, tmp_path, monkeypatch
):
    def keys(**options):
        given = options.pop('sources', None) or opened(drives, fleets, week)
        evaluation = fleets.evaluation_of(given, predictor, tmp_path / 'fleet')
        for name, value in options.items():
            object.__setattr__(evaluation, name, value)
        return {chunk.key for drive in plan(evaluation) for chunk in drive.chunks}

    known = keys()
    assert len(known) == 6
    assert known == keys()
    assert known.isdisjoint(keys(sinks=(LabelBag(predictor.cost_table, '{}'),)))
    for library in (np, cv2):
        with monkeypatch.context() as patch:
            patch.setattr(library, '__version__', 'another')
            assert known.isdisjoint(keys())
    with monkeypatch.context() as patch:
        patch.setattr(metadata, 'version', lambda name: f'another of {name}')
        assert known.isdisjoint(keys())
    with monkeypatch.context() as patch:
        patch.setattr(provenance, '__file__', str(tmp_path / 'provenance.py'))
        patch.setattr(provenance, 'code_sha256', provenance.code_sha256.__wrapped__)
        seen = [known]
        for code in ('one = 1\n', 'one = 2\n'):
            (tmp_path / 'code.py').write_text(code)
            seen.append(keys())
        assert len(set().union(*seen)) == 3 * len(known)
    monday = week['monday']
    assert keys(sources={'monday': fleets.drive(monday, drives.TAXONOMY)}) < known
    assert known.isdisjoint(keys(sources={'tuesday': fleets.drive(monday, drives.TAXONOMY)}))
    os.utime(next(monday.glob('*.mcap')), (1, 1))
    assert len(known & keys()) == 3
