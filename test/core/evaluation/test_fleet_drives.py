"""Every kind of drive is evaluated in chunks as in one go, whatever state it is in."""

import json
import os

import cv2
import numpy as np
import pytest

from offroad_seg_core.bags.library import zstd
from offroad_seg_core.bags.writing import Header, MessageBag
from offroad_seg_core.evaluation.inputs import open_frames
from offroad_seg_core.evaluation.sources.combining import SeveralSources
from offroad_seg_core.evaluation.sources.frame import SourceError

pytest.importorskip('fsspec', reason='fleets need requirements/fleet.txt')

from offroad_seg_core.fleet.chunks import plan
from offroad_seg_core.fleet.storage import StorageError

TINY = (32, 48)
pytestmark = pytest.mark.usefixtures('worker_threads')


def test_stamps_that_repeat_have_the_names_of_one_go(drives, fleets, predictor, tmp_path):
    labels, _ = drives.scene(TINY)
    with MessageBag(tmp_path / 'drive') as bag:
        for index in range(40):
            header = Header(drives.START_NS + index % 25 * drives.STEP_NS, 'front')
            time_ns = drives.START_NS + index * drives.STEP_NS
            pixels = drives.TAXONOMY.palette_bgr[labels]
            bag.write_image('/front/image_raw', time_ns, header, pixels, 'bgr8')
    source = fleets.drive(tmp_path / 'drive', drives.TAXONOMY)
    serial = fleets.in_one_go(fleets.evaluation_of(source, predictor, tmp_path / 'serial'))
    done = []
    evaluation = fleets.evaluation_of(source, predictor, tmp_path / 'fleet')
    folder = fleets.result(evaluation, done=done)
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
    serial = fleets.in_one_go(fleets.evaluation_of(source, predictor, tmp_path / 'serial'))
    evaluation = fleets.evaluation_of(source, predictor, tmp_path / 'fleet')
    (drive,) = plan(evaluation)
    assert [(chunk.first, chunk.end) for chunk in drive.chunks] == [(0, source.num_parts)]
    assert fleets.said(drives, fleets.result(evaluation)) == fleets.said(drives, serial)


def test_a_damaged_place_is_read_and_told_as_in_one_go(drives, fleets, predictor, tmp_path):
    place = drives.write_drive(tmp_path / 'drive', ('front',), 40, (192, 288), with_truth=False)
    lost = drives.damage_chunk(place, 2)
    source = fleets.drive(place, drives.TAXONOMY)
    serial = fleets.in_one_go(fleets.evaluation_of(source, predictor, tmp_path / 'serial'))
    assert len(drives.table(serial)) == 40 - lost
    evaluation = fleets.evaluation_of(
        fleets.drive(place, drives.TAXONOMY), predictor, tmp_path / 'fleet'
    )
    told = fleets.said(drives, fleets.result(evaluation))
    assert told == fleets.said(drives, serial)
    assert len(told['notes']) == 1
    assert 'a part was not read: Chunk checksum mismatch' in told['notes'][0]


def test_a_drive_in_object_storage_is_evaluated_like_a_local_one(
    drives, fleets, predictor, tmp_path
):
    import fsspec

    monday = drives.write_drive(tmp_path / 'monday', ('front',), 40, TINY)
    files = fsspec.filesystem('memory')
    place = f'/{tmp_path.name}/bucket/monday'
    for file in monday.iterdir():
        files.pipe_file(f'{place}/{file.name}', file.read_bytes())
    local = fleets.in_one_go(
        fleets.evaluation_of(fleets.drive(monday, drives.TAXONOMY), predictor, tmp_path / 'local'),
    )
    source = fleets.drive(f'memory:/{place}', drives.TAXONOMY)
    evaluation = fleets.evaluation_of(source, predictor, tmp_path / 'remote')
    folder = fleets.result(evaluation)
    assert drives.table(folder) == drives.table(local)
    remote, told = drives.summary(folder), drives.summary(local)
    assert remote['counts'] == told['counts']
    assert remote['recording'] == told['recording']
    assert remote['source']['path'] == f'memory:/{place}'
    before = json.dumps(source.identity())
    files.pipe_file(f'{place}/metadata.yaml', b'')
    changed = fleets.drive(f'memory:/{place}', drives.TAXONOMY)
    assert json.dumps(changed.identity()) != before


def test_a_file_that_changed_at_its_address_is_another_drive(tmp_path, monkeypatch):
    import fsspec
    from fsspec.implementations.memory import MemoryFileSystem

    files, facts = fsspec.filesystem('memory'), {}
    info = MemoryFileSystem.info
    monkeypatch.setattr(MemoryFileSystem, 'ukey', lambda _, path: path)  # as of HTTP
    monkeypatch.setattr(MemoryFileSystem, 'info', lambda self, path: info(self, path) | facts)
    place, seen = f'/{tmp_path.name}/drive.mcap', []
    for content, told in (
        (b'123', {}),
        (b'1234', {}),
        (b'1234', {'ETag': '"1"'}),
        (b'1234', {'ETag': '"2"'}),
        (b'1234', {'Last-Modified': 'Sat, 21 Nov 2026 21:00:00 GMT'}),
    ):
        files.pipe_file(place, content)
        facts.clear()
        facts.update(told)
        seen.append(json.dumps(open_frames(f'memory:/{place}').identity()))
        assert json.dumps(open_frames(f'memory:/{place}').identity()) == seen[-1]
    assert len(set(seen)) == 5


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
        fleets.result(evaluation)


def test_a_folder_of_pictures_is_cut_too(drives, fleets, predictor, tmp_path):
    labels, _ = drives.scene(TINY)
    (tmp_path / 'pictures').mkdir()
    for index in range(20):
        picture = drives.TAXONOMY.palette_bgr[labels]
        cv2.imwrite(str(tmp_path / 'pictures' / f'{index:02d}.png'), picture)
    source = SeveralSources({'a': fleets.drive(tmp_path / 'pictures', drives.TAXONOMY)})
    serial = fleets.in_one_go(fleets.evaluation_of(source, predictor, tmp_path / 'serial'))
    done = []
    evaluation = fleets.evaluation_of(source, predictor, tmp_path / 'fleet')
    folder = fleets.result(evaluation, done=done)
    assert len(done) == 2
    assert fleets.said(drives, folder) == fleets.said(drives, serial)


def test_a_bag_whose_files_are_compressed_is_one_chunk(drives, fleets, predictor, tmp_path):
    place = drives.write_drive(tmp_path / 'drive', ('front',), 40, TINY)
    (file,) = place.glob('*.mcap')
    packed = tmp_path / 'drive.mcap.zstd'
    packed.write_bytes(zstd.compress(file.read_bytes()))
    for path, chunks in ((place, [(0, 1), (1, 2), (2, 3)]), (packed, [(0, 3)])):
        for source in (open_frames(path), SeveralSources({'a': open_frames(path)})):
            evaluation = fleets.evaluation_of(source, predictor, tmp_path / 'fleet')
            (drive,) = plan(evaluation)
            assert [(chunk.first, chunk.end) for chunk in drive.chunks] == chunks


def test_frames_that_are_done_twice_count_once(drives, fleets, predictor, tmp_path):
    place = drives.write_drive(tmp_path / 'drive', ('front',), 40, (192, 288), with_truth=False)
    lost, told = drives.damage_chunk(place, 2), []
    source = fleets.drive(place, drives.TAXONOMY)
    evaluation = fleets.evaluation_of(source, predictor, tmp_path / 'fleet')
    fleets.result(evaluation, on_chunk=lambda *counts: told.append(counts))
    assert told[-1] == (1, 1, 40 - lost)


def test_drives_whose_labels_were_left_out_are_not_done_twice(drives, fleets, predictor, tmp_path):
    """Simulations all begin at zero, so one bag of labels may be of any of them."""
    start = {'start_ns': drives.STEP_NS, 'with_truth': False}
    week = [
        drives.write_drive(tmp_path / name, ('front',), 40, TINY, **start)
        for name in ('monday', 'friday')
    ]
    one = drives.evaluated(predictor, tmp_path / 'one', week[:1])
    source = drives.source_of(week, truth=one / 'labels_bag')
    serial = fleets.in_one_go(fleets.evaluation_of(source, predictor, tmp_path / 'serial'))
    source, done = drives.source_of(week, truth=one / 'labels_bag'), []
    evaluation = fleets.evaluation_of(source, predictor, tmp_path / 'fleet')
    folder = fleets.result(evaluation, done=done)
    assert len(done) == len(set(done)) == 6
    assert fleets.said(drives, folder) == fleets.said(drives, serial)
    (note,) = drives.summary(folder)['notes']
    assert 'labels_bag: labels were left out: their stamps tell no date' in note


def test_a_drive_with_labels_but_no_stamps_is_not_done_twice(drives, fleets, predictor, tmp_path):
    labels, truth = drives.scene(TINY)
    with MessageBag(tmp_path / 'drive') as bag:
        for index in range(40):
            time_ns = drives.START_NS + index * drives.STEP_NS
            pixels = drives.TAXONOMY.palette_bgr[labels]
            bag.write_image('/front/image_raw', time_ns, Header(0, 'front'), pixels, 'bgr8')
            topic = '/front/ground_truth/label_map'
            bag.write_image(topic, time_ns, Header(0, 'front'), truth, 'mono8')
    source = fleets.drive(tmp_path / 'drive', drives.TAXONOMY)
    serial = fleets.in_one_go(fleets.evaluation_of(source, predictor, tmp_path / 'serial'))
    source, done = fleets.drive(tmp_path / 'drive', drives.TAXONOMY), []
    evaluation = fleets.evaluation_of(source, predictor, tmp_path / 'fleet')
    folder = fleets.result(evaluation, done=done)
    assert [(chunk.first, chunk.end) for chunk in done] == [(2, 3), (1, 2), (0, 1)]
    assert fleets.said(drives, folder) == fleets.said(drives, serial)
    (note,) = drives.summary(folder)['notes']
    assert 'drive: labels were left out: their stamp is unset' in note
