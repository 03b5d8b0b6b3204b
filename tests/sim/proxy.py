"""A proxy before a real feed that forwards requests, and changes answers as a test sets."""

from __future__ import annotations

import http.client
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

Change = Callable[[str, int, dict[str, str], bytes], tuple[int, dict[str, str], bytes]]


class LyingFeed(ThreadingHTTPServer):
    """The proxy. `change(path, status, headers, body)` returns each answer to send; `paths`: those of GET requests."""

    daemon_threads = True

    def __init__(self, upstream: int) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.upstream = upstream
        self.change: Change = lambda path, status, headers, body: (status, headers, body)
        self.paths: list[str] = []
        self._thread = threading.Thread(target=self.serve_forever, daemon=True)
        self._thread.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def close(self) -> None:
        self.shutdown()
        self._thread.join()
        self.server_close()


class _Handler(BaseHTTPRequestHandler):
    server: LyingFeed

    def log_message(self, *_: object) -> None:
        pass

    def do_POST(self) -> None:
        self._forward(self.rfile.read(int(self.headers["Content-Length"])))

    def do_GET(self) -> None:
        self.server.paths.append(self.path)
        self._forward()

    def _forward(self, sent: bytes | None = None) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", self.server.upstream, timeout=60)
        try:
            headers = {k: v for k, v in self.headers.items() if k.lower() != "host"}
            connection.request(self.command, self.path, sent, headers)
        except ConnectionRefusedError:  # the feed is stopped
            self.send_error(502)
            return
        answer = connection.getresponse()
        kept = {k: v for k, v in answer.getheaders() if k.lower() in ("etag", "content-encoding", "content-type")}
        status, headers, body = answer.status, kept, answer.read()
        connection.close()
        status, headers, body = self.server.change(self.path, status, headers, body)
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)
