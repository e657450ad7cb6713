"""Preparations that third-party packages need before they can be imported or run."""

import importlib
import io
import logging
import os
import re
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stdout
from types import ModuleType
from typing import Any

_libraries: list[object] = []  # torch drops the operators of a library without references


@contextmanager
def environment_variable(name: str, value: str) -> Iterator[None]:
    """Set an environment variable that a package reads, and put it back afterwards."""
    before = os.environ.get(name)
    os.environ[name] = value
    try:
        yield
    finally:
        if before is None:
            del os.environ[name]
        else:
            os.environ[name] = before


def prepare_torchvision() -> None:
    """Make torchvision importable, which timm and robustbench also import.

    The wheel of torchvision is compiled for a torch with CUDA. Its operators do not load with a
    torch without CUDA, and the import stops (``operator torchvision::nms does not exist``). Data
    sets, transforms and models never call these operators, so a declaration is enough.
    """
    try:
        importlib.import_module("torchvision")
    except RuntimeError as error:
        if "torchvision::" not in str(error):
            raise
        import torch

        for name in [name for name in sys.modules if name.split(".")[0] == "torchvision"]:
            del sys.modules[name]  # left half imported
        library = torch.library.Library("torchvision", "FRAGMENT")
        for operator in ("nms", "qnms"):
            library.define(f"{operator}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        _libraries.append(library)
        importlib.import_module("torchvision")


def synchronised_norms(network: Any) -> Any:
    """Return a network whose batch norms normalise by the batches of all processes.

    The conversion of torch drops what the batch norms of timm do after they normalise, which are
    the activations of many networks.

    Args:
        network: ``nn.Module``; its batch norms are replaced.
    """
    from torch import nn

    # A network with layers of timm has imported them.
    timm = sys.modules.get("timm.layers")
    return (timm or nn.SyncBatchNorm).convert_sync_batchnorm(network)


@contextmanager
def group_norms_in_order(network: Any) -> Iterator[None]:
    """Let group norm be trained behind fixed layers.

    On the CPU, torch 2.13 crashes in the backward pass of group norm if its input is channels-last
    and needs no gradient. The input therefore gets a gradient, which nobody reads.

    Args:
        network: ``nn.Module``; it has hooks within the context.
    """
    import torch

    def with_gradient(module: Any, given: tuple[Any, ...]) -> Any:
        trained = any(weight.requires_grad for weight in module.parameters())
        if trained and torch.is_grad_enabled() and not given[0].requires_grad:
            return given[0].detach().requires_grad_(), *given[1:]
        return None

    hooks = [
        module.register_forward_pre_hook(with_gradient)
        for module in network.modules()
        if isinstance(module, torch.nn.GroupNorm)
    ]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


class OldAutoAttack:
    """Adapter that gives pyautoattack the interface of the package ``autoattack``.

    ``robustbench.benchmark`` calls that interface.
    """

    def __init__(
        self, model: object, *, log_path: str | None = None, verbose: bool = True, **settings: Any
    ) -> None:
        del log_path, verbose  # pyautoattack logs through the standard library
        self._attack = importlib.import_module("pyautoattack").AutoAttack(model, **settings)

    def run_standard_evaluation(
        self, images: Any, labels: Any, bs: int = 250, state_path: Any = None
    ) -> Any:
        """Attack images and return the adversarial ones.

        Args:
            images: N×C×H×W, in [0, 1].
            labels: N.
            bs: images per batch.
            state_path: file of an interrupted attack; None starts from the beginning.
        """
        adversarial, _ = self._attack.run_standard_evaluation(
            images, labels, batch_size=bs, state_path=state_path
        )
        return adversarial


def prepare_robustbench() -> None:
    """Make robustbench importable, and make its ``benchmark`` work.

    robustbench calls the interface of ``autoattack``, but it depends on ``pyautoattack``, whose
    interface differs. An installed package ``autoattack`` is not used, because torchattacks 3.3
    brings its own version of it.
    """
    prepare_torchvision()
    # robustbench imports pkg_resources, for which setuptools prints a warning.
    warnings.filterwarnings("ignore", "pkg_resources is deprecated", UserWarning)
    state = importlib.import_module("pyautoattack.state")
    autoattack = ModuleType("autoattack", OldAutoAttack.__doc__)
    vars(autoattack).update(AutoAttack=OldAutoAttack, state=state, __path__=[])
    sys.modules |= {"autoattack": autoattack, "autoattack.state": state}


class _Lines(io.TextIOBase):
    """A file that passes every line written to it to a function."""

    def __init__(self, pass_on: Callable[[str], None]) -> None:
        self._pass_on = pass_on
        self._unfinished = ""

    def write(self, text: str) -> int:
        *lines, self._unfinished = (self._unfinished + text).split("\n")
        for line in lines:
            self._pass_on(line)
        return len(text)


class _Records(logging.Handler):
    """A log handler that passes the text of every warning to a function."""

    def __init__(self, pass_on: Callable[[str], None]) -> None:
        super().__init__(logging.WARNING)
        self._pass_on = pass_on

    def emit(self, record: logging.LogRecord) -> None:
        self._pass_on(record.getMessage())


@contextmanager
def redirect_messages(say: Callable[[str], None], *loggers: str) -> Iterator[None]:
    """Pass the output and the warnings of other packages to ``say`` instead of printing them.

    Messages that differ only in their numbers are passed once.

    Args:
        say: function that is called with one line.
        loggers: names of loggers whose warnings are also passed; their lesser messages are dropped.
    """
    shown: set[str] = set()

    def pass_on(text: str) -> None:
        line = " ".join(text.split())
        kind = re.sub(r"\d[\d.]*(e[+-]?\d+)?", "0", line)
        if line and kind not in shown:
            shown.add(kind)
            say(line)

    def show(message: Warning | str, *_where: object, **_more: object) -> None:
        pass_on(str(message))

    handler, before = _Records(pass_on), {}
    for name in loggers:
        logger = logging.getLogger(name)
        before[logger] = logger.level, logger.propagate
        logger.setLevel(logging.WARNING)
        logger.propagate = False
        logger.addHandler(handler)
    try:
        with redirect_stdout(_Lines(pass_on)), warnings.catch_warnings():
            warnings.showwarning = show
            yield
    finally:
        for logger, (level, propagate) in before.items():
            logger.removeHandler(handler)
            logger.setLevel(level)
            logger.propagate = propagate
