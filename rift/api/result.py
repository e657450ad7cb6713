"""The result of ``rift.improve``: the network, its numbers, and how they are shown and saved."""

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd
from markupsafe import Markup
from matplotlib.figure import Figure
from torch import nn

from rift import artifacts
from rift.api.comparison import SELECTION, as_table
from rift.models.state import snapshot
from rift.reporting import pages
from rift.reporting.figures.drawing import draw_data, render, save_figure
from rift.reporting.figures.interpolation import ADVERSARIAL, STANDARD, ScopeSweep, Sweeps
from rift.reporting.formats import html_part, write_table
from rift.reporting.tables.table import Table
from rift.reporting.texts import listed

MODEL, SUMMARY = "model.safetensors", "summary.html"
TABLES, TABLE = ("mrc.csv", "finetuning.csv", "sweep.csv"), "accuracy.csv"
READABLE, FIGURES = "accuracy.md", ("interpolation.png", "interpolation.pdf")
FILES = (MODEL, *TABLES, TABLE, READABLE, *FIGURES, SUMMARY)
"""Files of a saved result, in the order in which they are written."""


@dataclass(frozen=True, eq=False, repr=False)
class Result:
    """A network that RiFT improved, and how.

    Attributes:
        model: copy of the network with the selected weights; those of the base if nothing is
            gained.
        modules: names of the modules that were fine-tuned.
        alpha: selected position between base (0) and fine-tuned weights (1).
        mrc: criticality of all modules, as ``rift.mrc`` returns it.
        history: fine-tuning, one row per epoch; ``kept`` marks the one that was taken.
        sweep: accuracies at every α, as ``rift.sweep`` returns it.
        accuracy: accuracies of base and result, one row per metric, in percent and points. On test
            images with intervals and tests. Without test images, they are those of the images on
            which α was selected, and ``split`` is ``selection``.
        outcomes: whether the base and the result classify each test image correctly, by ``before``
            and ``after``, as ``rift.evaluate`` returns it; empty without test images.
        validation_images: number of images on which α was selected.
        settings: all settings, as JSON values.
        seed: seed of all random numbers.
        budget: the numbers of images and epochs that a time budget chose, and why; empty without.
    """

    model: nn.Module
    modules: Sequence[str]
    alpha: float
    mrc: pd.DataFrame
    history: pd.DataFrame
    sweep: pd.DataFrame
    accuracy: pd.DataFrame
    outcomes: Mapping[str, pd.DataFrame]
    validation_images: int
    settings: Mapping[str, Any] = field(default_factory=dict)
    seed: int = 0
    budget: str = ""

    @property
    def gained(self) -> bool:
        """Return whether another point than the base was selected."""
        return self.alpha > 0

    def summary(self) -> str:
        """Return what was done and gained, as lines of plain text."""
        rows = self.accuracy.to_dict("records")
        count = f"{rows[0]['images']:,}"
        lines = [self._finding()]
        for row in rows:
            text = f"  {row['metric']:<10} {row['before']:6.2f}% -> {row['after']:6.2f}%"
            text += f"  {row['change']:+.2f} points"
            if row["split"] != SELECTION:
                text += f" [{row['low']:+.2f}, {row['high']:+.2f}], p = {row['p']:.2g}"
            lines.append(text)
        lines.append(
            f"on the {count} validation images on which alpha was selected; pass test for intervals"
            if rows[0]["split"] == SELECTION
            else f"on {count} test images, with 95% paired-bootstrap intervals and exact tests"
        )
        return "\n".join([*lines, *([self.budget] if self.budget else [])])

    def plot(self) -> Figure:
        """Draw clean accuracy against accuracy under PGD, and both against α, as the report does.

        In a notebook, the figure is shown. ``savefig`` writes it to a file.
        """
        tolerance = self.settings["interpolate"]["tolerance"]
        base = self.sweep[self.sweep["alpha"] == 0].iloc[0]
        changes = pd.DataFrame(
            {
                "alpha": self.sweep["alpha"],
                "seed": self.seed,
                STANDARD: self.sweep["standard_accuracy"] - base["standard_accuracy"],
                ADVERSARIAL: self.sweep["adversarial_accuracy"] - base["adversarial_accuracy"],
            }
        )
        choice = {
            "alpha": self.alpha,
            "tolerance": tolerance,
            "selection": "validation",
            "images": self.validation_images,
        }
        scope = "rift" if len(self.modules) == 1 else f"top{len(self.modules)}"
        sweep = ScopeSweep(scope, changes, {self.seed: choice})
        return draw_data("interpolation", Sweeps([sweep], (scope,), (self.seed,)))

    def save(
        self, folder: str | Path, source: artifacts.Provenance | None = None, **facts: object
    ) -> None:
        """Write the network and its numbers to a folder; files of the same names are replaced.

        - ``model.safetensors``: state dict, with the names of your network. Load it with
          ``model.load_state_dict(safetensors.torch.load_file(path))``.
        - ``mrc.csv``, ``finetuning.csv``, ``sweep.csv``, ``accuracy.csv``: the tables. Their first
          line is a comment with settings and versions: ``pandas.read_csv(path, comment="#")``.
        - ``accuracy.md``, ``interpolation.png``, ``interpolation.pdf``, ``summary.html``: for
          readers.

        Args:
            folder: folder, which is created.
            source: provenance of the files; by default, the settings of this result.
            **facts: further facts to store with the weights, as JSON values.

        Raises:
            RiftError: a file cannot be written.
        """
        folder = Path(folder).expanduser()
        if source is None:
            device = next((str(weight.device) for weight in self.model.parameters()), None)
            source = artifacts.provenance("improve", self.settings, seed=self.seed, device=device)
        about = {"modules": list(self.modules), "alpha": self.alpha, **facts}
        artifacts.write_weights(folder / MODEL, snapshot(self.model), source, **about)
        tables = (self.mrc, self.history, self.sweep, self.accuracy)
        for name, table in zip((*TABLES, TABLE), tables, strict=True):
            artifacts.write_csv(folder / name, table, source)
        write_table(as_table(self.accuracy, self._caption()), folder / READABLE)
        figure = self.plot()
        for name in FIGURES:
            save_figure(figure, folder / name)
        artifacts.write_text(folder / SUMMARY, self._page(whole=True))

    def __repr__(self) -> str:
        return self.summary()

    def _repr_html_(self) -> str:
        return self._page(whole=False)

    def _finding(self) -> str:
        # The modules of a plain nn.Sequential are called 0, 1, 2, which could be read as a count.
        names = [f"module {name}" if name.isdigit() else name for name in self.modules]
        tuned = f"fine-tuned {listed(names)} of {len(self.mrc)} modules"
        if self.gained:
            return f"RiFT {tuned} and selected alpha {self.alpha:g} of {len(self.sweep)} values."
        return (
            f"Nothing gained: RiFT {tuned}, but no point of the sweep is more accurate than the"
            " base and as robust. The model is the base."
        )

    def _caption(self) -> str:
        """Return what was found, and what a time budget chose, for readers."""
        return f"{self._finding()} With the {self.budget}." if self.budget else self._finding()

    def _page(self, whole: bool) -> str:
        table = as_table(self.accuracy, self._caption())
        return pages.render(
            "improvement.html",
            whole=whole,
            style=pages.part("style.css", "overview.css"),
            table=table,
            body=Markup(html_part(table, sortable=False)),
            picture=base64.b64encode(render(self.plot(), ".png")).decode(),
            mrc=Markup(html_part(_by_rank(self.mrc, self.modules), sortable=False)),
        )


def _by_rank(mrc: pd.DataFrame, modules: Sequence[str]) -> Table:
    """Return the criticality of all modules as a table for readers, the least critical first."""
    ordered = mrc.sort_values("rank")
    shown = pd.DataFrame(
        {
            "kind": ordered["kind"],
            "weights": ordered["parameters"].map("{:,}".format),
            "MRC (nats)": [
                f"{value:.4f} ± {error:.4f}"
                for value, error in zip(ordered["mrc"], ordered["mrc_error"], strict=True)
            ],
            "images": ordered["images"].map("{:,}".format),
            "like the first": ordered["tied"].map({True: "yes", False: ""}),
            "fine-tuned": ordered["module"].isin(modules).map({True: "yes", False: ""}),
        }
    )
    shown.index = pd.Index(ordered["module"], name="module")
    notes = [
        "MRC: rise of the robust loss at the worst weight nearby, with its standard error; the"
        " least critical module is the first.",
        "like the first: cannot be distinguished from the least critical module whose rank counts.",
    ]
    if not ordered["settled"].all():
        notes.append(
            "A race measured most modules on few images, until they could not be chosen any more:"
            " compare their MRC roughly."
        )
    return Table("Module robust criticality", "", shown, mrc, notes)
