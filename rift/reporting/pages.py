"""Pages of HTML from the files in ``templates``."""

import functools
from importlib.resources import files

from jinja2 import Environment, PackageLoader
from markupsafe import Markup

FOLDER = "templates"


def render(template: str, /, **values: object) -> str:
    """Fill in a template. Values are escaped unless they are ``Markup``.

    Args:
        template: its file name.
        values: values of its variables.
    """
    return _environment().get_template(template).render(**values)


def part(*names: str) -> Markup:
    """Return styles or scripts, to be put into a page as they are.

    Args:
        names: file names, in order.
    """
    folder = files("rift.reporting") / FOLDER
    return Markup("".join((folder / name).read_text(encoding="utf-8") for name in names))


@functools.cache
def _environment() -> Environment:
    loader = PackageLoader("rift.reporting", FOLDER)
    return Environment(autoescape=True, loader=loader, trim_blocks=True)
