"""Compare the numbers of two results folders: tensors, arrays and tables, without their provenance.

    python tests/golden.py write results/demo golden.json      # before a change
    python tests/golden.py compare results/demo golden.json    # after it, on the same machine

Equal settings must give equal numbers, bit for bit. The comparison leaves out times: the cost
table, benchmarks, and the speed and seconds of training histories.
"""

import argparse
import hashlib
import io
import json
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
from safetensors import safe_open

TIMES = ["images_per_second", "seconds"]


def parts(path: Path) -> Iterator[tuple[str, bytes]]:
    """Yield names and bytes of the numbers of an artifact."""
    if path.suffix == ".safetensors":
        with safe_open(path, framework="np") as content:
            for name in sorted(content.keys()):
                array = content.get_tensor(name)
                yield name, f"{array.dtype} {array.shape}".encode() + array.tobytes()
    elif path.suffix == ".npz":
        with np.load(path, allow_pickle=False) as content:
            for name in sorted(set(content.files) - {"provenance"}):
                yield name, f"{content[name].shape}".encode() + content[name].tobytes()
    elif path.suffix == ".npy":
        yield "", np.load(path, allow_pickle=False).tobytes()
    elif path.suffix == ".csv":
        table = pd.read_csv(path, comment="#", dtype=str, keep_default_na=False)
        buffer = io.StringIO()
        table.drop(columns=TIMES, errors="ignore").to_csv(buffer, index=False)
        yield "", buffer.getvalue().encode()
    elif path.suffix == ".json":
        content = json.loads(path.read_text(encoding="utf-8"))
        content.pop("provenance", None)
        yield "", json.dumps(content, sort_keys=True).encode()


def digests(folder: Path) -> dict[str, str]:
    """Return a digest of every part of every artifact below a folder."""
    found: dict[str, str] = {}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        # Names with a dot are second names of finished outputs.
        if name.startswith(("benchmarks", "logs", "figures")) or path.name.startswith("."):
            continue
        # Lineages contain digests of files with times, and of pictures.
        if name == "tables/cost.csv" or name.endswith(".lineage.json"):
            continue
        for part, content in parts(path) if path.is_file() else ():
            found[f"{name} {part}".strip()] = hashlib.sha256(content).hexdigest()
    return found


def size(folder: Path) -> int:
    """Return the number of compared bytes."""
    files = [path for path in folder.rglob("[!.]*") if path.is_file()]
    return sum(len(content) for path in files for _, content in parts(path))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("action", choices=("write", "compare"))
    parser.add_argument("results", type=Path)
    parser.add_argument("golden", type=Path)
    arguments = parser.parse_args()
    now = digests(arguments.results)
    if not now:
        sys.exit(f"{arguments.results}: contains no artifacts")
    if arguments.action == "write":
        arguments.golden.write_text(json.dumps(now, indent=1))
        return
    before = json.loads(arguments.golden.read_text())
    differing = sorted(name for name in {*before, *now} if before.get(name) != now.get(name))
    for name in differing:
        kind = (
            "differs" if name in before and name in now else "missing" if name in before else "new"
        )
        print(f"{kind}: {name}")
    files = len({name.split(" ")[0] for name in before})
    print(
        f"{len(before)} parts of {files} files, {size(arguments.results):,} bytes, "
        f"{len(differing)} differ"
    )
    if differing:
        sys.exit(1)


if __name__ == "__main__":
    main()
