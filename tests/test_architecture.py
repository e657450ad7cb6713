import ast
import re
from pathlib import Path

LAYERS = [
    {"compatibility", "errors"},
    {"config", "progress", "seeds", "statistics"},
    {"artifacts"},
    {"data", "models"},
    {"attacks", "criticality", "evaluation", "finetuning", "interpolation", "scopes", "training"},
    {"reporting"},
    {"__main__", "cli", "doctor"},
]
LEVEL = {module: level for level, modules in enumerate(LAYERS) for module in modules}


def imports(path: Path) -> set[str]:
    """Modules of rift that a file imports, wherever in it."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module == "rift":
            found |= {alias.name for alias in node.names if alias.name != "__version__"}
        elif isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("rift."):
            found.add(node.module.split(".")[1])
    return found


def test_imports_point_down(repository: Path) -> None:
    files = [
        path for path in (repository / "rift").rglob("*.py") if path.name != "__init__.py" or path.parent.name != "rift"
    ]
    assert {path.relative_to(repository / "rift").parts[0].removesuffix(".py") for path in files} == set(LEVEL)
    for path in files:
        own = path.relative_to(repository / "rift").parts[0].removesuffix(".py")
        assert all(LEVEL[module] <= LEVEL[own] for module in imports(path)), path


def test_reporting_does_without_torch(repository: Path) -> None:
    for path in (repository / "rift/reporting").rglob("*.py"):
        assert "torch" not in path.read_text().replace("no torch", ""), path


def test_the_python_in_the_readme_runs(repository: Path) -> None:
    (program,) = re.findall(r"```python\n(.*?)```", (repository / "README.md").read_text(), re.S)
    names: dict[str, object] = {}
    exec(program, names)
    assert isinstance(names["table"], list)
    assert len(names["table"]) == 10
