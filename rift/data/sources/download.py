"""Download of published archives: resumable, checked, and unpacked completely or not at all."""

import fcntl
import hashlib
import tarfile
import tempfile
import urllib.error
import urllib.request
import zipfile
import zlib
from contextlib import suppress
from http.client import HTTPException, HTTPMessage
from pathlib import Path, PurePosixPath
from typing import IO, BinaryIO

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
    an interrupted one stopped. The archive is unpacked only if it matches its checksums, and
    deleted afterwards. A lock makes concurrent commands wait for each other.

    Args:
        root: data root; it is created if needed.
        archive: archive to download.
        progress: progress display of the download.

    Raises:
        RiftError: the download failed, the archive does not match its checksums, cannot be
            unpacked or contains members outside its folder, or the data root cannot be written to.
    """
    folder, packed = root / archive.folder, root / archive.name
    if folder.is_dir():
        return
    if root.exists() and not root.is_dir():
        raise RiftError(f"{root}: is the data root, but not a folder; choose a folder")
    part = packed.with_name(f"{packed.name}.part")
    try:
        root.mkdir(parents=True, exist_ok=True)
        with part.open("a+b") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            # Another command may have unpacked the archive while this one waited for the lock.
            if folder.is_dir():
                return
            # One open file is checked and unpacked, so nobody can exchange it in between.
            if packed.exists():
                with packed.open("rb") as content:
                    _check(content, packed, archive)
                    _unpack(content, packed, folder)
                packed.unlink()
            else:
                _download(file, packed, archive, progress)
                try:
                    _check(file, part, archive)
                except RiftError:
                    part.unlink()
                    raise
                _unpack(file, part, folder)
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
        response = _OPENER.open(request, timeout=TIMEOUT)
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


class _OnlyToHttps(urllib.request.HTTPRedirectHandler):
    """Follow redirects to https only; another server could replace what comes unencrypted."""

    def redirect_request(
        self,
        req: urllib.request.Request,
        fp: IO[bytes],
        code: int,
        msg: str,
        headers: HTTPMessage,
        newurl: str,
    ) -> urllib.request.Request | None:
        if not newurl.lower().startswith("https://"):
            raise urllib.error.URLError(f"the server redirects to {newurl}, which is not https")
        return super().redirect_request(req, fp, code, msg, headers, newurl)


_OPENER = urllib.request.build_opener(_OnlyToHttps)


def _check(file: BinaryIO, path: Path, archive: Archive) -> None:
    """Check that an open file has the checksums of an archive.

    Raises:
        RiftError: a checksum differs.
    """
    digests = {
        "md5": (hashlib.md5(usedforsecurity=False), archive.md5),
        "sha256": (hashlib.sha256(), archive.sha256),
    }
    file.seek(0)
    while chunk := file.read(CHUNK):
        for digest, _ in digests.values():
            digest.update(chunk)
    for name, (digest, expected) in digests.items():
        if expected is not None and digest.hexdigest() != expected:
            raise RiftError(
                f"{path}: is not the published archive (its {name} is {digest.hexdigest()},"
                f" expected: {expected}); delete it and run the command again, or download"
                f" {archive.url} and copy it there as {archive.name}"
            )


def _unpack(packed: BinaryIO, path: Path, folder: Path) -> None:
    """Unpack an archive into a temporary folder, and rename that to ``folder`` at the end.

    Args:
        packed: the archive, open for reading.
        path: path of the archive, for messages.
        folder: folder to create.

    Raises:
        RiftError: the archive cannot be unpacked, or a member is no plain file or folder inside.
    """
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}.") as temporary:
        content = Path(temporary) / "content"
        content.mkdir()
        try:
            packed.seek(0)
            if zipfile.is_zipfile(packed):
                with zipfile.ZipFile(packed) as zipped:
                    _check_members(zipped.namelist(), path)
                    zipped.extractall(content)
            else:
                packed.seek(0)
                with tarfile.open(fileobj=packed) as tarred:
                    members = tarred.getmembers()
                    _check_members([member.name for member in members], path)
                    for member in members:
                        if not (member.isfile() or member.isdir()):
                            raise _leaves(path, member.name, "is a link or a special file")
                    tarred.extractall(content, filter="data")
        except (zipfile.BadZipFile, tarfile.TarError, EOFError, zlib.error) as error:
            raise RiftError(
                f"{path}: cannot be unpacked ({error}); delete it and run the command again"
            ) from error
        # Some archives contain the folder, others only its content.
        inside = content / folder.name
        (inside if inside.is_dir() else content).rename(folder)


def _check_members(names: list[str], path: Path) -> None:
    """Check that no member of an archive lies outside the folder that it is unpacked to.

    Raises:
        RiftError: a name is absolute or leads to a parent folder.
    """
    for name in names:
        parts = PurePosixPath(name.replace("\\", "/"))
        if parts.is_absolute() or ".." in parts.parts:
            raise _leaves(path, name, "lies outside the folder of the data set")


def _leaves(path: Path, name: str, problem: str) -> RiftError:
    return RiftError(
        f"{path}: its member {name!r} {problem}, so it is not unpacked; delete the archive, and"
        " download it from its publisher"
    )
