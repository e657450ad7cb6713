"""Read the results of an experiment with pandas: python read_results.py [FOLDER]."""

import sys
from pathlib import Path

import numpy as np
import pandas as pd

folder = Path(sys.argv[1] if len(sys.argv) > 1 else "results/demo")

# Tables are there as CSV, too: one row per variant and metric, means over seeds, changes to the
# base.
table = pd.read_csv(folder / "tables/main.csv", comment="#")
print(table[["variant", "metric", "mean", "delta_mean", "delta_low", "delta_high"]].round(2), "\n")

# Every run has a folder: runs/DATASET/ARCHITECTURE/REGIME/seedN.
run = sorted(folder.glob("runs/*/*/*/seed*"))[0]

# Files of a run begin with a comment that says how they were made.
sweep = pd.read_csv(run / "rift/sweep.csv", comment="#")
print(sweep.round(2), "\n")
criticality = pd.read_csv(run / "criticality.csv", comment="#")
print(criticality.nsmallest(3, "rank")[["module", "parameters", "mrc", "mrc_error"]].round(4), "\n")

# Outcomes are booleans, one per test image: which images does RiFT gain and lose?
before, after = (
    np.load(run / f"evaluation/{variant}/standard.npz")["standard"] for variant in ("base", "rift")
)
print(f"{(after & ~before).sum()} test images gained, {(before & ~after).sum()} lost")
