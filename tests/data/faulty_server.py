"""A small HTTP server on loopback whose every path misbehaves in its own way."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class FaultyServer(ThreadingHTTPServer):
    """Serves `content` under ``/good/FILE``; other first parts of a path are faults. `requests` records what came."""

    daemon_threads = True

    def __init__(self, content: bytes) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.content, self.requests, self.counts = content, [], {}
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
        fault = self.path.split("/")[1]
        self.server.requests.append((fault, self.headers.get("Range")))
        self.server.counts[fault] = self.server.counts.get(fault, 0) + 1
        self.close_connection = True
        getattr(self, f"serve_{fault}")()

    def start(self, status=200, length=None, **headers):
        self.send_response(status)
        if length is not None:
            self.send_header("Content-Length", str(length))
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Connection", "close")
        self.end_headers()

    def offset(self):
        """The range that was asked for, answered with 206."""
        content, asked = self.server.content, self.headers.get("Range")
        begin = int(asked.removeprefix("bytes=").rstrip("-")) if asked else 0
        headers = {"Content_Range": f"bytes {begin}-{len(content) - 1}/{len(content)}"} if asked else {}
        self.start(206 if asked else 200, len(content) - begin, **headers)
        return begin

    def serve_good(self):
        self.wfile.write(self.server.content[self.offset() :])

    def serve_no_ranges(self):
        self.start(200, len(self.server.content))
        self.wfile.write(self.server.content)

    def serve_missing(self):
        self.start(404, 0)

    def serve_forbidden(self):
        self.start(403, 0)

    def serve_busy_twice(self):
        if self.server.counts["busy_twice"] <= 2:
            self.start(503, 0)
        else:
            self.serve_good()

    def serve_stall(self):
        begin = self.offset()
        self.wfile.write(self.server.content[begin : begin + 1000])
        self.wfile.flush()
        self.server.closing.wait(5)

    def serve_silent(self):
        self.server.closing.wait(5)

    def drip(self, size, pause):
        begin = self.offset()
        for at in range(begin, len(self.server.content), size):
            self.wfile.write(self.server.content[at : at + size])
            self.wfile.flush()
            if self.server.closing.wait(pause):
                return

    def serve_drip(self):
        self.drip(10, 0.02)

    def serve_slow(self):
        self.drip(4000, 0.02)

    def serve_slower(self):
        self.drip(2000, 0.02)

    def serve_cut(self):
        """At most 90,000 bytes, then the connection closes."""
        begin = self.offset()
        self.wfile.write(self.server.content[begin : begin + 90_000])

    def serve_always_cut(self):
        self.offset()

    def serve_cut_without_length(self):
        self.start(200)
        self.wfile.write(self.server.content[: len(self.server.content) // 2])

    def serve_too_short(self):
        self.start(200, len(self.server.content) - 1)
        self.wfile.write(self.server.content[:-1])

    def serve_too_long(self):
        self.start(200)
        self.wfile.write(self.server.content + b"more")

    def serve_other_range(self):
        self.start(206, 10, Content_Range=f"bytes 0-9/{len(self.server.content)}")
        self.wfile.write(self.server.content[:10])

    def serve_flipped(self):
        wrong = bytearray(self.server.content)
        wrong[len(wrong) // 2] ^= 1
        self.start(200, len(wrong))
        self.wfile.write(wrong)

    def serve_page(self):
        page = b"<!DOCTYPE html><html><body>Please sign in</body></html>"
        self.start(200, len(page), Content_Type="text/html; charset=utf-8")
        self.wfile.write(page)

    def serve_disguised_page(self):
        page = b"\n<HTML>" + b" " * (len(self.server.content) - 7)
        self.start(200, len(page), Content_Type="application/octet-stream")
        self.wfile.write(page)

    def serve_loop(self):
        self.start(302, 0, Location=self.path)

    def endless(self, head, part, pause=0.0):
        """Send `head`, then `part` again and again, until the client has had enough."""
        self.wfile.write(head)
        while not self.server.closing.wait(pause):
            self.wfile.write(part)
            self.wfile.flush()

    def serve_continue_for_ever(self):
        self.endless(b"", b"HTTP/1.1 100 Continue\r\n\r\n" * 300)

    def serve_dripping_head(self):
        self.endless(b"HTTP/1.1 200 OK\r\nX-Padding: ", b"x", pause=0.02)

    def serve_dripping_redirect(self):
        self.endless(b"HTTP/1.1 302 Found\r\nLocation: /good/file.bin\r\nX-Padding: ", b"x", pause=0.02)

    def serve_endless_redirect(self):
        """The body of a redirect, which nobody needs, never ends; it leads to the file."""
        self.endless(b"HTTP/1.1 302 Found\r\nLocation: /good/file.bin\r\n\r\n", bytes(1 << 16))

    def serve_dripping_chunk(self):
        self.endless(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"0", pause=0.02)

    def serve_no_location(self):
        self.start(302, 0)

    def serve_bad_location(self):
        self.start(302, 0, Location="http://[::1/file.bin")

    def serve_long_host(self):
        self.start(302, 0, Location=f"http://{'a' * 70}.example/file.bin")

    def serve_other_scheme(self):
        self.start(302, 0, Location="file:///etc/passwd")

    def serve_absurd_length(self):
        self.start(200, "9" * 5000)

    def serve_odd_length(self):
        self.start(200, "\xb2")


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
