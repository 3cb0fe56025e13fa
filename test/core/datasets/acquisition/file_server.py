"""A real HTTP server on localhost that misbehaves as it is told."""

from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
import threading
import time


@dataclass
class Page:
    """One file of the server, and what is wrong with it.

    Attributes:
        content: What a good server sends.
        etag, last_modified: Sent where they are not None.
        ranges: 'good', 'ignored' (always 200), 'shifted' (starts a byte early), 'multipart'
            (206 without Content-Range), or 'beyond' (416 for every range).
        honour_if_range: False: goes on with another version's bytes.
        drop_at: Byte positions of the file at which connections are cut, one after the other.
        statuses: Sent instead, one after the other.
        location: A redirect.
        num_claimed: Sent as Content-Length instead of the truth.
        no_length: Leave Content-Length out; the end of the connection ends the file.
        encoding: Sent as Content-Encoding.
        pause_s: Before every chunk.
        after: Called with the number of the request before it is answered.
    """

    content: bytes
    etag: str | None = '"one"'
    last_modified: str | None = None
    ranges: str = 'good'
    honour_if_range: bool = True
    drop_at: list[int] = field(default_factory=list)
    statuses: list[int] = field(default_factory=list)
    location: str | None = None
    num_claimed: int | None = None
    no_length: bool = False
    encoding: str | None = None
    pause_s: float = 0.0
    after: object = None


class Server:
    def __init__(self, http):
        self.pages = {}
        self.requests = []  # (path, Range header or None)
        self.address = f'http://127.0.0.1:{http.server_port}'

    def add(self, name, content, **faults):
        self.pages[f'/{name}'] = Page(content, **faults)
        return f'{self.address}/{name}'

    def ranges(self):
        return [asked for _, asked in self.requests]


class Handler(BaseHTTPRequestHandler):
    def log_message(self, *_):
        pass

    def do_GET(self):
        server = self.server.facade
        server.requests.append((self.path, self.headers.get('Range')))
        page = server.pages.get(self.path)
        if page is None:
            return self.send_error(404)
        if page.after:
            page.after(len(server.requests))
        if page.statuses:
            self.send_response(page.statuses.pop(0))
            self.send_header('Retry-After', '0')
            return self.end_headers()
        if page.location:
            self.send_response(302)
            self.send_header('Location', page.location)
            return self.end_headers()
        return self._send_file(page)

    def _send_file(self, page):
        first = self._start(page)
        if first is None:
            return
        body = page.content[first:]
        length = len(body) if page.num_claimed is None else page.num_claimed - first
        if not page.no_length:
            self.send_header('Content-Length', str(length))
        for name, value in (
            ('ETag', page.etag),
            ('Last-Modified', page.last_modified),
            ('Content-Encoding', page.encoding),
        ):
            if value:
                self.send_header(name, value)
        self.end_headers()
        if page.drop_at and page.drop_at[0] >= first:
            body = body[: page.drop_at.pop(0) - first]
        for start in range(0, len(body), 16384):
            time.sleep(page.pause_s)
            self.wfile.write(body[start : start + 16384])
        self.close_connection = True

    def _start(self, page):
        """Send the status line; return the first byte to send, or None where that was all."""
        asked, if_range = self.headers.get('Range'), self.headers.get('If-Range')
        same = if_range in (None, page.etag, page.last_modified) or not page.honour_if_range
        if asked is None or page.ranges == 'ignored' or not same:
            self.send_response(200)
            return 0
        first = int(asked.removeprefix('bytes=').removesuffix('-'))
        total = len(page.content)
        if first >= total or page.ranges == 'beyond':
            self.send_response(416)
            self.send_header('Content-Range', f'bytes */{total}')
            self.end_headers()
            return None
        first -= page.ranges == 'shifted'
        self.send_response(206)
        if page.ranges != 'multipart':
            self.send_header('Content-Range', f'bytes {first}-{total - 1}/{total}')
        return first


@contextmanager
def serve():
    http = ThreadingHTTPServer(('127.0.0.1', 0), Handler)
    http.daemon_threads = True
    http.handle_error = lambda *_: None  # clients that hang up are wanted here
    http.facade = Server(http)
    thread = threading.Thread(target=http.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield http.facade
    finally:
        http.shutdown()
        http.server_close()
