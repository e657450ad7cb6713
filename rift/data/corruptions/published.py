"""Published corrupted test splits (Hendrycks and Dietterich 2019).

They are CIFAR-10-C, CIFAR-100-C and Tiny-ImageNet-C.
"""

import io
from pathlib import Path

import numpy as np

from rift.artifacts import Array
from rift.data.sources.decoding import decode
from rift.data.sources.source import Archive, Corrupted, verify
from rift.data.sources.tiny_imagenet import SIDE, files_of_classes
from rift.errors import RiftError

SEVERITIES = 5


def arrays(archive: Archive, checksums: dict[str, str]) -> Corrupted:
    """Return the description of a set of ``.npy`` files.

    Every corruption has a file of images, uint8, 5N×H×W×C, severity 1 first. ``labels.npy`` has 5N
    labels.

    Args:
        archive: archive that contains the files.
        checksums: md5 by file name without suffix.
    """

    def find(root: Path, corruption: str) -> Path | None:
        path = root / archive.folder / f"{corruption}.npy"
        return path if path.exists() else None

    def read(path: Path, _classes: tuple[str, ...]) -> tuple[Array, Array]:
        images, labels = (
            np.load(io.BytesIO(verify(file, checksums[file.stem], archive)), allow_pickle=False)
            for file in (path, path.with_name("labels.npy"))
        )
        return split_severities(path, images, labels)

    return Corrupted((archive,), find, read)


def split_severities(path: Path, images: Array, labels: Array) -> tuple[Array, Array]:
    """Split the published layout by severity.

    Args:
        path: file of the images, for messages.
        images: uint8, 5N×H×W×C.
        labels: 5N.

    Returns:
        Images, 5×N×H×W×C, and labels, int64, N.

    Raises:
        RiftError: images or labels have another shape or type, or labels differ by severity.
    """
    count, rest = divmod(len(labels), SEVERITIES)
    if rest or images.dtype != np.uint8 or images.ndim != 4 or len(images) != len(labels):
        raise RiftError(
            f"{path}: contains {images.shape} {images.dtype} values, but labels.npy contains"
            f" {len(labels)} labels; a published set has uint8 images, 5N×H×W×C, and 5N labels;"
            " unpack it again"
        )
    severities = labels.reshape(SEVERITIES, count)
    if (severities != severities[0]).any():
        raise RiftError(
            f"{path.with_name('labels.npy')}: contains different labels at different severities;"
            " unpack it again"
        )
    return images.reshape(SEVERITIES, count, *images.shape[1:]), severities[0].astype(np.int64)


def folders(*archives: Archive) -> Corrupted:
    """Return the description of a set of JPEG files in folders corruption/severity/class."""

    def find(root: Path, corruption: str) -> Path | None:
        parents = [
            parent
            for archive in archives
            for parent in (root / archive.folder, *(root / archive.folder).glob("*"))
        ]
        return next(
            (parent / corruption for parent in parents if (parent / corruption / "1").is_dir()),
            None,
        )

    def read(folder: Path, classes: tuple[str, ...]) -> tuple[Array, Array]:
        listed = [
            files_of_classes(folder / str(severity), classes)
            for severity in range(1, SEVERITIES + 1)
        ]
        names = [path.relative_to(folder / "1") for path in listed[0][0]]
        for severity, (paths, _) in enumerate(listed, start=1):
            if [path.relative_to(folder / str(severity)) for path in paths] != names:
                raise RiftError(
                    f"{folder / str(severity)}: contains other images than {folder / '1'}; unpack"
                    " the archive again"
                )
        images = np.stack([decode(paths, SIDE)[0].transpose(0, 2, 3, 1) for paths, _ in listed])
        return images, listed[0][1]

    return Corrupted(archives, find, read, jpeg_quality=85, by_class=True)


CIFAR10_C = arrays(
    Archive(
        "CIFAR-10-C",
        "https://zenodo.org/records/2535967/files/CIFAR-10-C.tar",
        "56bf5dcef84df0e2308c6dcbcbbd8499",
        "c72763e101c723b7c507b96205f7e938912a5d587376173b825850cf3cb876a7",
    ),
    {
        "brightness": "0a81ef75e0b523c3383219c330a85d48",
        "contrast": "3c8262171c51307f916c30a3308235a8",
        "defocus_blur": "7d1322666342a0702b1957e92f6254bc",
        "elastic_transform": "9421657c6cd452429cf6ce96cc412b5f",
        "fog": "7b397314b5670f825465fbcd1f6e9ccd",
        "frost": "31f6ab3bce1d9934abfb0cc13656f141",
        "gaussian_blur": "c33370155bc9b055fb4a89113d3c559d",
        "gaussian_noise": "ecaf8b9a2399ffeda7680934c33405fd",
        "glass_blur": "7361fb4019269e02dbf6925f083e8629",
        "impulse_noise": "2090e01c83519ec51427e65116af6b1a",
        "jpeg_compression": "2b9cc4c864e0193bb64db8d7728f8187",
        "labels": "c439b113295ed5254878798ffe28fd54",
        "motion_blur": "fffa5f852ff7ad299cfe8a7643f090f4",
        "pixelate": "0f14f7e2db14288304e1de10df16832f",
        "saturate": "1cfae0964219c5102abbb883e538cc56",
        "shot_noise": "3a7239bb118894f013d9bf1984be7f11",
        "snow": "bb238de8555123da9c282dea23bd6e55",
        "spatter": "8a5a3903a7f8f65b59501a6093b4311e",
        "speckle_noise": "ef00b87611792b00df09c0b0237a1e30",
        "zoom_blur": "6ea8e63f1c5cdee1517533840641641b",
    },
)
CIFAR100_C = arrays(
    Archive(
        "CIFAR-100-C",
        "https://zenodo.org/records/3555552/files/CIFAR-100-C.tar",
        "11f0ed0f1191edbf9fa23466ae6021d3",
    ),
    {
        "brightness": "f22d7195aecd6abb541e27fca230c171",
        "contrast": "322bb385f1d05154ee197ca16535f71e",
        "defocus_blur": "d923e3d9c585a27f0956e2f2ad832564",
        "elastic_transform": "a0792bd6581f6810878be71acedfc65a",
        "fog": "4efc7ebd5e82b028bdbe13048e3ea564",
        "frost": "3a39c6823bdfaa0bf8b12fe7004b8117",
        "gaussian_blur": "5204ba0d557839772ef5a4196a052c3e",
        "gaussian_noise": "ecc4d366eac432bdf25c024086f5e97d",
        "glass_blur": "0bf384f38e5ccbf8dd479d9059b913e1",
        "impulse_noise": "3b3c210ddfa0b5cb918ff4537a429fef",
        "jpeg_compression": "c851b7f1324e1d2ffddeb76920576d11",
        "labels": "bb4026e9ce52996b95f439544568cdb2",
        "motion_blur": "732a7e2e54152ff97c742d4c388c5516",
        "pixelate": "96c00c60f144539e14cffb02ddbd0640",
        "saturate": "c0697e9fdd646916a61e9c312c77bf6b",
        "shot_noise": "b0a1fa6e1e465a747c1b204b1914048a",
        "snow": "0237be164583af146b7b144e73b43465",
        "spatter": "12ccf41d62564d36e1f6a6ada5022728",
        "speckle_noise": "e3f215b1a0f9fd9fd6f0d1cf94a7ce99",
        "zoom_blur": "0204613400c034a81c4830d5df81cb82",
    },
)
# The first archive contains fifteen corruptions, the second the other four.
TINY_IMAGENET_C = folders(
    Archive(
        "Tiny-ImageNet-C",
        "https://zenodo.org/records/8206060/files/Tiny-ImageNet-C.tar",
        "f9c9a9dbdc11469f0b850190f7ad8be1",
    ),
    Archive(
        "Tiny-ImageNet-C-extra",
        "https://zenodo.org/records/8206060/files/Tiny-ImageNet-C-extra.tar",
        "0db0588d243cf403ef93449ec52b70eb",
    ),
)
