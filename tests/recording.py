"""A recorder of all states that a stage saves."""

import io

import torch

from rift.artifacts.resume import State, Work


class Recording(Work):
    """Saves after every step and keeps a copy of each saved state."""

    def __init__(self) -> None:
        super().__init__(save_minutes=0)
        self.saved: list[bytes] = []

    def save(self, state: State) -> None:
        buffer = io.BytesIO()
        torch.save(state, buffer)
        self.saved.append(buffer.getvalue())
