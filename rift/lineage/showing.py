"""Lineage as a tree in the terminal."""

import json

from rich.console import Console
from rich.text import Text
from rich.tree import Tree

from rift.lineage.tracing import Node

WIDTH = 240
"""Width of a line that is not cut off."""

SHORT = 12
"""Number of shown digits of a digest or a commit."""


def show(node: Node, console: Console | None = None) -> None:
    """Print the provenance of an artifact, and the tree of all that it was computed from.

    Args:
        node: the artifact.
        console: where to print; the terminal by default.
    """
    # A terminal wraps long lines itself; rich would cut them off.
    out = console or Console(width=WIDTH)
    run = _run(node.path)
    out.print(Text(node.path, style="bold"))
    for name, value in _facts(node):
        # A name is data: brackets in it are no markup.
        out.print(Text(f"  {name:<9}{value}"), soft_wrap=True)
    tree = Tree(_line(node, run), guide_style="dim")
    _grow(tree, node, run)
    out.print(tree)
    problems = [(each.path, problem) for each in node.walk() for problem in each.problems]
    for path, problem in problems:
        out.print(Text(f"{path}: {problem}", style="red"), soft_wrap=True)
    if not problems:
        out.print("everything is there and matches its digests", style="green")


def _facts(node: Node) -> list[tuple[str, str]]:
    source = node.provenance
    if not source:
        return []
    commit = source.get("commit")
    version = f"rift {source.get('rift')}" + (f", commit {commit}" if commit else "")
    facts = [
        ("stage", f"{source.get('stage')}, version {source.get('version')}"),
        ("settings", json.dumps(source.get("settings", {}), sort_keys=True)),
        ("made by", f"{version}, torch {source.get('torch')}"),
        ("digest", str(node.digest)),
    ]
    others = ("seed", "device")
    facts += [(name, str(source[name])) for name in others if source.get(name) is not None]
    return facts


def _run(path: str) -> str:
    """Return the folder of the run that a file belongs to; empty if there is none."""
    parts = path.split("/")
    return "/".join(parts[:5]) + "/" if parts[0] in ("runs", "transfers") else ""


def _grow(tree: Tree, node: Node, run: str) -> None:
    for each in node.inputs:
        _grow(tree.add(_line(each, run)), each, run)


def _line(node: Node, run: str) -> Text:
    """Return the line of a node: its role and path, stage and digest, and what is wrong.

    Args:
        node: the node.
        run: folder of the run at the root, which the paths omit.
    """
    text = Text(f"{node.role}: " if node.role not in ("", node.path) else "", style="dim")
    text.append(node.path.removeprefix(run) if run else node.path, style="default")
    stage = node.provenance.get("stage")
    made = [str(stage)] if stage else []
    if node.provenance.get("seed") is not None:
        made.append(f"seed {node.provenance['seed']}")
    if node.digest:
        made.append(node.digest[:SHORT])
    if made:
        text.append(f"  {', '.join(made)}", style="cyan")
    if node.repeated:
        text.append("  (inputs: see above)", style="dim")
    for note in node.notes:
        text.append(f"  {note}", style="yellow")
    for problem in node.problems:
        text.append(f"  {problem}", style="red")
    return text
