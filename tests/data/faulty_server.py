"""A small HTTP server on loopback whose every path misbehaves in its own way."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

REDIRECTS = {
    "loop": {"Location": "/loop/file.bin"},
    "no_location": {},
    "bad_location": {"Location": "http://[::1/file.bin"},
    "long_host": {"Location": f"http://{'a' * 70}.example/file.bin"},
    "other_scheme": {"Location": "file:///etc/passwd"},
}
FOUND = b"HTTP/1.1 302 Found\r\nLocation: /good/file.bin\r\n"
ENDLESS = {  # what is sent first, what again and again, and after how many seconds each time
    "continue_for_ever": (b"", b"HTTP/1.1 100 Continue\r\n\r\n" * 300, 0),
    "dripping_head": (b"HTTP/1.1 200 OK\r\nX-Padding: ", b"x", 0.02),
    "dripping_redirect": (FOUND + b"X-Padding: ", b"x", 0.02),
    "endless_redirect": (FOUND + b"\r\n", bytes(1 << 16), 0),  # its body, which nobody needs; it leads to the file
    "dripping_chunk": (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"0", 0.02),
}
DRIPS = {"drip": 10, "slower": 2000, "slow": 4000}  # bytes every 20 ms
LENGTHS = {"absurd_length": "9" * 5000, "odd_length": "\xb2"}


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
        if fault in REDIRECTS:
            self.start(302, **REDIRECTS[fault])
        elif fault in ENDLESS:
            self.endless(*ENDLESS[fault])
        elif fault in DRIPS:
            self.drip(DRIPS[fault])
        elif fault in LENGTHS:
            self.start(200, length=LENGTHS[fault])
        else:
            getattr(self, f"serve_{fault}")()

    def start(self, status=200, body=b"", *, length="", **headers):
        """Status, headers and body; `length` None leaves it out."""
        self.send_response(status)
        if length is not None:
            self.send_header("Content-Length", length or str(len(body)))
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(body)

    def offset(self):
        """The range that was asked for, answered with 206."""
        size, asked = len(self.content), self.headers.get("Range")
        begin = int(asked.removeprefix("bytes=").rstrip("-")) if asked else 0
        headers = {"Content_Range": f"bytes {begin}-{size - 1}/{size}"} if asked else {}
        self.start(206 if asked else 200, length=str(size - begin), **headers)
        return begin

    def serve_good(self):
        self.wfile.write(self.content[self.offset() :])

    def serve_no_ranges(self):
        self.start(200, self.content)

    def serve_missing(self):
        self.start(404)

    def serve_busy_twice(self):
        if len(self.server.requests) <= 2:
            self.start(503)
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

    def endless(self, head, part, pause):
        """Send `head`, then `part` again and again, until the client has had enough."""
        self.wfile.write(head)
        while not self.server.closing.wait(pause):
            self.wfile.write(part)
            self.wfile.flush()

    def serve_cut(self):
        """At most 90,000 bytes, then the connection closes."""
        begin = self.offset()
        self.wfile.write(self.content[begin : begin + 90_000])

    def serve_always_cut(self):
        self.offset()

    def serve_cut_without_length(self):
        self.start(200, self.content[: len(self.content) // 2], length=None)

    def serve_too_short(self):
        self.start(200, self.content[:-1])

    def serve_too_long(self):
        self.start(200, self.content + b"more", length=None)

    def serve_other_range(self):
        self.start(206, self.content[:10], Content_Range=f"bytes 0-9/{len(self.content)}")

    def serve_flipped(self):
        wrong = bytearray(self.content)
        wrong[len(wrong) // 2] ^= 1
        self.start(200, wrong)

    def serve_page(self):
        page = b"<!DOCTYPE html><html><body>Please sign in</body></html>"
        self.start(200, page, Content_Type="text/html; charset=utf-8")

    def serve_disguised_page(self):
        page = b"\n<HTML>" + b" " * (len(self.content) - 7)
        self.start(200, page, Content_Type="application/octet-stream")


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
