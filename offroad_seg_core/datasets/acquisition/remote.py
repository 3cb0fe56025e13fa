"""Ask a web server for files: which errors pass, which stay, and where a request may lead."""

from __future__ import annotations

from dataclasses import dataclass as plain_dataclass
import logging
import random
import re
import time
from typing import Any
from urllib.parse import urljoin, urlsplit

from pydantic.dataclasses import dataclass
import requests

from offroad_seg_core.config import STRICT

log = logging.getLogger(__name__)

_PASSING_STATUS = {408, 425, 429, 500, 502, 503, 504}
_LONGEST_RETRY_AFTER_S = 300.0
_CONTENT_RANGE = re.compile(r'bytes (\d+)-(\d+)/(\d+|\*)')


class DownloadError(ValueError):
    """A download that trying again does not mend."""


class PassingError(Exception):
    """Trouble that may be over a moment later: a dropped connection, a busy server.

    Attributes:
        retry_after_s: How long the server asks to wait; 0 where it says nothing.
    """

    def __init__(self, message: str, retry_after_s: float = 0.0) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


@dataclass(frozen=True, config=STRICT)
class RetryConfig:
    """How patient a download is.

    Attributes:
        attempts: Attempts in a row that may bring nothing before the download is given up; a
            long download with many short interruptions goes on.
        first_wait_s: Pause after the first failure; it doubles with every further one.
        max_wait_s: The longest such pause.
        timeout_s: Silence of the server that counts as a dropped connection.
    """

    attempts: int = 8
    first_wait_s: float = 1.0
    max_wait_s: float = 60.0
    timeout_s: float = 30.0

    def __post_init__(self) -> None:
        if self.attempts < 1 or self.first_wait_s < 0 or self.timeout_s <= 0:
            raise ValueError(
                f'attempts {self.attempts}, first_wait_s {self.first_wait_s}, timeout_s '
                f'{self.timeout_s}: expected at least one attempt, no negative wait, a timeout'
            )


class Retries:
    """Waits after failures, ever longer, and gives up in the end."""

    def __init__(self, config: RetryConfig) -> None:
        self._config = config
        self._failures = 0

    def progressed(self) -> None:
        """Forget the failures so far."""
        self._failures = 0

    def wait(self, error: PassingError, what: str) -> None:
        """Sleep before the next attempt.

        Raises:
            DownloadError: Too many attempts in a row have failed.
        """
        self._failures += 1
        if self._failures >= self._config.attempts:
            raise DownloadError(
                f'{what}: given up after {self._failures} attempts without progress: {error}; '
                'what has arrived is kept: run the same command again later to go on'
            ) from error
        wait_s = min(
            self._config.first_wait_s * 2 ** (self._failures - 1), self._config.max_wait_s
        )
        # Jitter, so that many clients of a server that went down do not return in step.
        wait_s *= random.uniform(0.5, 1.0)
        wait_s = max(wait_s, min(error.retry_after_s, _LONGEST_RETRY_AFTER_S))
        log.info('%s: %s; trying again in %.1f s', what, error, wait_s)
        time.sleep(wait_s)


@plain_dataclass(frozen=True)
class RemoteFile:
    """What a server says of a file.

    Attributes:
        url: As asked for, before redirects.
        size: In bytes; None where the server does not say.
        etag: The entity tag, with its quotes.
        last_modified: As the server writes it.
    """

    url: str
    size: int | None
    etag: str | None
    last_modified: str | None

    @classmethod
    def of(cls, url: str, response: requests.Response) -> RemoteFile:
        """Read the headers of a whole (200) or partial (206) response."""
        content_range = parse_content_range(response)
        length = response.headers.get('Content-Length', '')
        size = int(length) if length.isdecimal() else None
        if response.status_code == 206:
            size = content_range[2] if content_range else None
        headers = response.headers
        return cls(url, size, headers.get('ETag'), headers.get('Last-Modified'))

    @property
    def validator(self) -> str | None:
        """Return what If-Range may hold (RFC 9110, 13.1.5): a strong tag, else the date."""
        if self.etag and not self.etag.startswith('W/'):
            return self.etag
        return self.last_modified


def parse_content_range(response: requests.Response) -> tuple[int, int, int | None] | None:
    """Return (first byte, last byte, size of the file or None) of a partial response."""
    match = _CONTENT_RANGE.fullmatch(response.headers.get('Content-Range', ''))
    if match is None:
        return None
    first, last, total = match.groups()
    return int(first), int(last), None if total == '*' else int(total)


class Session(requests.Session):
    """A session that follows redirects to http(s) only, and never from https back to http."""

    def __init__(self) -> None:
        super().__init__()
        self.max_redirects = 10
        # A compressed body would have other bytes than the ranges and sizes speak of.
        self.headers.update({'Accept-Encoding': 'identity', 'User-Agent': 'offroad-seg'})

    def get_redirect_target(self, resp: requests.Response) -> str | None:
        """Return where a response leads; called before anything is sent there."""
        target: str | None = super().get_redirect_target(resp)
        if target is not None:
            check_redirect(str(resp.url), urljoin(str(resp.url), target))
        return target


def check_url(url: str) -> None:
    """Raise DownloadError unless this is an http(s) URL with a host."""
    parts = urlsplit(url)
    if parts.scheme not in ('http', 'https') or not parts.hostname:
        raise DownloadError(f'{url!r}: expected an http:// or https:// URL')


def check_redirect(source: str, target: str) -> None:
    """Raise DownloadError where a redirect leaves http(s), or loses the encryption."""
    scheme = urlsplit(target).scheme
    if scheme not in ('http', 'https'):
        raise DownloadError(
            f'{source} redirects to {target}: only http and https are followed; check the URL'
        )
    if urlsplit(source).scheme == 'https' and scheme == 'http':
        raise DownloadError(
            f'{source} redirects to {target}, without encryption; if you trust that, '
            'give that URL in the configuration'
        )


def send(
    session: requests.Session, url: str, retry: RetryConfig, method: str = 'GET', **headers: Any
) -> requests.Response:
    """Send one request; the body of the response is still to be read.

    Returns:
        A response with status 200, 206 or 416.

    Raises:
        PassingError: The connection failed, or the server is busy.
        DownloadError: The server refuses, or the URL is wrong.
    """
    check_url(url)
    try:
        response = session.request(
            method, url, headers=headers, stream=True, timeout=retry.timeout_s
        )
    except requests.exceptions.SSLError as error:
        raise DownloadError(f'{url}: the certificate is not accepted: {error}') from error
    except (requests.ConnectionError, requests.Timeout) as error:
        raise PassingError(f'no connection ({type(error).__name__})') from error
    except requests.RequestException as error:
        raise DownloadError(f'{url}: {error}') from error
    if response.status_code in (200, 206, 416):
        return response
    response.close()
    status = f'the server answers {response.status_code} {response.reason}'
    if response.status_code in _PASSING_STATUS:
        seconds = response.headers.get('Retry-After', '')
        raise PassingError(status, float(seconds) if seconds.isdecimal() else 0.0)
    raise DownloadError(f'{url}: {status}; check the URL in the configuration')


def look_up(session: requests.Session, url: str, retry: RetryConfig) -> RemoteFile:
    """Ask for a file's size and tags without its content.

    Raises:
        DownloadError: The server refuses, or cannot be reached after all attempts.
    """
    retries = Retries(retry)
    while True:
        try:
            # A GET whose body is not read: some servers refuse HEAD, or answer it without a size.
            with send(session, url, retry) as response:
                return RemoteFile.of(url, response)
        except PassingError as error:
            retries.wait(error, url)
