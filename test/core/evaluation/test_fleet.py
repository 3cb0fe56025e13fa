"""A fleet's evaluation gives what one in a row gives, whatever happens on the way.

Workers are in this process here; test_fleet_cluster.py has real ones.
"""

import json
import os

import cv2
import numpy as np
import pytest

from offroad_seg_core.bags.writing import Header, MessageBag
from offroad_seg_core.evaluation.evaluate import evaluate
from offroad_seg_core.evaluation.inputs import open_frames
from offroad_seg_core.evaluation.outputs.label_bag import LabelBag
from offroad_seg_core.evaluation.sources.combining import SeveralSources
from offroad_seg_core.evaluation.sources.frame import SourceError

pytest.importorskip('fsspec', reason='fleets need requirements/fleet.txt')

from offroad_seg_core.fleet.chunks import plan
from offroad_seg_core.fleet.run import MAX_ATTEMPTS, Fleet
from offroad_seg_core.fleet.storage import StorageError

TINY = (32, 48)


def no_matter(*_):
    """Stands for a progress bar."""


@pytest.fixture(autouse=True)
def _threads(monkeypatch):
    """A worker sets them for its process, which is this one here."""
    monkeypatch.setenv('OMP_NUM_THREADS', '1')
    yield
    cv2.setNumThreads(-1)


@pytest.fixture
def week(drives, tmp_path):
    """Two drives of 40 frames: three chunks each."""
    return {
        name: drives.write_drive(tmp_path / name, ('front',), 40, TINY)
        for name in ('monday', 'friday')
    }


def opened(drives, fleets, places):
    return {name: fleets.drive(place, drives.TAXONOMY) for name, place in places.items()}


def fleet_result(fleets, evaluation, **options):
    given = {name: options.pop(name) for name in ('done', 'fail') if name in options}
    fleet = Fleet(evaluation, options.pop('on_chunk', no_matter), **options)
    return fleet.evaluate(fleets.in_this_process(evaluation, **given))


def test_chunks_in_any_order_make_the_result_of_one_go(drives, fleets, predictor, week, tmp_path):
    sources = opened(drives, fleets, week)
    serial = evaluate(fleets.evaluation_of(sources, predictor, tmp_path / 'serial'), no_matter)
    told = []
    evaluation = fleets.evaluation_of(opened(drives, fleets, week), predictor, tmp_path / 'fleet')
    folder = fleet_result(fleets, evaluation, on_chunk=lambda *counts: told.append(counts))
    assert fleets.said(drives, folder) == fleets.said(drives, serial)
    assert told[0][:2] == (1, 6)
    assert told[-1] == (6, 6, 80)
    assert sorted(path.name for path in folder.iterdir()) == sorted(
        path.name for path in serial.iterdir()
    )
    assert not (tmp_path / 'fleet.unfinished').exists()


def test_progress_ends_at_all_though_the_last_drive_fails(
    drives, fleets, predictor, week, tmp_path
):
    def fail(chunk):
        if chunk.drive == 'monday':  # the first, whose chunks come last
            raise ValueError('it is no bag')

    told = []
    evaluation = fleets.evaluation_of(opened(drives, fleets, week), predictor, tmp_path / 'fleet')
    fleet_result(fleets, evaluation, on_chunk=lambda *counts: told.append(counts), fail=fail)
    assert told[-2:] == [(3, 6, 40), (3, 3, 40)]


def test_stamps_that_repeat_have_the_names_of_one_go(drives, fleets, predictor, tmp_path):
    labels, _ = drives.scene(TINY)
    with MessageBag(tmp_path / 'drive') as bag:
        for index in range(40):
            header = Header(drives.START_NS + index % 25 * drives.STEP_NS, 'front')
            time_ns = drives.START_NS + index * drives.STEP_NS
            pixels = drives.TAXONOMY.palette_bgr[labels]
            bag.write_image('/front/image_raw', time_ns, header, pixels, 'bgr8')
    source = fleets.drive(tmp_path / 'drive', drives.TAXONOMY)
    serial = evaluate(fleets.evaluation_of(source, predictor, tmp_path / 'serial'), no_matter)
    done = []
    evaluation = fleets.evaluation_of(source, predictor, tmp_path / 'fleet')
    folder = fleet_result(fleets, evaluation, done=done)
    assert fleets.said(drives, folder) == fleets.said(drives, serial)
    assert len({row['name'] for row in drives.table(folder)}) == 40
    assert [(chunk.first, chunk.end) for chunk in done] == [(2, 3), (1, 2), (0, 1), (0, 3)]


def test_a_bag_that_is_cut_off_is_read_as_in_one_go(drives, fleets, predictor, tmp_path):
    place = drives.write_drive(tmp_path / 'drive', ('front',), 40, (192, 288))
    (file,) = place.glob('*.mcap')
    os.truncate(file, file.stat().st_size * 9 // 10)
    os.utime(file, (1, 1))  # nobody writes it any more
    source = fleets.drive(place, drives.TAXONOMY)
    assert source.notes
    assert source.num_parts > 1
    serial = evaluate(fleets.evaluation_of(source, predictor, tmp_path / 'serial'), no_matter)
    evaluation = fleets.evaluation_of(source, predictor, tmp_path / 'fleet')
    (drive,) = plan(evaluation)
    assert [(chunk.first, chunk.end) for chunk in drive.chunks] == [(0, source.num_parts)]
    assert fleets.said(drives, fleet_result(fleets, evaluation)) == fleets.said(drives, serial)


def test_what_fails_is_tried_again(drives, fleets, predictor, week, tmp_path):
    attempts = []

    def fail(chunk):
        attempts.append(chunk)
        if attempts.count(chunk) < MAX_ATTEMPTS:
            raise OSError('the network is down')

    evaluation = fleets.evaluation_of(opened(drives, fleets, week), predictor, tmp_path / 'fleet')
    folder = fleet_result(fleets, evaluation, fail=fail)
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
    folder = fleet_result(fleets, evaluation, fail=fail, done=done)
    told = drives.summary(folder)
    assert told['source']['left_out'] == [f'monday: not evaluated: {reason}']
    assert f'monday: not evaluated: {reason}' in told['notes']
    assert sum((chunk.drive, chunk.first) == ('monday', 1) for chunk in done) == num_attempts
    others = opened(drives, fleets, {'friday': week['friday']})
    alone = evaluate(fleets.evaluation_of(others, predictor, tmp_path / 'alone'), no_matter)
    assert told['counts'] == drives.summary(alone)['counts']
    assert drives.table(folder) == drives.table(alone)


def test_without_any_drive_the_reason_is_told(drives, fleets, predictor, week, tmp_path):
    def fail(chunk):
        raise ValueError(f'{chunk.drive} is no bag')

    evaluation = fleets.evaluation_of(opened(drives, fleets, week), predictor, tmp_path / 'fleet')
    with pytest.raises(ValueError, match='friday is no bag; monday is no bag'):
        fleet_result(fleets, evaluation, fail=fail)
    assert not (tmp_path / 'fleet').exists()


@pytest.mark.parametrize('damage', [False, True])
def test_after_ctrl_c_only_what_is_left_is_done(drives, fleets, predictor, week, tmp_path, damage):
    def evaluation():
        return fleets.evaluation_of(opened(drives, fleets, week), predictor, tmp_path / 'fleet')

    def interrupt(num_done, *_):
        if num_done == 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fleet_result(fleets, evaluation(), on_chunk=interrupt)
    assert not (tmp_path / 'fleet').exists()
    kept = sorted((tmp_path / 'fleet.unfinished' / 'chunks').iterdir())
    assert len(kept) == 4
    if damage:
        os.truncate(kept[0], kept[0].stat().st_size // 2)
    done = []
    folder = fleet_result(fleets, evaluation(), done=done)
    assert len(done) == (3 if damage else 2)
    whole = fleets.evaluation_of(opened(drives, fleets, week), predictor, tmp_path / 'serial')
    assert fleets.said(drives, folder) == fleets.said(drives, evaluate(whole, no_matter))


def test_named_chunks_serve_later_runs_in_object_storage(
    drives, fleets, predictor, week, tmp_path
):
    options = {'chunks': f'memory://{tmp_path.name}/chunks'}
    first = opened(drives, fleets, {'monday': week['monday']})
    done = []
    evaluation = fleets.evaluation_of(first, predictor, tmp_path / 'first')
    fleet_result(fleets, evaluation, done=done, **options)
    assert len(done) == 3
    done.clear()
    evaluation = fleets.evaluation_of(opened(drives, fleets, week), predictor, tmp_path / 'both')
    folder = fleet_result(fleets, evaluation, done=done, **options)
    assert {chunk.drive for chunk in done} == {'friday'}
    assert drives.summary(folder)['num_labelled'] == 80
    done.clear()
    evaluation = fleets.evaluation_of(opened(drives, fleets, week), predictor, tmp_path / 'both')
    fleet_result(fleets, evaluation, done=done, restart=True, **options)
    assert len(done) == 6


def test_keys_change_with_whatever_changes_the_result(drives, fleets, predictor, week, tmp_path):
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
    monday = week['monday']
    assert keys(sources={'monday': fleets.drive(monday, drives.TAXONOMY)}) < known
    assert known.isdisjoint(keys(sources={'tuesday': fleets.drive(monday, drives.TAXONOMY)}))
    os.utime(next(monday.glob('*.mcap')), (1, 1))
    assert len(known & keys()) == 3


def test_a_drive_in_object_storage_is_evaluated_like_a_local_one(
    drives, fleets, predictor, week, tmp_path
):
    import fsspec

    files = fsspec.filesystem('memory')
    place = f'/{tmp_path.name}/bucket/monday'
    for file in week['monday'].iterdir():
        files.pipe_file(f'{place}/{file.name}', file.read_bytes())
    local = evaluate(
        fleets.evaluation_of(
            fleets.drive(week['monday'], drives.TAXONOMY), predictor, tmp_path / 'local'
        ),
        no_matter,
    )
    source = fleets.drive(f'memory:/{place}', drives.TAXONOMY)
    evaluation = fleets.evaluation_of(source, predictor, tmp_path / 'remote')
    folder = fleet_result(fleets, evaluation)
    assert drives.table(folder) == drives.table(local)
    remote, told = drives.summary(folder), drives.summary(local)
    assert remote['counts'] == told['counts']
    assert remote['recording'] == told['recording']
    assert remote['source']['path'] == f'memory:/{place}'
    before = json.dumps(source.identity())
    files.pipe_file(f'{place}/metadata.yaml', b'')
    changed = fleets.drive(f'memory:/{place}', drives.TAXONOMY)
    assert json.dumps(changed.identity()) != before


def test_urls_that_lead_nowhere(fleets, drives):
    with pytest.raises(SourceError, match=r'memory://none/x.mcap: not there'):
        open_frames('memory://none/x.mcap')
    with pytest.raises(StorageError, match='Protocol not known'):
        open_frames('abacus://none/x.mcap')


def test_pictures_in_object_storage_are_refused(drives, fleets, predictor, tmp_path):
    import fsspec

    place = f'/{tmp_path.name}/pictures/0.png'
    picture = cv2.imencode('.png', np.zeros((8, 8, 3), np.uint8))[1]
    fsspec.filesystem('memory').pipe_file(place, picture.tobytes())
    source = fleets.drive(f'memory:/{place.rpartition("/")[0]}', drives.TAXONOMY)
    evaluation = fleets.evaluation_of({'a': source}, predictor, tmp_path / 'fleet')
    with pytest.raises(ValueError, match='got a folder of pictures, expected a bag or a video'):
        fleet_result(fleets, evaluation)


def test_a_folder_of_pictures_is_cut_too(drives, fleets, predictor, tmp_path):
    labels, _ = drives.scene(TINY)
    (tmp_path / 'pictures').mkdir()
    for index in range(20):
        picture = drives.TAXONOMY.palette_bgr[labels]
        cv2.imwrite(str(tmp_path / 'pictures' / f'{index:02d}.png'), picture)
    source = SeveralSources({'a': fleets.drive(tmp_path / 'pictures', drives.TAXONOMY)})
    serial = evaluate(fleets.evaluation_of(source, predictor, tmp_path / 'serial'), no_matter)
    done = []
    evaluation = fleets.evaluation_of(source, predictor, tmp_path / 'fleet')
    folder = fleet_result(fleets, evaluation, done=done)
    assert len(done) == 2
    assert fleets.said(drives, folder) == fleets.said(drives, serial)
