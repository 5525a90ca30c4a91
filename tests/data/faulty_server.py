"""A small HTTP server on loopback whose every path misbehaves in its own way."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

DRIPS = {"drip": 10, "slower": 2000, "slow": 4000}  # bytes every 20 ms
MIDDLE = 100_000
PAGE = b"<!DOCTYPE html><html><body>Please sign in</body></html>"
ANSWERS = {  # status, what is sent of the content, and headers: the length is that of the body unless one is given
    "loop": (302, None, {"Location": "/loop/file.bin"}),
    "no_location": (302, None, {}),
    "bad_location": (302, None, {"Location": "http://[::1/file.bin"}),
    "long_host": (302, None, {"Location": f"http://{'a' * 70}.example/file.bin"}),
    "other_scheme": (302, None, {"Location": "file:///etc/passwd"}),
    "absurd_length": (200, None, {"Content-Length": "9" * 5000}),
    "odd_length": (200, None, {"Content-Length": "\xb2"}),
    "missing": (404, None, {}),
    "no_ranges": (200, lambda content: content, {}),
    "cut_without_length": (200, lambda content: content[:MIDDLE], {"Content-Length": None}),
    "too_short": (200, lambda content: content[:-1], {}),
    "too_long": (200, lambda content: content + b"more", {"Content-Length": None}),
    "flipped": (200, lambda content: content[:MIDDLE] + b"?" + content[MIDDLE + 1 :], {}),
    "other_range": (206, lambda content: content[:10], {"Content-Range": "bytes 0-9/204800"}),
    "page": (200, lambda content: PAGE, {"Content-Type": "text/html; charset=utf-8"}),
    "disguised_page": (200, lambda content: b"\n<HTML>" + b" " * (len(content) - 7), {}),
}


class FaultyServer(ThreadingHTTPServer):
    """Serves `content` under ``/good/FILE``; other first parts of a path are faults. `requests` records what came."""

    daemon_threads = True

    def __init__(self, content: bytes) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.content, self.requests = content, []
        self.closing = threading.Event()

    def url(self, fault: str) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/{fault}/file.bin"

    def handle_error(self, request, client_address):
        pass  # clients that give up are the point of these tests


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: FaultyServer

    def log_message(self, *_):
        pass

    def do_GET(self):
        fault, self.content = self.path.split("/")[1], self.server.content
        self.server.requests.append((fault, self.headers.get("Range")))
        self.close_connection = True
        if fault in ANSWERS:
            status, body, headers = ANSWERS[fault]
            self.start(status, body(self.content) if body else b"", headers)
        elif fault in DRIPS:
            self.drip(DRIPS[fault])
        else:
            getattr(self, f"serve_{fault}")()

    def start(self, status, body, headers):
        """Status, headers and body; a header that is None is left out."""
        self.send_response(status)
        for name, value in ({"Content-Length": str(len(body)), "Connection": "close"} | headers).items():
            if value is not None:
                self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def offset(self):
        """The range that was asked for, answered with 206."""
        size, asked = len(self.content), self.headers.get("Range")
        begin = int(asked.removeprefix("bytes=").rstrip("-")) if asked else 0
        headers = {"Content-Range": f"bytes {begin}-{size - 1}/{size}"} if asked else {}
        self.start(206 if asked else 200, b"", {"Content-Length": str(size - begin)} | headers)
        return begin

    def serve_good(self):
        self.wfile.write(self.content[self.offset() :])

    def serve_busy_twice(self):
        if len(self.server.requests) <= 2:
            self.start(503, b"", {})
        else:
            self.serve_good()

    def serve_stall(self):
        begin = self.offset()
        self.wfile.write(self.content[begin : begin + 1000])
        self.wfile.flush()
        self.server.closing.wait(5)

    def serve_silent(self):
        self.server.closing.wait(5)

    def drip(self, size):
        for at in range(self.offset(), len(self.content), size):
            self.wfile.write(self.content[at : at + size])
            self.wfile.flush()
            if self.server.closing.wait(0.02):
                return

    def serve_cut(self):
        """At most 90,000 bytes, then the connection closes."""
        begin = self.offset()
        self.wfile.write(self.content[begin : begin + 90_000])

    def serve_always_cut(self):
        self.offset()


@contextmanager
def serving(content: bytes) -> Iterator[FaultyServer]:
    server = FaultyServer(content)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.closing.set()
        server.shutdown()
        server.server_close()
        thread.join()
