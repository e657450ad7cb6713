"""Random numbers: one stream per purpose."""

import hashlib

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
    digest = hashlib.sha256(f"{seed} {purpose}".encode()).digest()
    return torch.Generator(device).manual_seed(int.from_bytes(digest[:7]))
