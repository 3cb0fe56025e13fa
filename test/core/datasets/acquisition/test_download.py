from dataclasses import replace
import errno
import hashlib
import io

import numpy as np
import pytest
import urllib3

from offroad_seg_core.datasets.acquisition import download as download_module
from offroad_seg_core.datasets.acquisition.download import download
from offroad_seg_core.datasets.acquisition.records import Wanted, bytes_here
from offroad_seg_core.datasets.acquisition.remote import DownloadError, RetryConfig

CONTENT = np.random.default_rng(0).bytes(100_000)
SHA256 = hashlib.sha256(CONTENT).hexdigest()
RETRY = RetryConfig(attempts=4, first_wait_s=0.0, timeout_s=2.0)


@pytest.fixture
def fetch(tmp_path):
    """Return a function that downloads a URL to data.zip, without progress bars."""

    def run(url, retry=RETRY, **expected):
        return download(Wanted(url, tmp_path / 'data.zip', **expected), retry, False)

    return run


def files_in(folder):
    return sorted(path.name for path in folder.iterdir())


def assert_whole(tmp_path):
    assert (tmp_path / 'data.zip').read_bytes() == CONTENT
    assert files_in(tmp_path) == ['data.zip', 'data.zip.json']


def leave_part(server, fetch, at=40_000, **faults):
    """Download up to a byte and give up, as an earlier run would have."""
    url = server.add('data.zip', CONTENT, drop_at=[at], **faults)
    with pytest.raises(DownloadError, match='given up after 1 attempts'):
        fetch(url, replace(RETRY, attempts=1))
    server.requests.clear()
    return url


class TestGood:
    def test_one_request_and_the_hash_that_was_found(self, server, fetch, tmp_path):
        received = fetch(server.add('data.zip', CONTENT))
        assert (received.size, received.sha256, received.etag) == (100_000, SHA256, '"one"')
        assert server.ranges() == [None]
        assert_whole(tmp_path)

    def test_a_second_run_asks_nothing(self, server, fetch):
        url = server.add('data.zip', CONTENT)
        first = fetch(url, sha256=SHA256)
        server.requests.clear()
        assert fetch(url, sha256=SHA256) == first
        assert server.requests == []

    def test_follows_redirects(self, server, fetch, tmp_path):
        server.add('mirror.zip', CONTENT)
        fetch(server.add('data.zip', b'', location='/mirror.zip'))
        assert_whole(tmp_path)

    def test_a_server_that_tells_no_size(self, server, fetch, tmp_path):
        fetch(server.add('data.zip', CONTENT, no_length=True))
        assert_whole(tmp_path)

    def test_empty_file(self, server, fetch, tmp_path):
        assert fetch(server.add('data.zip', b'')).size == 0
        assert files_in(tmp_path) == ['data.zip', 'data.zip.json']

    def test_slow_but_steady(self, server, fetch, tmp_path):
        fetch(server.add('data.zip', CONTENT, pause_s=0.02), replace(RETRY, timeout_s=0.5))
        assert_whole(tmp_path)


class TestResume:
    def test_goes_on_after_dropped_connections(self, server, fetch, tmp_path):
        fetch(server.add('data.zip', CONTENT, drop_at=[30_000, 60_000]), sha256=SHA256)
        assert server.ranges() == [None, 'bytes=30000-', 'bytes=60000-']
        assert_whole(tmp_path)

    def test_goes_on_in_another_run(self, server, fetch, tmp_path):
        url = leave_part(server, fetch)
        assert files_in(tmp_path) == ['data.zip.part', 'data.zip.part.json']
        assert bytes_here(Wanted(url, tmp_path / 'data.zip')) == 40_000
        fetch(url)
        assert server.ranges() == ['bytes=40000-']
        assert_whole(tmp_path)

    def test_goes_on_by_date_where_there_is_no_strong_tag(self, server, fetch, tmp_path):
        date = 'Wed, 19 Mar 2025 10:00:00 GMT'
        url = leave_part(server, fetch, etag='W/"weak"', last_modified=date)
        fetch(url)
        assert server.ranges() == ['bytes=40000-']
        assert_whole(tmp_path)

    def test_without_any_tag_only_a_known_hash_allows_it(self, server, fetch, tmp_path):
        url = leave_part(server, fetch, etag=None)
        fetch(url)
        assert server.ranges() == [None]
        assert_whole(tmp_path)
        (tmp_path / 'data.zip').unlink()
        url = leave_part(server, fetch, etag=None)
        fetch(url, sha256=SHA256)
        assert server.ranges() == ['bytes=40000-']

    def test_a_whole_part_is_only_checked(self, server, fetch, tmp_path):
        url = leave_part(server, fetch)
        (tmp_path / 'data.zip.part').write_bytes(CONTENT)
        fetch(url)
        assert server.requests == []
        assert_whole(tmp_path)

    def test_a_part_of_another_url_is_not_used(self, server, fetch, tmp_path):
        leave_part(server, fetch)
        fetch(server.add('other.zip', CONTENT))
        assert server.ranges() == [None]
        assert_whole(tmp_path)

    @pytest.mark.parametrize('state', [None, '{"url":', '[]', '{"tag": 1}'])
    def test_a_part_without_a_readable_state_is_not_used(self, server, fetch, tmp_path, state):
        url = leave_part(server, fetch)
        path = tmp_path / 'data.zip.part.json'
        path.unlink() if state is None else path.write_text(state)
        fetch(url)
        assert server.ranges() == [None]
        assert_whole(tmp_path)

    def test_starts_over_when_the_server_ignores_ranges(self, server, fetch, tmp_path, caplog):
        url = leave_part(server, fetch, ranges='ignored')
        fetch(url)
        assert server.ranges() == ['bytes=40000-']
        assert 'cannot go on where it ended; starting over' in caplog.text
        assert_whole(tmp_path)

    def test_starts_over_when_the_file_has_changed(self, server, fetch, tmp_path, caplog):
        url = leave_part(server, fetch)
        new = CONTENT[::-1]
        server.add('data.zip', new, etag='"two"')
        assert fetch(url).etag == '"two"'
        assert 'the file has changed; starting over' in caplog.text
        assert (tmp_path / 'data.zip').read_bytes() == new

    def test_a_server_without_if_range_is_seen_by_its_new_tag(self, server, fetch, tmp_path):
        url = leave_part(server, fetch)
        server.add('data.zip', CONTENT[::-1], etag='"two"', honour_if_range=False)
        fetch(url)
        assert server.ranges() == ['bytes=40000-', None]
        assert (tmp_path / 'data.zip').read_bytes() == CONTENT[::-1]

    @pytest.mark.parametrize('ranges', ['shifted', 'multipart', 'beyond'])
    def test_wrong_ranges_are_not_joined(self, server, fetch, tmp_path, ranges):
        url = leave_part(server, fetch, ranges=ranges)
        fetch(url)
        assert server.ranges() == ['bytes=40000-', None]
        assert_whole(tmp_path)

    def test_a_damaged_part_shows_in_the_hash_and_is_loaded_again(self, server, fetch, tmp_path):
        url = leave_part(server, fetch)
        (tmp_path / 'data.zip.part').write_bytes(bytes(40_000))
        fetch(url, sha256=SHA256)
        assert server.ranges() == ['bytes=40000-', None]
        assert_whole(tmp_path)

    def test_a_part_longer_than_the_file_is_loaded_again(self, server, fetch, tmp_path):
        url = leave_part(server, fetch)
        (tmp_path / 'data.zip.part').write_bytes(bytes(100_001))
        fetch(url)
        assert server.ranges() == ['bytes=100001-', None]
        assert_whole(tmp_path)

    def test_ctrl_c_keeps_what_has_arrived(self, server, fetch, tmp_path, monkeypatch):
        url = server.add('data.zip', CONTENT)
        read, sizes = urllib3.HTTPResponse.read1, [25_000]

        def interrupted(response, _):
            if not sizes:
                raise KeyboardInterrupt
            return read(response, sizes.pop())

        with monkeypatch.context() as patch:
            patch.setattr(urllib3.HTTPResponse, 'read1', interrupted)
            with pytest.raises(KeyboardInterrupt):
                fetch(url)
        have = bytes_here(Wanted(url, tmp_path / 'data.zip'))
        assert 0 < have <= 25_000
        fetch(url)
        assert server.ranges() == [None, f'bytes={have}-']
        assert_whole(tmp_path)


class TestTrouble:
    def test_busy_then_fine(self, server, fetch, tmp_path):
        fetch(server.add('data.zip', CONTENT, statuses=[503, 500, 429]))
        assert len(server.requests) == 4
        assert_whole(tmp_path)

    def test_gives_up_after_so_many_attempts_without_progress(self, server, fetch, tmp_path):
        url = server.add('data.zip', CONTENT, statuses=[503] * 9)
        with pytest.raises(DownloadError, match=r'given up after 4 attempts .*503 Service Unav'):
            fetch(url)
        assert len(server.requests) == 4
        assert files_in(tmp_path) == []

    def test_progress_renews_the_patience(self, server, fetch, tmp_path, monkeypatch):
        monkeypatch.setattr(download_module, 'PROGRESS_BYTES', 5_000)
        fetch(server.add('data.zip', CONTENT, drop_at=list(range(10_000, 100_000, 10_000))))
        assert len(server.requests) == 10  # more than the 4 attempts without progress
        assert_whole(tmp_path)

    def test_starting_over_for_ever_is_no_progress(self, server, fetch, monkeypatch):
        monkeypatch.setattr(download_module, 'PROGRESS_BYTES', 5_000)
        url = server.add('data.zip', CONTENT, ranges='ignored', drop_at=[50_000] * 50)
        with pytest.raises(DownloadError, match='given up'):
            fetch(url)
        assert len(server.requests) == 4

    def test_a_silent_server_times_out(self, server, fetch, tmp_path):
        url = server.add('data.zip', CONTENT, pause_s=0.5)
        with pytest.raises(DownloadError, match='given up after 2 attempts'):
            fetch(url, replace(RETRY, attempts=2, timeout_s=0.1))
        assert 'data.zip' not in files_in(tmp_path)

    def test_nobody_there(self, fetch):
        with pytest.raises(DownloadError, match=r'no connection \(ConnectionError\)'):
            fetch('http://127.0.0.1:9/data.zip', replace(RETRY, attempts=2))

    def test_a_truncated_file_is_never_finished(self, server, fetch, tmp_path):
        url = server.add('data.zip', CONTENT[:70_000], num_claimed=100_000, ranges='ignored')
        with pytest.raises(DownloadError, match='given up'):
            fetch(url)
        assert files_in(tmp_path) == ['data.zip.part', 'data.zip.part.json']

    def test_a_truncated_file_of_unknown_length_fails_by_its_known_size(self, server, fetch):
        url = server.add('data.zip', CONTENT[:70_000], no_length=True)
        with pytest.raises(DownloadError, match='has 70000 bytes, expected 100000'):
            fetch(url, size=100_000)

    @pytest.mark.parametrize('status', [401, 403, 404, 410])
    def test_a_refusal_is_final(self, server, fetch, status):
        url = server.add('data.zip', CONTENT, statuses=[status])
        with pytest.raises(DownloadError, match=f'answers {status} .*check the URL'):
            fetch(url)
        assert len(server.requests) == 1

    def test_wrong_size_is_said_before_anything_is_loaded(self, server, fetch, tmp_path):
        with pytest.raises(DownloadError, match=r'has 100000 bytes, expected 5.*size_bytes'):
            fetch(server.add('data.zip', CONTENT), size=5)
        assert files_in(tmp_path) == []

    def test_wrong_hash_leaves_nothing(self, server, fetch, tmp_path):
        with pytest.raises(DownloadError, match=f'SHA-256 {SHA256}, expected {"0" * 64}; .*mirr'):
            fetch(server.add('data.zip', CONTENT), sha256='0' * 64)
        assert len(server.requests) == 1
        assert files_in(tmp_path) == []

    def test_compressed_bodies_are_refused(self, server, fetch):
        with pytest.raises(DownloadError, match='compresses what it was asked not to'):
            fetch(server.add('data.zip', CONTENT, encoding='gzip'))

    def test_a_full_disk_keeps_a_part_to_go_on_from(self, server, fetch, tmp_path, monkeypatch):
        url = server.add('data.zip', CONTENT)

        class FullDisk(io.FileIO):
            def write(self, data):
                room = 30_000 - self.tell()
                if room <= 0:
                    raise OSError(errno.ENOSPC, 'No space left on device')
                return super().write(data[:room])

        with monkeypatch.context() as patch:
            patch.setattr(
                download_module, 'open_part', lambda path: io.BufferedWriter(FullDisk(path, 'a'))
            )
            with pytest.raises(DownloadError, match=r'No space left.*kept in the \.part file'):
                fetch(url)
        assert (tmp_path / 'data.zip.part').read_bytes() == CONTENT[:30_000]
        fetch(url)
        assert server.ranges() == [None, 'bytes=30000-']
        assert_whole(tmp_path)
