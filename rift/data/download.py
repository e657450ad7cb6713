"""Published archives: downloaded once, taken up again after a break, checked, and unpacked whole or not at all."""

import fcntl
import hashlib
import os
import shutil
import tarfile
import tempfile
import urllib.error
import urllib.request
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPException
from pathlib import Path
from typing import BinaryIO

from rift.data.source import Archive
from rift.errors import RiftError
from rift.progress import Progress, silent

CHUNK = 1 << 20
TIMEOUT = 60.0  # seconds without a byte
ATTEMPTS = 5  # connections in a row that bring nothing new


def obtain(root: Path, archive: Archive, progress: Progress = silent) -> None:
    """Make sure that an archive lies unpacked under the data root.

    What is there is left alone. An archive that lies there packed is unpacked; else it is downloaded, beginning where an
    earlier download broke off. It is unpacked only if it has the published checksum, and deleted then.

    Raises:
        RiftError: there is no network, or what came is not the published archive.
    """
    if (root / archive.folder).is_dir():
        return
    packed = root / archive.name
    try:
        root.mkdir(parents=True, exist_ok=True)
        with _alone(root):
            if (root / archive.folder).is_dir():  # while this command waited for another
                return
            if not packed.exists():
                _download(packed, archive, progress)
            _check(packed, archive)
            _unpack(packed, root / archive.folder)
            packed.unlink()
    except OSError as error:
        raise RiftError(f"{root / archive.folder}: cannot be made: {error.strerror or error}") from error


@contextmanager
def _alone(root: Path) -> Iterator[None]:
    """Hold a lock on the data root: the jobs of a workflow want the same archive at once."""
    handle = os.open(root, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def _download(packed: Path, archive: Archive, progress: Progress) -> None:
    part = packed.with_name(f"{packed.name}.part")
    with part.open("ab") as file:
        fruitless = 0
        while fruitless < ATTEMPTS:
            before = file.tell()
            try:
                if _continue(file, archive, progress):
                    break
                reason = "the connection broke off"
            except (urllib.error.URLError, HTTPException, OSError) as error:
                reason = str(getattr(error, "reason", error))
            fruitless = fruitless + 1 if file.tell() <= before else 0
        else:
            raise RiftError(
                f"{packed}: is missing and could not be downloaded ({reason}); get {archive.url} (md5 {archive.md5}) on a"
                f" machine with a network and put it there, or its content as {packed.parent / archive.folder}"
                + (
                    f"; what came so far is kept in {part.name}, and the next try goes on from it"
                    if file.tell()
                    else ""
                )
            )
        part.replace(packed)


def _continue(file: BinaryIO, archive: Archive, progress: Progress) -> bool:
    """Download what is still to come; say whether that was all."""
    have = file.tell()
    request = urllib.request.Request(archive.url, headers={"Range": f"bytes={have}-"} if have else {})
    try:
        response = urllib.request.urlopen(request, timeout=TIMEOUT)
    except urllib.error.HTTPError as error:
        if error.code == 416:  # nothing lies beyond what is there: it is all, or another file; the checksum tells
            return True
        raise
    with response:
        if have and response.status != 206:  # a server that cannot begin in the middle
            file.truncate(0)
            have = 0
        length = response.headers.get("Content-Length")
        total = have + int(length) if length else None
        while chunk := response.read(CHUNK):
            file.write(chunk)
            have += len(chunk)
            progress(have / 1e6, round((total or have) / 1e6), MB=have / 1e6)
        file.flush()
    return total is None or have >= total


def _check(packed: Path, archive: Archive) -> None:
    with packed.open("rb") as file:
        found = hashlib.file_digest(file, "md5").hexdigest()
    if found != archive.md5:
        packed.unlink()
        raise RiftError(
            f"{packed}: was not the published archive (its md5 is {found}, published: {archive.md5}) and has been deleted; run"
            f" rift prepare again, or put {archive.url} there"
        )


def _unpack(packed: Path, folder: Path) -> None:
    """Unpack beside the folder and move it into place at the end."""
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}.") as beside:
        try:
            if zipfile.is_zipfile(packed):
                with zipfile.ZipFile(packed) as content:
                    content.extractall(beside)
            else:
                with tarfile.open(packed) as content:
                    content.extractall(beside, filter="data")
        except (zipfile.BadZipFile, tarfile.TarError) as error:
            raise RiftError(f"{packed}: cannot be unpacked ({error}); delete it and run rift prepare again") from error
        inside = Path(beside) / folder.name
        content_only = not inside.is_dir()  # packed without the folder around it
        shutil.move(beside if content_only else inside, folder)
        Path(beside).mkdir(exist_ok=True)  # for its own removal
