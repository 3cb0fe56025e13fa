import hashlib

import numpy as np
import pytest

from offroad_seg_core.datasets.acquisition.download import download
from offroad_seg_core.datasets.acquisition.records import Wanted, find_received
from offroad_seg_core.datasets.acquisition.remote import DownloadError, RetryConfig

CONTENT = np.random.default_rng(0).bytes(100_000)
SHA256 = hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture
def fetch(tmp_path):
    """Return a function that downloads a URL to data.zip."""

    def run(url, **expected):
        return download(Wanted(url, tmp_path / 'data.zip', **expected), RetryConfig(), False)

    return run


class TestFileThatIsThere:
    def test_is_taken_if_its_size_is_the_servers(self, server, fetch, tmp_path):
        (tmp_path / 'data.zip').write_bytes(CONTENT)
        assert fetch(server.add('data.zip', CONTENT)).sha256 == SHA256
        assert (tmp_path / 'data.zip').read_bytes() == CONTENT

    def test_needs_no_server_if_its_hash_is_known(self, fetch, tmp_path):
        (tmp_path / 'data.zip').write_bytes(CONTENT)
        assert fetch('http://127.0.0.1:9/data.zip', sha256=SHA256).size == 100_000

    def test_is_not_overwritten_if_it_is_another(self, server, fetch, tmp_path):
        (tmp_path / 'data.zip').write_bytes(b'mine')
        with pytest.raises(DownloadError, match=r'has 4 bytes .*expected 100000 .*delete it'):
            fetch(server.add('data.zip', CONTENT))
        assert (tmp_path / 'data.zip').read_bytes() == b'mine'

    def test_is_looked_at_again_when_it_was_changed(self, server, fetch, tmp_path):
        url = server.add('data.zip', CONTENT)
        fetch(url)
        (tmp_path / 'data.zip').write_bytes(CONTENT[:-1])
        assert find_received(Wanted(url, tmp_path / 'data.zip')) is None
        with pytest.raises(DownloadError, match='has 99999 bytes'):
            fetch(url)
