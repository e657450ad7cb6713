"""Random numbers: one stream per purpose."""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager

import torch


def generator(seed: int, purpose: str, device: str | torch.device = "cpu") -> torch.Generator:
    """Return a generator that depends only on the seed of a run and on its purpose.

    Purposes must not share numbers. An epoch is kept because it survived certain random starts of
    PGD. If a sweep used the same starts, that epoch would look too robust next to other points.

    Args:
        seed: seed of the run.
        purpose: name of the stream, such as "training".
        device: device of the generator.
    """
    return torch.Generator(device).manual_seed(_number(seed, purpose))


def seed_torch(seed: int, purpose: str, device: torch.device) -> None:
    """Seed the global random numbers of torch, which dropout and drop-path use.

    Args:
        seed: seed of the run.
        purpose: name of the stream.
        device: device of the network; only its stream and that of the CPU are seeded.
    """
    number = _number(seed, purpose)
    # torch.manual_seed would open a context on every GPU.
    torch.default_generator.manual_seed(number)
    if device.type == "cuda":
        with torch.cuda.device(device):
            torch.cuda.manual_seed(number)


@contextmanager
def global_numbers_kept(device: torch.device) -> Iterator[None]:
    """Restore the global random numbers of torch at the end, those of the CPU and of the device."""
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        yield


def _number(seed: int, purpose: str) -> int:
    digest = hashlib.sha256(f"{seed} {purpose}".encode()).digest()
    return int.from_bytes(digest[:7])
