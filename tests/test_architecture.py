"""The structure of the package: layers, import cycles, sizes, and additions."""

import ast
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from rift import Result

LAYERS = [
    {
        "cluster",
        "layout",
        "device",
        "statistics",
        "progress",
        "seeds",
        "thirdparty",
        "errors",
    },
    {"config"},
    {"artifacts"},
    {"data", "models"},
    {
        "attacks",
        "criticality",
        "evaluation",
        "finetuning",
        "importing",
        "interpolation",
        "training",
        "transferring",
    },
    {"lineage", "reporting"},
    {"api", "running"},
    {"__main__", "commands"},
]
LEVEL = {module: level for level, modules in enumerate(LAYERS) for module in modules}


def imports(path: Path) -> set[str]:
    """Return the modules of rift that a file imports anywhere."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module == "rift":
            found |= {f"rift.{alias.name}" for alias in node.names if alias.name != "__version__"}
        elif isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("rift."):
            found.add(node.module)
    return found


def sources(repository: Path) -> Iterator[Path]:
    yield from sorted((repository / "rift").rglob("*.py"))


def test_imports_point_down(repository: Path) -> None:
    files = [
        path
        for path in sources(repository)
        if path.parent.name != "rift" or path.stem != "__init__"
    ]
    rooms = {path.relative_to(repository / "rift").parts[0].removesuffix(".py") for path in files}
    assert rooms == set(LEVEL)
    for path in files:
        own = path.relative_to(repository / "rift").parts[0].removesuffix(".py")
        below = {module.split(".")[1] for module in imports(path)}
        assert all(LEVEL[module] <= LEVEL[own] for module in below), path


def runtime_imports(path: Path) -> set[str]:
    """Return the modules of rift that a file imports when it is imported itself.

    Imports within functions or for types only do not count.
    """
    found = set()
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("rift"):
            found |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def test_imports_have_no_circle(repository: Path) -> None:
    """The check skips files that re-export a folder.

    Python imports them before every file of the folder.
    """
    root = repository / "rift"
    modules = {
        ".".join(("rift", *path.relative_to(root).with_suffix("").parts)): path
        for path in sources(repository)
        if path.stem != "__init__"
    }
    waiting = {name: runtime_imports(path) & set(modules) for name, path in modules.items()}
    while ready := [name for name, needs in waiting.items() if not needs & set(waiting)]:
        for name in ready:
            del waiting[name]
    assert waiting == {}


def test_no_test_imports_a_private_name(repository: Path) -> None:
    for path in (repository / "tests").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("rift"):
                private = [alias.name for alias in node.names if alias.name.startswith("_")]
                assert set(private) <= {"__version__"}, path


@pytest.mark.parametrize(
    "module",
    ["rift", "rift.config", "rift.layout", "rift.reporting.figures", "rift.commands.main"],
)
def test_some_modules_do_without_torch(module: str) -> None:
    program = f"import sys, {module}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


def test_no_file_and_no_function_is_too_long_to_read(repository: Path) -> None:
    for path in sources(repository):
        text = path.read_text()
        assert len(text.splitlines()) <= 400, path
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef):
                assert node.end_lineno is not None
                assert node.end_lineno - node.lineno < 80, f"{path}: {node.name}"


def test_the_workflow_has_the_paths_of_the_layout(repository: Path) -> None:
    """Rules contain the path of every artifact of a run, exactly as ``rift.layout`` names it."""
    from rift import layout

    rules = "\n".join(path.read_text() for path in (repository / "workflow/rules").glob("*.smk"))
    below_run = [
        layout.BASE,
        layout.TRAINING,
        layout.IMPORTED,
        layout.CRITICALITY,
        *(make("{scope}") for make in (layout.finetuned, layout.finetuning, layout.sweep)),
        *(make("{scope}") for make in (layout.selected, layout.selection)),
        *(
            make("{variant}", name)
            for make in (layout.result, layout.outcomes)
            for name in ("standard", "ood", "adversarial")
        ),
    ]
    below_results = [
        layout.prepared("{dataset}"),
        layout.manifest("{dataset}"),
        layout.corrupted("{dataset}", "{corruption}"),
        *(layout.table("{table}", suffix) for suffix in ("html", "csv", "md", "tex")),
        *(layout.figure("{figure}", suffix, dataset="{dataset}") for suffix in ("png", "pdf")),
    ]
    for path in (*(f"{{run}}/{path}" for path in below_run), *below_results):
        assert f'"<results>/{path}"' in rules, path


def test_the_python_in_the_readme_runs(repository: Path) -> None:
    (program,) = re.findall(r"```python\n(.*?)```", (repository / "README.md").read_text(), re.S)
    names: dict[str, object] = {}
    exec(program, names)
    assert isinstance(names["result"], Result)
    assert len(names["result"].mrc) == 10


@pytest.mark.long
def test_the_python_in_the_page_on_python_runs(
    repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The page ends with the network that it begins with."""
    monkeypatch.chdir(tmp_path)
    *blocks, network = re.findall(
        r"```python\n(.*?)```", (repository / "docs/python.md").read_text(), re.S
    )
    names: dict[str, object] = {}
    for block in (network, *blocks):
        exec(block, names)
    assert isinstance(names["result"], Result)
    assert names["result"].gained
    assert (tmp_path / "better/model.safetensors").exists()


# For each kind: the new file, its content, the file of the dict, the new line of the dict, the
# import, the type of the names, and a check.
ADDITIONS = {
    "data set": (
        "data/sources/dummy.py",
        "from rift.data.sources.digits import digits\n",
        "data/sources/__init__.py",
        '    "dummy": Dataset(dummy.digits),\n',
        "from rift.data.sources import dummy\n",
        "DatasetName",
        "from rift import data, config\n"
        "assert len(data.prepare('dummy', config.Data()).labels['train']) > 1000",
    ),
    "architecture": (
        "models/architectures/dummy.py",
        "from torch import nn\n\n\ndef dummy(classes, channels, size):\n"
        "    return nn.Sequential(nn.Flatten(), nn.Linear(channels * size**2, classes))\n",
        "models/architectures/__init__.py",
        '    "dummy": dummy,\n',
        "from rift.models.architectures.dummy import dummy\n",
        "ArchitectureName",
        "from rift import models\nmodels.build('dummy', classes=3, size=4, mean=(0.,), std=(1.,))",
    ),
    "regime": (
        "training/regimes/dummy.py",
        "from rift.training.regimes.standard import loss\n",
        "training/regimes/__init__.py",
        '    "dummy": Regime(dummy.loss, None, kept_by="standard"),\n',
        "from rift.training.regimes import dummy\n",
        "RegimeName",
        "from rift.training.regimes import REGIMES\nREGIMES['dummy']",
    ),
    "method": (
        "training/methods/dummy.py",
        "from rift.training.regimes.pgd import loss\n",
        "training/methods/__init__.py",
        '    "dummy": Regime(dummy.loss, None),\n',
        "from rift.training.methods import dummy\n",
        "MethodName",
        "from rift.config import sections_of_other_methods\n"
        "from rift.training.methods import METHODS\n"
        "METHODS['dummy'], sections_of_other_methods('dummy')",
    ),
    "scope": (
        "criticality/scopes/dummy.py",
        "def dummy(table, candidates):\n    return [table[0].module]\n",
        "criticality/scopes/__init__.py",
        '    "dummy": ScopeKind(dummy),\n',
        "from rift.criticality.scopes.dummy import dummy\n",
        "NamedScope",
        "from types import SimpleNamespace as Row\n"
        "from rift.criticality import modules_of\n"
        "rows = [Row(module=name, parameters=1, rank=1) for name in ('first', 'second')]\n"
        "assert modules_of('dummy', rows) == ['first']",
    ),
    "search": (
        "criticality/searches/dummy.py",
        "from rift.criticality.searches.gradient import gradient as dummy\n",
        "criticality/searches/__init__.py",
        '    "dummy": Search(dummy),\n',
        "from rift.criticality.searches.dummy import dummy\n",
        "SearchName",
        "from rift.config import Criticality\nCriticality(method='dummy')",
    ),
    "table": (
        "reporting/tables/dummy.py",
        "from rift.reporting.tables.cost import cost as dummy\n",
        "reporting/tables/__init__.py",
        '    "dummy": dummy,\n',
        "from rift.reporting.tables.dummy import dummy\n",
        "TableName",
        "from rift.reporting.tables import TABLES\nTABLES['dummy']",
    ),
    "figure": (
        "reporting/figures/dummy.py",
        "from rift.reporting.figures.training import collect, draw\n",
        "reporting/figures/__init__.py",
        '    "dummy": FigureKind(dummy.collect, dummy.draw),\n',
        "from rift.reporting.figures import dummy\n",
        "FigureName",
        "from rift.reporting.figures import FIGURES\nFIGURES['dummy']",
    ),
}


@pytest.mark.parametrize("kind", ADDITIONS)
def test_a_new_thing_is_one_file_one_line_and_one_name(
    kind: str, repository: Path, tmp_path: Path
) -> None:
    """After the addition, a copy of the package accepts and uses its name."""
    file, content, registry, line, imported, type_of_names, check = ADDITIONS[kind]
    package = tmp_path / "rift"
    shutil.copytree(repository / "rift", package, ignore=shutil.ignore_patterns("__pycache__"))
    (package / file).write_text(content)
    text = (package / registry).read_text()
    opening = re.search(r"^[A-Z]+: dict\[.*\] = \{\n", text, re.M)
    assert opening is not None
    text = text[: opening.end()] + line + text[opening.end() :]
    first = re.search(r"^from ", text, re.M)
    assert first is not None
    (package / registry).write_text(text[: first.start()] + imported + text[first.start() :])
    names = package / "config/names.py"
    changed = re.sub(
        rf"^({type_of_names} = Literal\[)", r'\1"dummy", ', names.read_text(), flags=re.M
    )
    names.write_text(changed)
    answer = subprocess.run(
        [sys.executable, "-c", check],
        cwd=tmp_path,
        env={"PYTHONPATH": str(tmp_path), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert answer.returncode == 0, answer.stderr


def test_every_test_that_the_page_on_reliability_names_exists(repository: Path) -> None:
    page = (repository / "docs/reliability.md").read_text()
    named = re.findall(r"`(tests/[\w/]+\.py)(?:::(\w+))?`", page)
    assert len(named) > 10
    for file, test in named:
        assert f"def {test}" in (repository / file).read_text(), (file, test)
