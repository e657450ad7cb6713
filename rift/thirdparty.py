"""What other people's packages need before they can be imported, and while they run; done only where it is needed."""

import importlib
import io
import logging
import re
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stdout
from types import ModuleType
from typing import Any

_libraries: list[object] = []  # torch forgets the operators of a library that nobody holds


def prepare_torchvision() -> None:
    """Make torchvision importable, which timm and robustbench import as well.

    Its wheel is compiled for a torch with CUDA. On one without, its operators do not load, and the import stops at the first of
    them that is not there (``operator torchvision::nms does not exist``). Data sets, transforms and models call none of them:
    that they are declared is enough.
    """
    try:
        importlib.import_module("torchvision")
    except RuntimeError as error:
        if "torchvision::" not in str(error):
            raise
        import torch

        for name in [name for name in sys.modules if name.split(".")[0] == "torchvision"]:
            del sys.modules[name]  # what the failed import left half done
        library = torch.library.Library("torchvision", "FRAGMENT")
        for operator in ("nms", "qnms"):
            library.define(f"{operator}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        _libraries.append(library)
        importlib.import_module("torchvision")


class OldAutoAttack:
    """pyautoattack behind the interface that ``robustbench.benchmark`` calls: that of the package it once was."""

    def __init__(
        self, model: object, *, log_path: str | None = None, verbose: bool = True, **settings: Any
    ) -> None:
        del log_path, verbose  # it logs by the standard library now
        self._attack = importlib.import_module("pyautoattack").AutoAttack(model, **settings)

    def run_standard_evaluation(
        self, images: Any, labels: Any, bs: int = 250, state_path: Any = None
    ) -> Any:
        """Attack images; returns the adversarial ones."""
        adversarial, _ = self._attack.run_standard_evaluation(
            images, labels, batch_size=bs, state_path=state_path
        )
        return adversarial


def prepare_robustbench() -> None:
    """Make robustbench importable, and its ``benchmark`` work.

    It imports ``autoattack`` and calls its interface, but what it depends on calls itself ``pyautoattack`` and has another one.
    A package ``autoattack`` that is there nevertheless is not used: torchattacks 3.3 brings one of its own.
    """
    prepare_torchvision()
    # It uses pkg_resources, and setuptools say so to whoever imports it.
    warnings.filterwarnings("ignore", "pkg_resources is deprecated", UserWarning)
    state = importlib.import_module("pyautoattack.state")
    autoattack = ModuleType("autoattack", OldAutoAttack.__doc__)
    vars(autoattack).update(AutoAttack=OldAutoAttack, state=state, __path__=[])
    sys.modules |= {"autoattack": autoattack, "autoattack.state": state}


class _Lines(io.TextIOBase):
    """A file that hands over what is written to it."""

    def __init__(self, tell: Callable[[str], None]) -> None:
        self._tell = tell
        self._begun = ""

    def write(self, text: str) -> int:
        *whole, self._begun = (self._begun + text).split("\n")
        for line in whole:
            self._tell(line)
        return len(text)


class _Records(logging.Handler):
    """A handler of log records that hands over their texts."""

    def __init__(self, tell: Callable[[str], None]) -> None:
        super().__init__(logging.WARNING)
        self._tell = tell

    def emit(self, record: logging.LogRecord) -> None:
        self._tell(record.getMessage())


@contextmanager
def redirect_messages(say: Callable[[str], None], *loggers: str) -> Iterator[None]:
    """Hand what other packages print and warn of to ``say``, instead of letting it appear.

    What differs from something said before by its numbers alone is not said again.

    Args:
        say: called with one line.
        loggers: names of loggers whose warnings are handed over as well; what is less than a warning is dropped.
    """
    told: set[str] = set()

    def tell(text: str) -> None:
        line = " ".join(text.split())
        kind = re.sub(r"\d[\d.]*(e[+-]?\d+)?", "0", line)
        if line and kind not in told:
            told.add(kind)
            say(line)

    def show(message: Warning | str, *_where: object, **_more: object) -> None:
        tell(str(message))

    handler, before = _Records(tell), {}
    for name in loggers:
        logger = logging.getLogger(name)
        before[logger] = logger.level, logger.propagate
        logger.setLevel(logging.WARNING)
        logger.propagate = False
        logger.addHandler(handler)
    try:
        with redirect_stdout(_Lines(tell)), warnings.catch_warnings():
            warnings.showwarning = show
            yield
    finally:
        for logger, (level, propagate) in before.items():
            logger.removeHandler(handler)
            logger.setLevel(level)
            logger.propagate = propagate
