"""Names and texts in a report are shown, and never run."""

import xml.etree.ElementTree as ET
from html.parser import HTMLParser
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest

from rift.errors import RiftError
from rift.reporting import pages
from rift.reporting.figures.drawing import save_figure
from rift.reporting.formats import write_table
from rift.reporting.tables.table import Table
from tests.browser import CHROMIUM, Browser

PAYLOADS = (
    "<script>ran('a')</script>",
    '"><img src=x onerror="ran(1)">',
    "'><svg onload=ran(2)>",
    "</style><script>ran(3)</script>",
    "{{ 7 * 7 }}{% include 'style.css' %}",
)
HOSTILE = " ".join(PAYLOADS)


class Elements(HTMLParser):
    """Collects tags and attributes."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [name for name, _ in attrs]


def elements(text: str) -> Elements:
    parser = Elements()
    parser.feed(text)
    parser.close()
    return parser


def table(text: str) -> Table:
    """Return a table with the same text in every place."""
    index = pd.MultiIndex.from_tuples([(text, text), (text, f"Δ {text}")], names=[text, text])
    columns = pd.MultiIndex.from_tuples([(text, text), (text, f"{text} 2")])
    shown = pd.DataFrame([[text, "1"], ["2", text]], index=index, columns=columns)
    return Table(text, text, shown, pd.DataFrame({"a": [1]}), [text])


@pytest.mark.parametrize("payload", PAYLOADS)
def test_texts_of_a_table_add_no_element_to_its_page(payload: str, tmp_path: Path) -> None:
    found = []
    for name, text in (("plain", "text"), ("hostile", payload)):
        write_table(table(text), tmp_path / f"{name}.html")
        found.append(elements((tmp_path / f"{name}.html").read_text()))
    plain, hostile = found
    assert hostile.tags == plain.tags
    assert hostile.attributes == plain.attributes


@pytest.mark.parametrize("template", ["overview.html", "improvement.html"])
def test_texts_of_a_page_add_no_element(template: str) -> None:
    def page(text: str) -> Elements:
        values = {
            "name": text,
            "finding": text,
            "choices": [(text, text), (text, text)],
            "transfers": [text],
            "run": [(text, text)],
            "table": table(text),
            "pictures": [(text, ""), (text, "")],
            "picture": "",
            "body": text,
            "mrc": text,
            "whole": True,
            "style": pages.part("style.css"),
        }
        return elements(pages.render(template, **values))

    assert page(HOSTILE).tags == page("text").tags
    assert page(HOSTILE).attributes == page("text").attributes


@pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed")
def test_a_browser_runs_nothing_from_a_table_and_after_a_click(tmp_path: Path) -> None:
    write_table(table(HOSTILE), tmp_path / "table.html")
    with Browser(tmp_path / "profile") as browser:
        browser.open(tmp_path / "table.html")
        assert browser.run("typeof ran") == "undefined"
        # An element that ran would fail, because there is no such function.
        browser.run("document.querySelector('thead button').click()")
        assert "<script>" in browser.run("document.body.innerText")
        assert browser.complaints == []
        assert browser.requests == []


def test_texts_of_a_figure_are_no_elements_of_an_svg(tmp_path: Path) -> None:
    """A notebook may draw figures as SVG; the report has none."""
    with mpl.rc_context({"svg.fonttype": "none"}):
        figure = mpl.figure.Figure()
        axes = figure.subplots()
        axes.plot(np.arange(3), label=PAYLOADS[0])
        axes.set_title(PAYLOADS[1])
        axes.legend()
        figure.savefig(tmp_path / "figure.svg")
    root = ET.parse(tmp_path / "figure.svg").getroot()
    names = {element.tag.rpartition("}")[2] for element in root.iter()}
    assert not {"script", "img", "foreignObject"} & names
    assert not any(key.startswith("on") for element in root.iter() for key in element.attrib)
    with pytest.raises(RiftError, match=r"written as \.png or \.pdf"):
        save_figure(figure, tmp_path / "report.svg")
