"""The precision of a search, on CPUs with and without instructions for bfloat16."""

from typing import Literal

import pytest
import torch
from torch import nn

from rift.config import Criticality
from rift.criticality import module_robust_criticality

Precision = Literal["auto", "float32", "bfloat16"]


def in_bfloat16(precision: Precision) -> bool:
    """Return whether a search computes in bfloat16; checks before it are always in float32."""
    model = nn.Sequential(nn.Flatten(), nn.Linear(12, 5), nn.ReLU(), nn.Linear(5, 3))
    draw = torch.Generator().manual_seed(0)
    images = torch.rand(40, 3, 2, 2, generator=draw)
    labels = torch.randint(3, (40,), generator=draw)
    seen: set[torch.dtype] = set()
    model[3].register_forward_hook(
        lambda _module, _inputs, logits: seen.add(logits.dtype) if logits.requires_grad else None
    )
    module_robust_criticality(
        model, images, labels, settings=Criticality(precision=precision, restarts=0), seed=0
    )
    return torch.bfloat16 in seen


@pytest.mark.parametrize(
    ("capabilities", "expected"),
    [
        ({"amx_bf16": True, "avx512_bf16": True}, True),
        ({"amx_bf16": False, "avx512_bf16": True}, True),
        ({"avx512_bf16": False, "avx512_f": True}, False),
        ({}, False),
    ],
)
def test_auto_is_bfloat16_on_a_cpu_with_instructions_for_it(
    monkeypatch: pytest.MonkeyPatch, capabilities: dict[str, bool], expected: bool
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities)
    assert in_bfloat16("auto") == expected
    # What is asked for does not depend on the processor.
    assert not in_bfloat16("float32")
    assert in_bfloat16("bfloat16")


def test_auto_is_float32_if_torch_does_not_know_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(torch.cpu, "get_capabilities")
    assert not in_bfloat16("auto")
