"""Object storage that does not answer: its libraries raise kinds of their own."""

import pytest

from offroad_seg_core.evaluation.inputs import open_frames

pytest.importorskip('fsspec', reason='fleets need requirements/fleet.txt')

import fsspec
from fsspec.implementations.memory import MemoryFileSystem

from offroad_seg_core.fleet.run import MAX_ATTEMPTS
from offroad_seg_core.fleet.storage import ChunkStore

TINY = (32, 48)
pytestmark = pytest.mark.usefixtures('worker_threads')


class NoCredentialsError(Exception):
    """Neither an OSError nor a ValueError, as those of botocore, google-auth and azure are."""


class Vault(MemoryFileSystem):
    """Storage that refuses what its class attribute names."""

    protocol, cachable, store, pseudo_dirs = 'vault', False, {}, ['']
    refused = ()

    @classmethod
    def _strip_protocol(cls, path):
        return super()._strip_protocol(path.replace('vault://', 'memory://'))


def _refusing(name):
    def call(self, *given, **options):
        if name in Vault.refused:
            raise NoCredentialsError('Unable to locate credentials')
        return getattr(MemoryFileSystem, name)(self, *given, **options)

    return call


for _name in ('__init__', 'find', 'get', 'makedirs', 'ls', 'cat_file', 'pipe_file'):
    setattr(Vault, _name, _refusing(_name))


@pytest.fixture
def refuse(monkeypatch):
    """Return a function that names the calls that are refused from now on."""
    fsspec.register_implementation('vault', Vault, clobber=True)
    return lambda *names: monkeypatch.setattr(Vault, 'refused', names)


@pytest.fixture
def places(drives, tmp_path):
    """One drive on disk, and the same in the vault."""
    here = drives.write_drive(tmp_path / 'here', ('front',), 20, TINY)
    for file in here.iterdir():
        Vault().pipe_file(f'/{tmp_path.name}/there/{file.name}', file.read_bytes())
    return {'here': here, 'there': f'vault://{tmp_path.name}/there'}


@pytest.mark.parametrize('call', ['__init__', 'find'])
def test_a_drive_that_cannot_be_reached_is_an_error_of_the_system(refuse, places, call):
    refuse(call)
    told = r'there: got NoCredentialsError: Unable to locate credentials; .*fix: give every node'
    with pytest.raises(OSError, match=told):
        open_frames(places['there'])


def test_a_drive_that_cannot_be_fetched_is_left_out(
    refuse, drives, fleets, predictor, places, tmp_path
):
    sources = {name: fleets.drive(place, drives.TAXONOMY) for name, place in places.items()}
    refuse('get')
    tried, told = [], 'there: not evaluated: '
    alone = fleets.in_one_go(fleets.evaluation_of(sources, predictor, tmp_path / 'alone'))
    evaluation = fleets.evaluation_of(sources, predictor, tmp_path / 'fleet')
    fleet = fleets.result(evaluation, done=tried)
    for folder in (alone, fleet):
        (left_out,) = drives.summary(folder)['source']['left_out']
        assert left_out.startswith(told)
        assert 'NoCredentialsError' in left_out
        assert len(drives.table(folder)) == 20
    # Storage that does not answer now may do so later.
    assert sum(chunk.drive == 'there' for chunk in tried) == MAX_ATTEMPTS


@pytest.mark.parametrize('call', ['makedirs', 'ls', 'cat_file', 'pipe_file'])
def test_chunks_that_cannot_be_kept_are_an_error_of_the_system(refuse, tmp_path, call):
    def use():
        store = ChunkStore(f'vault://{tmp_path.name}/chunks')
        store.write('key', b'content')
        return store.keys(), store.read('key')

    assert use() == ({'key'}, b'content')
    refuse(call)
    with pytest.raises(OSError, match='chunks: got NoCredentialsError'):
        use()
