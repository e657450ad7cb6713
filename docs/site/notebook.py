"""The page of the documentation site that shows the notebook with its outputs."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

NOTEBOOK = Path(__file__).parents[2] / "examples/three_calls.ipynb"


def notebook_page() -> str:
    """Return the cells of the notebook and their outputs as a page."""
    cells = json.loads(NOTEBOOK.read_text(encoding="utf-8"))["cells"]
    parts = [part for cell in cells for part in _parts(cell)]
    source = "Generated from the notebook `examples/three_calls.ipynb`, outputs included."
    return "\n\n".join([parts[0], source, *parts[1:]]) + "\n"


def _parts(cell: dict[str, Any]) -> Iterator[str]:
    text = "".join(cell["source"])
    if cell["cell_type"] == "markdown":
        yield text
        return
    yield f"```python\n{text}\n```"
    for output in cell["outputs"]:
        data = output.get("data", {})
        if "image/png" in data:
            picture = "".join(data["image/png"]).replace("\n", "")
            yield f'<img alt="output" src="data:image/png;base64,{picture}">'
        elif "text/html" in data:
            # Blank lines would end the HTML, and its own style would overrule that of the site.
            html = "".join(data["text/html"]).partition("</style>")
            own = (html[2] or html[0]).replace('border="1" class="dataframe"', 'class="docutils"')
            lines = own.splitlines()
            yield "<div>\n" + "\n".join(line for line in lines if line.strip())
        else:
            plain = "".join(data.get("text/plain", output.get("text", "")))
            yield f"```text\n{plain.rstrip()}\n```"
