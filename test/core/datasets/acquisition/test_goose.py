from collections import namedtuple
from dataclasses import replace
import hashlib
import io
import json
import shutil
import tarfile

import pytest

from offroad_seg_core.datasets.acquisition import goose_download
from offroad_seg_core.datasets.acquisition.archives import ArchiveError
from offroad_seg_core.datasets.acquisition.disk_space import DiskSpaceError
from offroad_seg_core.datasets.acquisition.goose_config import ArchiveConfig, GooseDownloadConfig
from offroad_seg_core.datasets.acquisition.goose_download import prepare
from offroad_seg_core.datasets.acquisition.manifest import read_stamp, verify
from offroad_seg_core.datasets.acquisition.remote import DownloadError, RetryConfig

Usage = namedtuple('Usage', 'total used free')
RETRY = RetryConfig(attempts=2, first_wait_s=0.0)


@pytest.fixture
def config(server, goose, tmp_path):
    """A configuration of the tiny GOOSE, whose archives the server has."""
    archives = [
        ArchiveConfig(name=name, url=server.add(name, goose.zipped(files)))
        for name, files in goose.tiny_goose().items()
    ]
    return GooseDownloadConfig(
        root=tmp_path / 'goose', archives=tuple(archives), retry=RETRY, reserve_gb=0.0
    )


def replace_archive(config, index, **changes):
    archives = list(config.archives)
    archives[index] = replace(archives[index], **changes)
    return replace(config, archives=tuple(archives))


def run(config):
    return prepare(config, show_progress=False)


def tree(root, *folders):
    return {
        path.relative_to(root).as_posix(): path.read_bytes()
        for folder in folders
        for path in (root / folder).rglob('*')
        if path.is_file()
    }


class TestPrepare:
    def test_combines_the_archives(self, config, goose):
        manifest = run(config)
        expected = {}
        for files in goose.tiny_goose().values():
            expected.update({k: v for k, v in files.items() if '/' in k})
        assert tree(config.root, 'images', 'labels') == expected
        assert (config.root / 'goose_label_mapping.csv').read_bytes() == goose.TABLE
        assert (config.root / 'about/goose_2d_val/CHANGELOG').read_bytes() == b'goose'
        assert (config.root / 'about/gooseEx_2d_train/CHANGELOG').read_bytes() == b'goose-ex'
        assert manifest == json.loads((config.root / 'manifest.json').read_text())

    def test_the_manifest_counts(self, config, server):
        manifest = run(config)
        kinds = {'color': 2, 'instanceids': 2, 'labelids': 2}
        assert manifest['license'] == 'CC BY-SA 4.0'
        assert manifest['images'] == {
            'test': {'front': 1},
            'train': {'camera_left': 1, 'windshield_nir': 1, 'windshield_vis': 1},
            'val': {'windshield_nir': 1, 'windshield_vis': 1},
        }
        assert manifest['labels'] == {'train': kinds, 'val': dict.fromkeys(kinds, 1)}
        assert manifest['scenarios']['train'] == {'2022-08-30_feldwege': 1, 'alice_scenario01': 1}
        assert manifest['unpaired'] == {'train': [], 'val': []}
        assert manifest['num_files'] == 4 * 3 + 5 + 5 + 4 + 1
        first = manifest['archives'][0]
        content = server.pages['/gooseEx_2d_test.zip'].content
        assert first['name'] == 'gooseEx_2d_test.zip'
        assert first['size'] == len(content)
        assert first['sha256'] == hashlib.sha256(content).hexdigest()
        assert not first['sha256_checked']

    def test_a_second_run_does_nothing(self, config, server):
        manifest = run(config)
        stats = {path: path.stat().st_mtime_ns for path in config.root.rglob('*')}
        server.requests.clear()
        assert run(config) == manifest
        assert server.requests == []
        assert {path: path.stat().st_mtime_ns for path in config.root.rglob('*')} == stats

    def test_archives_are_deleted_only_if_asked_for(self, config):
        run(config)
        assert len(list((config.root / 'archives').glob('*.zip'))) == 4
        config = replace(config, keep_archives=False)
        manifest = run(config)
        assert list((config.root / 'archives').iterdir()) == []
        assert run(config) == manifest  # and are not missed afterwards

    def test_goes_on_after_an_archive_that_failed(self, config, server):
        page = server.pages['/goose_2d_val.zip']
        page.drop_at = [200, 200, 300]  # the first is the question for its size
        with pytest.raises(DownloadError, match=r'goose_2d_val\.zip: given up'):
            run(config)
        assert (config.root / 'images/train').is_dir()
        server.requests.clear()
        run(config)
        asked = [(path, asked) for path, asked in server.requests if asked]
        assert asked == [('/goose_2d_val.zip', 'bytes=300-')]
        assert ('/goose_2d_train.zip', None) not in server.requests
        assert verify(config.root, read_content=True) == []

    def test_a_lost_file_is_extracted_again(self, config, server):
        run(config)
        lost = next((config.root / 'images').rglob('*.png'))
        content = lost.read_bytes()
        lost.unlink()
        server.requests.clear()
        run(config)
        assert lost.read_bytes() == content
        assert server.requests == []  # the archive was kept

    def test_excluded_files_stay_in_the_archive(self, config):
        manifest = run(replace(config, exclude=('images/*_windshield_nir.png',)))
        assert 'windshield_nir' not in manifest['images']['train']
        assert not list(config.root.rglob('*_nir.png'))
        assert [a['num_excluded'] for a in manifest['archives']] == [0, 0, 1, 1]
        assert 'windshield_nir' in run(config)['images']['train']  # asked for after all

    def test_tar_archives_too(self, config, server, goose):
        buffer = io.BytesIO()
        with tarfile.open(fileobj=buffer, mode='w:gz') as archive:
            for name, content in goose.tiny_goose()['goose_2d_val.zip'].items():
                info = tarfile.TarInfo(f'./goose_2d_val/{name}')
                info.size = len(content)
                archive.addfile(info, io.BytesIO(content))
        url = server.add('val.tar.gz', buffer.getvalue())
        config = replace(config, archives=(ArchiveConfig(name='val.tar.gz', url=url),))
        run(config)
        stats = {path: path.stat().st_mtime_ns for path in config.root.rglob('*')}
        run(config)
        assert {path: path.stat().st_mtime_ns for path in config.root.rglob('*')} == stats
        assert verify(config.root, read_content=True) == []

    def test_a_known_hash_is_checked_and_said(self, config, server):
        sha256 = hashlib.sha256(server.pages['/goose_2d_train.zip'].content).hexdigest()
        config = replace_archive(config.only(['goose_2d_train.zip']), 0, sha256=sha256)
        assert run(config)['archives'][0]['sha256_checked']
        with pytest.raises(DownloadError, match='delete it to download it again'):
            run(replace_archive(config, 0, sha256='0' * 64))

    def test_missing_hashes_are_said_once(self, config, caplog):
        run(config)
        said = [r.getMessage() for r in caplog.records if 'no SHA-256 is known' in r.getMessage()]
        assert len(said) == 1
        assert all(archive.name in said[0] for archive in config.archives)

    def test_a_wrong_url_is_found_before_anything_is_written(self, config, server):
        config = replace_archive(config, 3, url=f'{server.address}/typo.zip')
        with pytest.raises(DownloadError, match=r'typo\.zip: the server answers 404'):
            run(config)
        assert not (config.root / 'archives').exists()

    def test_what_is_no_archive_is_said(self, config, server):
        config = replace_archive(config, 0, url=server.add('page.html', b'<html>'))
        with pytest.raises(ArchiveError, match='not a whole zip or tar archive'):
            run(config)

    def test_a_second_process_is_kept_out(self, config):
        with (
            goose_download._locked(config.root),
            pytest.raises(DownloadError, match='another run is preparing it'),
        ):
            run(config)

    def test_ctrl_c_while_extracting(self, config, monkeypatch):
        with monkeypatch.context() as patch:
            patch.setattr(goose_download, 'extract', lambda *_: _raise(KeyboardInterrupt()))
            with pytest.raises(KeyboardInterrupt):
                run(config)
        assert not read_stamp(config.root, 'goose_2d_train.zip').complete
        run(config)
        assert verify(config.root) == []


def _raise(error):
    raise error


class TestCollisions:
    def test_between_archives(self, config, server, goose):
        run(config.only(['goose_2d_train.zip']))
        files = goose.frame('train', '2022-08-30_feldwege', goose.GOOSE_TRAIN, 'windshield_vis')
        name = min(files)
        server.add('goose_2d_val.zip', goose.zipped({name: b'other'}))
        with pytest.raises(ArchiveError, match=r'goose_2d_val\.zip is the same file as .* of goo'):
            run(config)
        assert (config.root / name).read_bytes() == files[name]

    def test_by_case_only(self, config, server, goose):
        run(config.only(['goose_2d_train.zip']))
        name = f'images/train/2022-08-30_FELDWEGE/{goose.GOOSE_TRAIN}_windshield_vis.PNG'
        server.add('goose_2d_val.zip', goose.zipped({name: b''}))
        with pytest.raises(ArchiveError, match='is the same file as'):
            run(config)
        assert not (config.root / name).exists()

    def test_with_the_users_own_file(self, config, goose):
        mine = config.root / 'images/train/alice_scenario01' / f'{goose.EX_TRAIN}_camera_left.png'
        mine.parent.mkdir(parents=True)
        mine.write_bytes(b'mine')
        for _ in range(2):  # an attempt must not make it ours
            with pytest.raises(ArchiveError, match='is there already'):
                run(config)
        assert mine.read_bytes() == b'mine'

    def test_label_tables_that_differ_are_named(self, config, server, goose, caplog):
        files = goose.tiny_goose()['goose_2d_val.zip'] | {'goose_label_mapping.csv': b'other'}
        server.add('goose_2d_val.zip', goose.zipped(files))
        run(config)
        assert 'about/goose_2d_val/goose_label_mapping.csv differs from' in caplog.text
        assert (config.root / 'goose_label_mapping.csv').read_bytes() == goose.TABLE


class TestDiskSpace:
    @pytest.fixture
    def free(self, monkeypatch):
        def give(num_bytes):
            monkeypatch.setattr(shutil, 'disk_usage', lambda _: Usage(10**12, 0, num_bytes))

        return give

    def test_is_checked_before_anything_is_written(self, config, server, free):
        free(1000)
        with pytest.raises(DiskSpaceError, match=r'are needed .*--delete-archives'):
            run(config)
        assert not (config.root / 'archives').exists()

    def test_counts_all_pending_archives(self, config, server, free):
        total = sum(len(page.content) for page in server.pages.values())
        free(int(2.1 * total) + 10)  # archives, and 1.1 times as much extracted
        run(config)

    def test_deleting_archives_needs_less(self, config, server, free):
        total = sum(len(page.content) for page in server.pages.values())
        largest = max(len(page.content) for page in server.pages.values())
        free(int(1.1 * total) + largest)
        with pytest.raises(DiskSpaceError):
            run(config)
        run(replace(config, keep_archives=False))

    def test_unknown_sizes_are_assumed(self, config, server, free, caplog):
        server.pages['/goose_2d_val.zip'].no_length = True
        free(191 * 10**9)
        with pytest.raises(DiskSpaceError, match=r'192\.0 GB are needed'):
            run(config)
        assert 'does not tell every size: 192 GB assumed' in caplog.text

    def test_an_archive_that_claims_too_much(self, config):
        with pytest.raises(ArchiveError, match='raise max_extracted_gb'):
            run(replace(config, max_extracted_gb=1e-9))
        assert not (config.root / 'images').exists()


class TestVerify:
    def test_names_every_problem(self, config):
        run(config)
        assert verify(config.root, read_content=True) == []
        lost, short, changed = sorted((config.root / 'images').rglob('*.png'))[:3]
        lost.unlink()
        short.write_bytes(b'x')
        changed.write_bytes(bytes(changed.stat().st_size))
        (config.root / 'labels/train/extra.png').write_bytes(b'')

        def name(path):
            return path.relative_to(config.root).as_posix()

        problems = verify(config.root)
        assert sorted(problems)[0].startswith(f'{name(lost)}: is missing')
        assert any(p.startswith(f'{name(short)}: has 1 bytes, expected') for p in problems)
        assert 'labels/train/extra.png: is of no archive' in problems
        assert len(problems) == 3
        assert any(
            p.startswith(f'{name(changed)}: has other content') for p in verify(config.root, True)
        )

    def test_a_lost_stamp(self, config):
        run(config)
        (config.root / 'manifest/goose_2d_val.json').unlink()
        problems = verify(config.root)
        assert problems[0].startswith('manifest.json')
        assert sum('is of no archive' in problem for problem in problems) == 5

    def test_needs_a_manifest(self, tmp_path):
        with pytest.raises(ArchiveError, match='prepare the folder first'):
            verify(tmp_path)
