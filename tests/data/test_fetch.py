"""Fetching, with every fault that a server, a network or a disk has: one clear line, or success by the next mirror."""

from __future__ import annotations

import errno
import hashlib
import os
import re
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from data_scripts import catalogue as module
from data_scripts.catalogue import Download, Patience, fetch
from gendyn_lite.errors import Failed

CONTENT = bytes(range(256)) * 800  # 204,800 bytes
QUICK = Patience(connect=1, stall=0.3, window=0.2, slow=2_000_000, floor=2_000, attempts=3, wait=0.01)


MIDDLE = 100_000
PAGE = b"<!DOCTYPE html><html><body>Please sign in</body></html>"
DRIPS = {"drip": 10, "slower": 2000, "slow": 4000}  # bytes every 20 ms
ANSWERS = {  # status, body, headers (the length is that of the body unless one is given), and what is said of it
    "loop": (302, b"", {"Location": "/loop/file.bin"}, "it redirects in a loop"),
    "no_location": (302, b"", {}, "HTTP 302"),
    "bad_location": (302, b"", {"Location": "http://[::1/file.bin"}, r"no valid answer \(ValueError\)"),
    "long_host": (302, b"", {"Location": f"http://{'a' * 70}.example/file.bin"}, r"no valid answer \(\w+\)"),
    "other_scheme": (302, b"", {"Location": "file:///etc/passwd"}, r"no valid answer \(InvalidSchema\)"),
    "absurd_length": (200, b"", {"Content-Length": "9" * 5000}, "wrong size: 99,999,999,999,999,999,999 bytes"),
    "odd_length": (200, b"", {"Content-Length": "\xb2"}, "the connection was cut at 0 of 204,800 bytes, 3 times"),
    "missing": (404, b"", {}, "HTTP 404"),
    "too_short": (200, CONTENT[:-1], {}, "wrong size: 204,799 bytes, expected 204,800"),
    "too_long": (200, CONTENT + b"more", {"Content-Length": None}, "wrong size: more than 204,800 bytes"),
    "flipped": (200, CONTENT[:MIDDLE] + b"?" + CONTENT[MIDDLE + 1 :], {}, r"altered \(wrong SHA-256\)"),
    "page": (200, PAGE, {"Content-Type": "text/html; charset=utf-8"}, "a web page instead of the file"),
    "disguised_page": (200, b"\n<HTML>" + b" " * (len(CONTENT) - 7), {}, "a web page instead of the file"),
    "no_ranges": (200, CONTENT, {}, ""),
    "cut_without_length": (200, CONTENT[:MIDDLE], {"Content-Length": None}, ""),
    "other_range": (206, CONTENT[:10], {"Content-Range": "bytes 0-9/204800"}, ""),
}
FAULTS = {fault: answer[-1] for fault, answer in ANSWERS.items() if answer[-1]} | {
    "stall": "it stalls, 3 times",
    "silent": "no answer, 3 times",
    "drip": r"slow \(\d kB/s\)",
    "always_cut": "the connection was cut at 0 of 204,800 bytes, 3 times",
}


class FaultyServer(ThreadingHTTPServer):
    """On loopback: serves the content as ``/good/FILE``; other paths are faults. `requests` records what came."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.requests: list[tuple[str, str | None]] = []
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
        fault, asked = self.path.split("/")[1], self.headers.get("Range")
        requests, self.close_connection = self.server.requests, True
        requests.append((fault, asked))
        if fault in ANSWERS:
            return self.start(*ANSWERS[fault][:3])
        if fault == "busy_twice" and len(requests) <= 2:
            return self.start(503, b"", {})
        if fault == "silent":
            return self.server.closing.wait(5)
        size, begin = len(CONTENT), int(asked.removeprefix("bytes=").rstrip("-")) if asked else 0
        headers = {"Content-Range": f"bytes {begin}-{size - 1}/{size}"} if asked else {}
        self.start(206 if asked else 200, b"", {"Content-Length": str(size - begin)} | headers)
        if fault in DRIPS:
            return self.drip(begin, DRIPS[fault])
        sent = {"stall": 1000, "cut": 90_000, "always_cut": 0}.get(fault, size)
        self.wfile.write(CONTENT[begin : begin + sent])
        return fault == "stall" and self.server.closing.wait(5)

    def start(self, status, body, headers):
        """Status, headers and body; a header that is None is left out."""
        self.send_response(status)
        for name, value in ({"Content-Length": str(len(body)), "Connection": "close"} | headers).items():
            if value is not None:
                self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def drip(self, begin, size):
        for at in range(begin, len(CONTENT), size):
            self.wfile.write(CONTENT[at : at + size])
            if self.server.closing.wait(0.02):
                return


@pytest.fixture
def server():
    running = FaultyServer()
    thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    yield running
    running.closing.set()
    running.shutdown()
    running.server_close()
    thread.join()


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch):
    monkeypatch.setenv("NO_PROXY", "*")


def wanted(server, *faults, content=CONTENT):
    return Download("file.bin", len(content), hashlib.sha256(content).hexdigest(), tuple(map(server.url, faults)))


def left_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if not path.name.endswith(".lock"))


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_one_line_leaves_nothing_wrong_and_the_next_mirror_takes_over(server, tmp_path, fault, capsys):
    with pytest.raises(Failed, match=FAULTS[fault]) as caught:
        fetch(wanted(server, fault), tmp_path, patience=QUICK)
    assert str(caught.value).startswith("cannot fetch file.bin (127.0.0.1:")
    assert "\n" not in str(caught.value)
    assert "--from PATH" in str(caught.value)
    assert left_in(tmp_path) in ([], ["file.bin.part"])
    part = tmp_path / "file.bin.part"
    if fault in ("flipped", "page", "disguised_page", "too_short"):
        assert not part.exists() or not part.read_bytes()
    part.unlink(missing_ok=True)
    assert fetch(wanted(server, fault, "good"), tmp_path, patience=QUICK).read_bytes() == CONTENT
    assert left_in(tmp_path) == ["file.bin"]
    assert "127.0.0.1" in capsys.readouterr().err


@pytest.mark.parametrize("mirror", ["http://127.0.0.1:9", "http://[::1", "file:///etc", "nowhere", "http://a b", ""])
def test_a_mirror_that_is_no_address_or_does_not_answer_is_passed_over(server, tmp_path, mirror, capsys):
    assert fetch(wanted(server, "good"), tmp_path, mirrors=[mirror], patience=QUICK).read_bytes() == CONTENT
    assert re.search("no (valid answer|connection, 3 times)", capsys.readouterr().err)  # as requests and urllib3 see it


PARTS = {  # what an earlier fetch left; the faults of the mirrors, what is asked of the last one, what is said
    "cut": (b"", ["cut"], "bytes=180000-", "was cut at 180,000 of"),
    "of another mirror": (CONTENT[:150_000], ["good"], "bytes=150000-", ""),
    "no ranges": (CONTENT[:150_000], ["no_ranges"], "bytes=150000-", ""),
    "cut without length": (CONTENT[:150_000], ["cut_without_length", "good"], "bytes=100000-", "was cut at"),
    "other range": (CONTENT[:150_000], ["other_range", "good"], "bytes=150000-", "another part of the file than asked"),
    "wrong and short": (b"x" * 1000, ["good"], None, ""),
    "wrong": (b"x" * len(CONTENT), ["good"], None, ""),
    "wrong and too long": (b"x" * (len(CONTENT) + 1), ["good"], None, ""),
}


@pytest.mark.parametrize("part", PARTS)
def test_a_partial_download_is_continued_or_thrown_away(server, tmp_path, part, capsys):
    left, faults, asked, said = PARTS[part]
    if left:
        (tmp_path / "file.bin.part").write_bytes(left)
    assert fetch(wanted(server, *faults), tmp_path, patience=QUICK).read_bytes() == CONTENT
    assert server.requests[-1] == (faults[-1], asked)
    assert said in capsys.readouterr().err


def test_a_busy_server_is_asked_again_after_growing_waits(server, tmp_path, monkeypatch, capsys):
    waits = []
    monkeypatch.setattr(module.time, "sleep", waits.append)
    assert fetch(wanted(server, "busy_twice"), tmp_path, patience=QUICK).read_bytes() == CONTENT
    assert waits == [0.01, 0.02]


def test_slow_mirrors_are_taken_when_no_other_works_the_faster_first(server, tmp_path, capsys):
    path = fetch(wanted(server, "slower", "missing", "slow"), tmp_path, patience=QUICK)
    assert path.read_bytes() == CONTENT
    told = capsys.readouterr().err
    first, second = (float(speed) for speed in re.findall(r": slow \(([\d.]+)", told)[:2])
    faults = [fault for fault, _ in server.requests]
    assert faults[:3] == ["slower", "missing", "slow"]
    assert set(faults[3:]) == {"slow" if second >= first else "slower"}  # as they were on a busy machine
    assert "no faster mirror works: continuing with 127.0.0.1" in told


def test_a_mirror_of_ones_own_is_tried_first(server, tmp_path):
    own = server.url("good").rsplit("/", 1)[0]
    fetch(wanted(server, "flipped"), tmp_path, mirrors=[own + "/"], patience=QUICK)
    assert server.requests == [("good", None)]


def test_what_was_fetched_is_not_fetched_again_but_what_was_altered_is(server, tmp_path):
    path = fetch(wanted(server, "good"), tmp_path, patience=QUICK)
    fetch(wanted(server, "good"), tmp_path, patience=QUICK)
    assert len(server.requests) == 1
    path.write_bytes(b"altered")
    assert fetch(wanted(server, "good"), tmp_path, patience=QUICK).read_bytes() == CONTENT
    assert len(server.requests) == 2


def test_a_full_disk_is_noticed_before_and_one_that_fills_up_is_told(server, tmp_path, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    usage = module.shutil.disk_usage(tmp_path)
    with monkeypatch.context() as nearly_full:
        nearly_full.setattr(module.shutil, "disk_usage", lambda _: usage._replace(free=1000))
        with pytest.raises(Failed, match=r"has 1,000 bytes free, file.bin needs 204,800: free some space"):
            fetch(wanted(server, "good"), tmp_path, patience=QUICK)
    assert server.requests == []
    monkeypatch.setattr(module, "_blocks", full)
    with pytest.raises(Failed, match=r"cannot use .*: the disk is full: free some space"):
        fetch(wanted(server, "good"), tmp_path, patience=QUICK)
    assert left_in(tmp_path) in ([], ["file.bin.part"])


def test_a_killed_fetch_is_continued(server, tmp_path):
    """Kill a process while it downloads; the next one asks for the rest only."""
    names = "from pathlib import Path, PosixPath, WindowsPath\nfrom data_scripts.catalogue import Download\n"
    code = f"from data_scripts.catalogue import fetch\nfetch({wanted(server, 'drip')!r}, {tmp_path!r})"
    process = subprocess.Popen([sys.executable, "-c", names + code], cwd=Path(__file__).parents[2])
    part = tmp_path / "file.bin.part"
    deadline = time.monotonic() + 60
    while not server.requests and time.monotonic() < deadline:
        time.sleep(0.05)
    time.sleep(0.3)
    process.kill()
    process.wait()
    assert not (tmp_path / "file.bin").exists()
    have = part.stat().st_size
    assert fetch(wanted(server, "good"), tmp_path, patience=QUICK).read_bytes() == CONTENT
    assert server.requests[-1] == ("good", f"bytes={have}-" if have else None)
