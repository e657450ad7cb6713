"""Published archives: downloaded once, taken up again after a break, checked, and unpacked whole or not at all."""

import fcntl
import hashlib
import tarfile
import tempfile
import urllib.error
import urllib.request
import zipfile
from contextlib import suppress
from http.client import HTTPException
from pathlib import Path
from typing import BinaryIO

from rift.data.sources.source import Archive
from rift.errors import RiftError
from rift.progress import Progress, no_progress

CHUNK = 1 << 20
TIMEOUT = 60.0  # seconds without a byte
ATTEMPTS = 5  # connections in a row that bring nothing new


def obtain(root: Path, archive: Archive, progress: Progress = no_progress) -> None:
    """Make sure that an archive lies unpacked under the data root.

    What is there is left alone. An archive that lies there packed is unpacked; else it is downloaded, beginning where an
    earlier download broke off. It is unpacked only if it has the published checksum, and deleted then. Commands that want
    the same archive at once wait for each other.

    Raises:
        RiftError: there is no network, or what came is not the published archive.
    """
    folder, packed = root / archive.folder, root / archive.name
    if folder.is_dir():
        return
    if root.exists() and not root.is_dir():
        raise RiftError(f"{root}: is the data root, but not a folder")
    part = packed.with_name(f"{packed.name}.part")
    try:
        root.mkdir(parents=True, exist_ok=True)
        with part.open("ab") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            if folder.is_dir():  # while this command waited for another
                return
            if packed.exists():
                _check(packed, archive)
                _unpack(packed, folder)
                packed.unlink()
            else:
                _download(file, packed, archive, progress)
                try:
                    _check(part, archive)
                except RiftError:
                    part.unlink()
                    raise
                _unpack(part, folder)
                part.unlink()
    except OSError as error:
        raise RiftError(f"{folder}: cannot be made: {error.strerror or error}") from error
    finally:
        with suppress(OSError):
            if part.stat().st_size == 0:
                part.unlink()
            root.rmdir()  # if nothing came into it


def _download(file: BinaryIO, packed: Path, archive: Archive, progress: Progress) -> None:
    """Download into a file what it does not hold yet."""
    fruitless, reason = 0, ""
    while fruitless < ATTEMPTS:
        before = file.tell()
        try:
            if _continue(file, archive, progress):
                return
            reason = "the connection broke off"
        except (urllib.error.URLError, HTTPException, OSError) as error:
            reason = str(getattr(error, "reason", error))
        fruitless = fruitless + 1 if file.tell() <= before else 0
    kept = (
        f"; what came so far is kept in {packed.name}.part, and the next try goes on from it"
        if file.tell()
        else ""
    )
    raise RiftError(
        f"{packed}: is missing and could not be downloaded ({reason}); get {archive.url} (md5 {archive.md5}) on a machine"
        f" with a network and put it there, or its content as {packed.parent / archive.folder}{kept}"
    )


def _continue(file: BinaryIO, archive: Archive, progress: Progress) -> bool:
    """Download what is still to come; say whether that was all."""
    have = file.tell()
    request = urllib.request.Request(
        archive.url, headers={"Range": f"bytes={have}-"} if have else {}
    )
    try:
        response = urllib.request.urlopen(request, timeout=TIMEOUT)
    except urllib.error.HTTPError as error:
        if (
            error.code == 416
        ):  # nothing lies beyond what is there: it is all, or another file; the checksum tells
            return True
        raise
    with response:
        if have and response.status != 206:  # a server that cannot begin in the middle
            file.seek(file.truncate(0))
            have = 0
        length = response.headers.get("Content-Length")
        total = have + int(length) if length else None
        while chunk := response.read(CHUNK):
            file.write(chunk)
            have += len(chunk)
            progress(have / 1e6, round((total or have) / 1e6), MB=have / 1e6)
        file.flush()
    return total is None or have >= total


def _check(path: Path, archive: Archive) -> None:
    with path.open("rb") as file:
        found = hashlib.file_digest(file, "md5").hexdigest()
    if found != archive.md5:
        raise RiftError(
            f"{path}: is not the published archive (its md5 is {found}, published: {archive.md5}); run rift prepare again"
            f" without it, or put {archive.url} there as {archive.name}"
        )


def _unpack(packed: Path, folder: Path) -> None:
    """Unpack beside the folder and move it into place at the end."""
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}.") as beside:
        content = Path(beside) / "content"
        content.mkdir()
        try:
            if zipfile.is_zipfile(packed):
                with zipfile.ZipFile(packed) as file:
                    file.extractall(content)
            else:
                with tarfile.open(packed) as file:
                    file.extractall(content, filter="data")
        except (zipfile.BadZipFile, tarfile.TarError) as error:
            raise RiftError(
                f"{packed}: cannot be unpacked ({error}); delete it and run rift prepare again"
            ) from error
        inside = content / folder.name
        (inside if inside.is_dir() else content).rename(
            folder
        )  # the latter if packed without the folder around it
