"""Interrupts `scripts/fetch-wheel.py` against an index on loopback and sees that it goes on.

    python resume_wheel.py

Run by the end-to-end tests with the pinned pip. Prints `N passed, M failed` at the end.
"""

import hashlib
import http.server
import os
import pathlib
import subprocess
import sys
import tempfile
import threading
import time

SCRIPT = pathlib.Path(__file__).resolve().parents[2] / "scripts" / "fetch-wheel.py"
CONTENT = os.urandom(3_000_000)
SHA256 = hashlib.sha256(CONTENT).hexdigest()
WHEEL = "pinned_thing-1.0-py3-none-any.whl"


class Index(http.server.BaseHTTPRequestHandler):
    """A package index with one wheel; `server.plan` says what becomes of each download."""

    def do_GET(self):
        if not self.path.endswith(".whl"):
            page = f'<!doctype html><a href="/{WHEEL}">{WHEEL}</a>'.encode()
            return self.send(200, page, {"content-type": "text/html"})
        asked = self.headers.get("range")
        self.server.asked.append(asked)
        plan = self.server.plan.pop(0) if self.server.plan else "whole"
        start = int(asked.removeprefix("bytes=").rstrip("-")) if asked and plan != "no-ranges" else 0
        if start >= len(CONTENT):
            return self.send(416, b"", {})
        status = 206 if start else 200
        cut = {"stall": 1_000_000, "cut": 1_500_000}.get(plan)
        self.send(status, CONTENT[start:], {"accept-ranges": "bytes"}, cut)
        if plan == "stall":
            self.server.stalled.set()
            time.sleep(30)

    def send(self, status, body, headers, cut=None):
        self.send_response(status)
        for name, value in {**headers, "content-length": len(body)}.items():
            self.send_header(name, str(value))
        self.end_headers()
        self.wfile.write(body[:cut])
        self.wfile.flush()
        self.close_connection = True

    def log_message(self, *_):
        pass


class Run:
    """One cache directory in front of one index."""

    def __init__(self, plan):
        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Index)
        self.server.daemon_threads = True
        self.server.plan, self.server.asked = list(plan), []
        self.server.stalled = threading.Event()
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        self.directory = tempfile.TemporaryDirectory()

    def start(self, expected=SHA256):
        index = f"http://127.0.0.1:{self.server.server_port}/simple"
        environment = {**os.environ, "PIP_INDEX_URL": index, "PIP_CONFIG_FILE": os.devnull}
        environment.pop("PIP_EXTRA_INDEX_URL", None)
        command = [sys.executable, str(SCRIPT), "pinned-thing", "1.0", expected, self.directory.name]
        return subprocess.Popen(command, env=environment, text=True, stdout=subprocess.PIPE,
                                stderr=subprocess.PIPE)

    def finish(self, expected=SHA256):
        child = self.start(expected)
        out, err = child.communicate(timeout=120)
        return child.returncode, out.strip(), err

    def partial(self, expected=SHA256):
        return pathlib.Path(self.directory.name, f"{expected}.partial")

    def check_whole(self, result):
        code, out, err = result
        assert code == 0, err
        assert pathlib.Path(out).read_bytes() == CONTENT
        assert not self.partial().exists()


def a_killed_download_goes_on_where_it_stopped():
    run = Run(["stall"])
    child = run.start()
    assert run.server.stalled.wait(60), "the download never began"
    deadline = time.monotonic() + 30
    while not run.partial().exists() or run.partial().stat().st_size < 700_000:
        assert time.monotonic() < deadline, "nothing is written while it arrives"
        time.sleep(0.05)
    child.kill()
    child.wait()
    child.stdout.close()
    child.stderr.close()
    have = run.partial().stat().st_size
    run.check_whole(run.finish())
    assert run.server.asked == [None, f"bytes={have}-"], run.server.asked


def a_broken_connection_goes_on_within_the_run():
    run = Run(["cut"])
    run.check_whole(run.finish())
    assert len(run.server.asked) == 2 and run.server.asked[1].startswith("bytes="), run.server.asked


def an_index_without_ranges_is_asked_for_the_whole_file():
    run = Run(["no-ranges"])
    run.partial().write_bytes(CONTENT[:1000])
    run.check_whole(run.finish())


def a_partial_file_of_something_else_is_dropped_and_the_next_run_is_whole():
    run = Run([])
    run.partial().write_bytes(b"x" * 1000)
    code, _, err = run.finish()
    assert code != 0 and "expected" in err, err
    assert not run.partial().exists()
    run.check_whole(run.finish())


def a_file_with_another_hash_is_refused_and_not_kept():
    run = Run([])
    other = "0" * 64
    code, out, err = run.finish(other)
    assert code != 0 and not out and SHA256 in err, (out, err)
    assert list(pathlib.Path(run.directory.name).iterdir()) == []


def a_file_that_is_here_is_not_downloaded_again():
    run = Run([])
    run.check_whole(run.finish())
    run.check_whole(run.finish())
    assert len(run.server.asked) == 1, run.server.asked


def main():
    """Runs every scenario."""
    passed = failed = 0
    for scenario in (
        a_killed_download_goes_on_where_it_stopped,
        a_broken_connection_goes_on_within_the_run,
        an_index_without_ranges_is_asked_for_the_whole_file,
        a_partial_file_of_something_else_is_dropped_and_the_next_run_is_whole,
        a_file_with_another_hash_is_refused_and_not_kept,
        a_file_that_is_here_is_not_downloaded_again,
    ):
        try:
            scenario()
            passed += 1
            print(f"ok {scenario.__name__}")
        except Exception as error:  # one scenario must not hide the others
            failed += 1
            print(f"not ok {scenario.__name__}: {error!r}")
    print(f"{passed} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
