"""Download of published archives: resumable, checked, and unpacked completely or not at all."""

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
# Seconds without data until a connection counts as broken.
TIMEOUT = 60.0
# Connections in a row without new data until the download fails.
ATTEMPTS = 5


def obtain(root: Path, archive: Archive, progress: Progress = no_progress) -> None:
    """Download an archive and unpack it into the data root, unless its folder exists.

    If the data root contains the packed archive, there is no download. A download continues where
    an interrupted one stopped. The archive is unpacked only if it matches the published checksum,
    and deleted afterwards. A lock makes concurrent commands wait for each other.

    Args:
        root: data root; it is created if needed.
        archive: archive to download.
        progress: progress display of the download.

    Raises:
        RiftError: the download failed, the archive does not match its checksum or cannot be
            unpacked, or the data root cannot be written to.
    """
    folder, packed = root / archive.folder, root / archive.name
    if folder.is_dir():
        return
    if root.exists() and not root.is_dir():
        raise RiftError(f"{root}: is the data root, but not a folder; choose a folder")
    part = packed.with_name(f"{packed.name}.part")
    try:
        root.mkdir(parents=True, exist_ok=True)
        with part.open("ab") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            # Another command may have unpacked the archive while this one waited for the lock.
            if folder.is_dir():
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
        raise RiftError(
            f"{folder}: cannot be created: {error.strerror or error}; choose another data root"
        ) from error
    finally:
        with suppress(OSError):
            if part.stat().st_size == 0:
                part.unlink()
            # This fails, and is ignored, if the data root contains anything.
            root.rmdir()


def _download(file: BinaryIO, packed: Path, archive: Archive, progress: Progress) -> None:
    """Download the missing rest of an archive into a file, with several attempts."""
    failed, reason = 0, ""
    while failed < ATTEMPTS:
        before = file.tell()
        try:
            if _continue(file, archive, progress):
                return
            reason = "the connection was interrupted"
        except (urllib.error.URLError, HTTPException, OSError) as error:
            reason = str(getattr(error, "reason", error))
        failed = failed + 1 if file.tell() <= before else 0
    kept = (
        f"; the downloaded part is kept in {packed.name}.part, and the next attempt continues it"
        if file.tell()
        else ""
    )
    raise RiftError(
        f"{packed}: is missing and could not be downloaded ({reason}); download {archive.url} (md5"
        f" {archive.md5}) on a machine with a network and copy it there, or copy its content to"
        f" {packed.parent / archive.folder}{kept}"
    )


def _continue(file: BinaryIO, archive: Archive, progress: Progress) -> bool:
    """Download the missing rest over one connection; return whether the file is complete."""
    have = file.tell()
    request = urllib.request.Request(
        archive.url, headers={"Range": f"bytes={have}-"} if have else {}
    )
    try:
        response = urllib.request.urlopen(request, timeout=TIMEOUT)
    except urllib.error.HTTPError as error:
        # Range not satisfiable: the file is complete or a different one; the checksum decides.
        if error.code == 416:
            return True
        raise
    with response:
        # A server without support for ranges sends the file from its beginning.
        if have and response.status != 206:
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
    """Check that a file has the published checksum.

    Raises:
        RiftError: the checksum differs.
    """
    with path.open("rb") as file:
        found = hashlib.file_digest(file, "md5").hexdigest()
    if found != archive.md5:
        raise RiftError(
            f"{path}: is not the published archive (its md5 is {found}, published: {archive.md5});"
            f" delete it and run the command again, or download {archive.url} and copy it there as"
            f" {archive.name}"
        )


def _unpack(packed: Path, folder: Path) -> None:
    """Unpack an archive into a temporary folder, and rename that to ``folder`` at the end."""
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}.") as temporary:
        content = Path(temporary) / "content"
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
                f"{packed}: cannot be unpacked ({error}); delete it and run the command again"
            ) from error
        # Some archives contain the folder, others only its content.
        inside = content / folder.name
        (inside if inside.is_dir() else content).rename(folder)
