"""Drives behind signed URLs: the signature is told nowhere, and is no part of the drive."""

from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
import json
import threading
from traceback import format_exception
from urllib.parse import parse_qs, quote, urlsplit

from hypothesis import given
from hypothesis import strategies as st
import pytest

pytest.importorskip('aiohttp', reason='fsspec reads https with it')
pytest.importorskip('mcap')

from offroad_seg_core.evaluation.evaluate import Evaluation, evaluate
from offroad_seg_core.evaluation.inputs import open_frames
from offroad_seg_core.evaluation.outputs.foxglove import FoxgloveFile, foxglove_layout
from offroad_seg_core.evaluation.sources.frame import SourceError
from offroad_seg_core.evaluation.sources.urls import shown, without_secrets
from offroad_seg_core.fleet.storage import ChunkStore, StorageError, filesystem

TINY = (32, 48)
OLD, NEW = 'c2VjcmV0%2Fold', 'c2VjcmV0%2Fnew'
SECRET = 'c2VjcmV0'
pytestmark = pytest.mark.usefixtures('worker_threads')


class Handler(SimpleHTTPRequestHandler):
    """Gives files whatever else is asked, unless the signature is one that has expired."""

    def log_message(self, *_):
        pass

    def send_head(self):
        signatures = parse_qs(urlsplit(self.path).query).get('X-Amz-Signature', [])
        if self.server.expired.isdisjoint(signatures):
            return super().send_head()
        self.send_error(403)


@pytest.fixture
def server(tmp_path):
    """A server of the files below tmp_path; signatures in its set ``expired`` are refused."""
    server = ThreadingHTTPServer(('127.0.0.1', 0), partial(Handler, directory=tmp_path))
    server.expired = set()
    server.handle_error = lambda *_: None  # fsspec asks for files of which it only wants the head
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def address(server):
    """Return a function that gives the URL of a file of the server."""

    def url(name, query=f'X-Amz-Signature={OLD}'):
        return f'http://127.0.0.1:{server.server_port}/{name}?{query}'

    return url


@pytest.fixture
def friday(drives, tmp_path):
    """A bag of two chunks, as a file that the server gives; return its name."""
    (file,) = drives.write_drive(tmp_path / 'drive', ('front',), 20, TINY).glob('*.mcap')
    return file.rename(tmp_path / 'friday.mcap').name


def text_below(folder):
    return b''.join(path.read_bytes() for path in folder.rglob('*') if path.is_file()).decode(
        'utf-8', 'replace'
    )


def test_a_signed_drive(drives, predictor, address, tmp_path):
    drive = drives.write_drive(tmp_path / 'drive', num_frames=2)
    (file,) = drive.glob('*.mcap')
    file.rename(tmp_path / 'monday.mcap')
    source = open_frames(address('monday.mcap'))
    show = FoxgloveFile(tmp_path / 'show.mcap', predictor.cost_table)
    evaluation = Evaluation(source, predictor, tmp_path / 'result', sinks=(show,))
    told = drives.summary(evaluate(evaluation, lambda count: None))
    assert told['num_labelled'] == 4
    assert told['title'] == 'monday.mcap'
    assert SECRET not in text_below(tmp_path / 'result')
    # Nothing was known of its cameras before it was fetched.
    layout = json.loads((tmp_path / 'show.layout.json').read_text())
    assert layout == foxglove_layout(('front', 'rear'))


def test_a_signature_that_expired_is_told_nowhere(
    drives, fleets, predictor, server, address, friday, tmp_path, caplog, capfd
):
    monday = drives.write_drive(tmp_path / 'monday', ('front',), 20, TINY)
    places = {'monday': monday, 'friday': address(friday)}
    sources = {name: fleets.drive(place, drives.TAXONOMY) for name, place in places.items()}
    server.expired.add('c2VjcmV0/old')  # between the naming of the drive and its reading
    alone = fleets.in_one_go(fleets.evaluation_of(sources, predictor, tmp_path / 'alone'))
    fleet = fleets.result(fleets.evaluation_of(sources, predictor, tmp_path / 'fleet'))
    for folder in (alone, fleet):
        (left_out,) = drives.summary(folder)['source']['left_out']
        assert left_out.startswith('friday: not evaluated: ')
        assert f'{shown(places["friday"])}: got ClientResponseError: 403' in left_out
        assert SECRET not in text_below(folder)
    assert 'given up after OSError' in caplog.text
    assert SECRET not in caplog.text + ''.join(capfd.readouterr())


def test_errors_name_the_address_alone(server, address, friday, tmp_path):
    server.expired.add('c2VjcmV0/old')
    places = {
        address(friday): (OSError, 'friday.mcap: got ClientResponseError: 403'),
        address('none.mcap', f'sig={OLD}'): (SourceError, 'none.mcap: not there'),
        f'abacus://none/x.mcap?sig={OLD}': (StorageError, 'x.mcap: got Protocol not known'),
        f'https:///x.mcap?sig={OLD}': (ValueError, 'https:///x.mcap: got InvalidUrl'),
        f'https://127.0.0.1:1/x.mcap?sig={OLD}': (SourceError, 'x.mcap: not there'),
        f'http://robot:{OLD}@127.0.0.1:1/x.mcap': (SourceError, 'robot@127.0.0.1:1/x.mcap: not'),
    }
    for place, (kind, told) in places.items():
        with pytest.raises(kind) as caught:
            open_frames(place)
        assert told in str(caught.value)
        assert SECRET not in ''.join(format_exception(caught.value))
    with pytest.raises(FileNotFoundError, match='none: got FileNotFoundError: http') as caught:
        ChunkStore(address('none')).read('key')
    assert SECRET not in ''.join(format_exception(caught.value))
    assert SECRET in filesystem(address(friday))[1]  # which needs it


def test_a_drive_that_is_signed_again_goes_on(
    drives, fleets, predictor, server, address, friday, tmp_path
):
    def interrupt(*_):
        raise KeyboardInterrupt

    def evaluation(signature):
        place = address(friday, f'X-Amz-Date=1&X-Amz-Signature={signature}&versionId=7')
        sources = {'friday': fleets.drive(place, drives.TAXONOMY)}
        return fleets.evaluation_of(sources, predictor, tmp_path / 'result')

    with pytest.raises(KeyboardInterrupt):
        fleets.result(evaluation(OLD), on_chunk=interrupt)
    unfinished = tmp_path / 'result.unfinished'
    assert SECRET not in (unfinished / 'run.json').read_text()
    assert len(list((unfinished / 'chunks').iterdir())) == 1
    server.expired.add('c2VjcmV0/old')
    done = []
    folder = fleets.result(evaluation(NEW), done=done)
    assert done == []
    assert len(drives.table(folder)) == 20


@pytest.mark.parametrize(
    ('first', 'second'),
    [
        ('X-Amz-Date=1&X-Amz-Credential=a%2Fb&X-Amz-Signature=1', 'X-Amz-Signature=2'),
        ('AWSAccessKeyId=a&Signature=b&Expires=1', 'AWSAccessKeyId=a&Signature=c&Expires=2'),
        ('X-Goog-Algorithm=a&X-Goog-Signature=1', 'x-goog-signature=2'),
        ('GoogleAccessId=a&Expires=1&Signature=b', 'GoogleAccessId=a&Expires=2&Signature=c'),
        ('sv=1&sr=b&sp=r&st=1&se=2&sig=a', 'sv=1&sr=b&sp=r&st=2&se=3&spr=https&sig=b'),
        ('Policy=a&Signature=b&Key-Pair-Id=c', ''),
        ('token=a', 'token=b'),
    ],
)
def test_a_signature_is_no_part_of_a_drive(address, friday, first, second):
    def identity(*queries):
        return open_frames(address(friday, '&'.join(filter(None, queries)))).identity()

    assert identity(first) == identity(second)
    assert identity('versionId=7', first) == identity(second, 'versionId=7')
    assert identity('versionId=7', first) != identity('versionId=8', first)


def test_what_is_asked_for_is_a_part_of_a_drive(address, friday, tmp_path):
    queries = ['id=1', 'id=2', 'id=', 'versionId=1', 'snapshot=1', 'se=1', 'se=2']
    seen = [open_frames(address(friday, query)).identity() for query in queries]
    assert len({json.dumps(identity) for identity in seen}) == len(queries)
    (tmp_path / friday).write_bytes(b'another one')
    assert open_frames(address(friday, 'id=1')).identity() != seen[0]


def test_a_password_is_no_part_of_an_address():
    assert shown('https://robot:geheim@host/a.mcap?sig=1') == 'https://robot@host/a.mcap'
    # Here the name before the host is that of a container.
    assert shown('abfs://drives@account.host/a.mcap') == 'abfs://drives@account.host/a.mcap'
    url = "https://host/it's mine?geheim"
    told = f'{url}: 403, url=\'https://host/a?sig=geheim\' and ["https://r:geheim@host/b?x=1&y"]'
    known = "https://host/it's mine: 403, url='https://host/a' and [\"https://r@host/b\"]"
    assert without_secrets(told, url) == known


@given(st.text(), st.sampled_from(['robot', 'me@corp.com', '']))
def test_no_password_is_shown_whatever_it_is_made_of(password, user):
    known = f'sftp://{user}@host:22/drives/a@b.mcap'
    # These three end the part of a URL that it stands in, so there they are always quoted.
    raw = ''.join(character for character in password if character not in '/?#')
    for written in (raw, quote(password, safe='')):
        url = f'sftp://{user}:{written}@host:22/drives/a@b.mcap'
        assert shown(url) == known
        assert without_secrets(f'{url}: got 403', url) == f'{known}: got 403'


@pytest.mark.parametrize('password', ['geheim', 'p@ss', 'a:b'])
def test_no_password_is_shown_of_urls_that_a_library_was_led_to(password):
    led_to = f'sftp://me@corp.com:{password}@other/x'
    told = f"url='{led_to}', then {led_to}: 403, see https://host:80/ or mail@host"
    shown_so = 'sftp://me@corp.com@other/x'
    known = f"url='{shown_so}', then {shown_so}: 403, see https://host:80/ or mail@host"
    assert without_secrets(told, 'https://host/a') == known


@pytest.mark.parametrize(
    'url',
    [
        'https://host:8080/a@b:c@d.mcap',
        'https://[2001:db8::1]:80/a@b.mcap',
        'sftp://robot@[2001:db8::1]:22/a.mcap',
        '/drives/10:30@home.mcap',
    ],
)
def test_an_address_without_a_password_is_shown_as_it_is(url):
    assert shown(url) == url
    assert without_secrets(url, 'https://host/a') == url
