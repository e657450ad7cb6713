"""What other people's packages need before they can be imported; done only where it is needed."""

import importlib
import importlib.util
import sys
import warnings

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


def prepare_robustbench() -> None:
    """Make robustbench importable.

    It imports ``autoattack``, but what it depends on calls itself ``pyautoattack``. This makes the names equal. The interfaces
    still differ: ``robustbench.benchmark`` calls the old one and fails.
    """
    prepare_torchvision()
    # It uses pkg_resources, and setuptools say so to whoever imports it.
    warnings.filterwarnings("ignore", "pkg_resources is deprecated", UserWarning)
    if importlib.util.find_spec("autoattack") is None:
        sys.modules["autoattack"] = importlib.import_module("pyautoattack")
        sys.modules["autoattack.state"] = importlib.import_module("pyautoattack.state")
