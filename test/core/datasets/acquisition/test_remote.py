import pytest
import requests

from offroad_seg_core.datasets.acquisition import remote
from offroad_seg_core.datasets.acquisition.download import download
from offroad_seg_core.datasets.acquisition.records import Wanted
from offroad_seg_core.datasets.acquisition.remote import (
    DownloadError,
    RetryConfig,
    Session,
    look_up,
)

RETRY = RetryConfig(attempts=2, first_wait_s=0.0)


@pytest.fixture
def fetch(tmp_path):
    return lambda url: download(Wanted(url, tmp_path / 'data.zip'), RETRY, False)


class TestAddresses:
    @pytest.mark.parametrize(
        'url', ['file:///etc/passwd', 'ftp://host/a.zip', 'data.zip', 'http:///a.zip', '']
    )
    def test_only_http(self, fetch, url):
        with pytest.raises(DownloadError, match='expected an http:// or https:// URL'):
            fetch(url)

    @pytest.mark.parametrize('target', ['file:///etc/passwd', 'ftp://host/a.zip'])
    def test_redirects_elsewhere_are_refused(self, server, fetch, target):
        with pytest.raises(DownloadError, match='only http and https are followed'):
            fetch(server.add('data.zip', b'', location=target))

    def test_redirects_that_lose_the_encryption_are_refused(self):
        response = requests.Response()
        response.status_code, response.url = 302, 'https://host/a.zip'
        response.headers['location'] = 'http://host/a.zip'
        with pytest.raises(DownloadError, match='without encryption'):
            Session().get_redirect_target(response)

    def test_a_circle_of_redirects_ends(self, server, fetch):
        with pytest.raises(DownloadError, match='redirects'):
            fetch(server.add('data.zip', b'', location='/data.zip'))


class TestRetryConfig:
    @pytest.mark.parametrize('wrong', [{'attempts': 0}, {'first_wait_s': -1}, {'timeout_s': 0}])
    def test_refuses_nonsense(self, wrong):
        with pytest.raises(ValueError, match='expected at least one attempt'):
            RetryConfig(**wrong)

    def test_waits_longer_each_time_and_as_the_server_asks(self, monkeypatch):
        waits = []
        monkeypatch.setattr(remote.time, 'sleep', waits.append)
        monkeypatch.setattr(remote.random, 'uniform', lambda low, high: high)
        retries = remote.Retries(RetryConfig(attempts=6, first_wait_s=1.0, max_wait_s=3.0))
        for seconds in (0.0, 0.0, 0.0, 20.0, 1e9):
            retries.wait(remote.PassingError('busy', seconds), 'data.zip')
        assert waits == [1.0, 2.0, 3.0, 20.0, 300.0]


class TestLookUp:
    def test_size_and_tags_after_a_busy_moment(self, server):
        url = server.add('a.zip', b'12345', last_modified='Wed', statuses=[503])
        with Session() as session:
            found = look_up(session, url, RETRY)
        assert found == remote.RemoteFile(url, 5, '"one"', 'Wed')
        assert found.validator == '"one"'

    def test_weak_tags_are_no_validators(self):
        assert remote.RemoteFile('u', 5, 'W/"one"', None).validator is None
        assert remote.RemoteFile('u', 5, 'W/"one"', 'Wed').validator == 'Wed'
