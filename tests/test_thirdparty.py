import importlib
import subprocess
import sys

import pytest

from rift.thirdparty import prepare_torchvision


def python(program: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-W", "ignore", "-c", program], capture_output=True, text=True, check=False
    )


def test_torchvision_and_robustbench_import_in_a_fresh_process() -> None:
    program = """if True:
        import sys
        from rift import thirdparty
        assert "torch" not in sys.modules
        for _ in range(2):
            thirdparty.prepare_robustbench()
        from torchvision.transforms.functional import resize
        from timm import create_model
        from robustbench.utils import load_model
        assert sys.modules["autoattack.state"] is sys.modules["pyautoattack.state"]
    """
    answer = python(program)
    assert answer.returncode == 0, answer.stderr


def test_another_failure_of_torchvision_is_not_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    def failing(name: str) -> None:
        raise RuntimeError(f"{name} is broken")

    monkeypatch.setattr(importlib, "import_module", failing)
    with pytest.raises(RuntimeError, match="torchvision is broken"):
        prepare_torchvision()
