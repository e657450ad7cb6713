"""Configuration of the documentation site (Sphinx), which ``make docs`` builds.

The sources are the Markdown pages of the repository, where they lie. The list in docs/index.md is
the navigation. Three pages are generated: every key of an experiment file, the Python reference,
and the notebook.
"""

import re
import sys
from pathlib import Path
from typing import Any

from sphinx.application import Sphinx

sys.path.insert(0, str(Path(__file__).parent))
from notebook import notebook_page
from reference import configuration_page, python_page

from rift import __version__

project = "rift"
version = release = __version__
author = "the rift authors"
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
root_doc = "docs/index"
include_patterns = [
    "README.md",
    "CONTRIBUTING.md",
    "CHANGELOG.md",
    "config/README.md",
    "examples/README.md",
    "docs/**.md",
]
myst_heading_anchors = 4
autodoc_typehints = "description"
napoleon_use_ivar = True
autodoc_typehints_description_target = "documented"
autodoc_member_order = "bysource"
html_theme = "furo"
html_title = f"rift {version}"
html_extra_path = ["front"]
html_static_path = ["static"]
html_css_files = ["rift.css"]
html_copy_source = html_show_sourcelink = html_show_copyright = False

REFERENCE = {"configuration": configuration_page, "reference": python_page}
GENERATED = {**REFERENCE, "notebook": notebook_page}


def write_generated_pages(app: Sphinx) -> None:
    """Write the generated pages; Git ignores them."""
    folder = Path(app.srcdir, "docs", "generated")
    folder.mkdir(exist_ok=True)
    for name, page in GENERATED.items():
        (folder / f"{name}.md").write_text(page(), encoding="utf-8")


def add_navigation(app: Sphinx, docname: str, source: list[str]) -> None:
    """Make a hidden table of contents of every list in docs/index.md, headed by its bold line."""
    if docname != root_doc:
        return
    pages = {"Start": ["../README"]}
    for caption, items in re.findall(r"^\*\*(.+?)\*\*\n\n((?:[- ] .+\n?)+)", source[0], re.M):
        pages[caption] = re.findall(r"\]\(([^)#]+)\.md\)", items)
    pages["Begin"].append("generated/notebook")
    pages["Reference"] = [f"generated/{name}" for name in REFERENCE]
    for caption, names in pages.items():
        listed = "\n".join(names)
        source[0] += f"\n```{{toctree}}\n:hidden:\n:caption: {caption}\n\n{listed}\n```\n"


def let_names_break(
    app: Sphinx, pagename: str, templatename: str, context: dict[str, Any], doctree: object
) -> None:
    """Let long names in code break, so that tables fit."""
    if "body" in context:
        context["body"] = re.sub(
            r'(?<=<span class="pre">)[^<]+',
            lambda name: re.sub(r"(?<=[/._:=,])(?=\w)", "<wbr>", name[0]),
            context["body"],
        )


def setup(app: Sphinx) -> None:
    """Connect the functions above to Sphinx."""
    app.connect("builder-inited", write_generated_pages)
    app.connect("source-read", add_navigation)
    app.connect("html-page-context", let_names_break)
