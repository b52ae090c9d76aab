#!/usr/bin/env python3
"""Downloads one pinned wheel, going on where an interrupted run stopped.

    python fetch-wheel.py NAME VERSION SHA256 DIRECTORY

Prints the path of the wheel. pip resumes only within one run and drops what it has when it is
stopped, so this keeps the partial file, under the pinned hash. Search and transport are pip's own:
the index, proxy and certificates are those that pip is configured with. They are internals of pip,
which is why pip.txt pins it by hash. What arrives is worth nothing until its hash is the pinned one.
"""

import hashlib
import os
import pathlib
import sys
import time

from pip._internal.commands import create_command
from pip._internal.network.utils import HEADERS
from pip._vendor.packaging.specifiers import SpecifierSet
from pip._vendor.requests import RequestException
from pip._vendor.urllib3.exceptions import HTTPError

ATTEMPTS = 10
PIECE_BYTES = 1 << 18


def say(text):
    """One line of progress."""
    print(text, file=sys.stderr, flush=True)


def sha256(path):
    """Hash of a file."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def link_of(command, options, session, name, version):
    """Where the index keeps the wheel."""
    finder = command._build_package_finder(options, session)
    found = finder.find_best_candidate(name, SpecifierSet(f"=={version}")).best_candidate
    if found is None:
        raise SystemExit(f"error: the package index has no {name} {version} for this machine; "
                         "check the index that pip is configured with")
    return found.link.url_without_fragment


def go_on(session, url, name, partial):
    """One attempt: asks for what is missing and appends it. Whether the file is whole now."""
    have = partial.stat().st_size if partial.exists() else 0
    headers = {**HEADERS, "Range": f"bytes={have}-"} if have else HEADERS
    with session.get(url, headers=headers, stream=True) as response:
        if response.status_code == 416:  # nothing is missing, or it is not a part of this file
            return True
        response.raise_for_status()
        if response.status_code != 206:  # the server sends the whole file
            have = 0
        total = have + int(response.headers.get("content-length", 0))
        if have:
            say(f"{name}: {have} of {total} bytes are here already")
        shown = 10 * have // total if total else 0
        with open(partial, "r+b" if have else "wb") as file:
            file.seek(have)
            for piece in response.iter_content(PIECE_BYTES):
                file.write(piece)
                have += len(piece)
                if total and 10 * have // total > shown:
                    shown = 10 * have // total
                    say(f"{name}: {10 * shown} % of {total} bytes")
    return have >= total


def fetch(name, version, expected, directory):
    """The wheel, whole and with the expected hash."""
    directory = pathlib.Path(directory)
    wheel, partial = directory / f"{expected}.whl", directory / f"{expected}.partial"
    if wheel.exists() and sha256(wheel) == expected:
        return wheel
    directory.mkdir(parents=True, exist_ok=True)
    command = create_command("download")
    options, _ = command.parse_args(["--no-cache-dir", "--disable-pip-version-check"])
    with command.main_context():
        session = command.get_default_session(options)
        url = link_of(command, options, session, name, version)
        for attempt in range(1, ATTEMPTS + 1):
            try:
                whole = go_on(session, url, name, partial)
            except (RequestException, HTTPError, OSError) as error:
                say(f"{name}: interrupted (attempt {attempt} of {ATTEMPTS}): {type(error).__name__}")
                whole = False
            if whole:
                break
            time.sleep(min(attempt, 5))
        else:
            raise SystemExit(f"error: {name} could not be downloaded; run this again, it goes on "
                             "where it stopped")
    found = sha256(partial)
    if found != expected:
        partial.unlink()
        raise SystemExit(f"error: {name} {version} has SHA-256 {found}, expected {expected}; it was "
                         "removed")
    os.replace(partial, wheel)
    return wheel


if __name__ == "__main__":
    print(fetch(*sys.argv[1:]))
