"""Generated pages of the documentation site."""

from collections.abc import Iterator, Mapping
from typing import Any

from rift import config
from rift.config.values import flag_text

SHOWN_CHOICES = 20
"""Largest number of names that a row lists; the descriptions of longer lists name them."""

MODULES = {
    "RiFT in one call, and its steps": ("rift.api",),
    "Criticality": ("rift.criticality",),
    "Fine-tuning and interpolation": ("rift.finetuning", "rift.interpolation"),
    "Attacks": ("rift.attacks",),
    "Training and transfer": ("rift.training.trainer", "rift.transferring"),
    "Evaluation and statistics": ("rift.evaluation.accuracy", "rift.statistics"),
    "Images, models and files": (
        "rift.data.images",
        "rift.models.building",
        "rift.models.checkpoint",
        "rift.models.export",
    ),
}


def configuration_page() -> str:
    """Return a page with every key of an experiment file, from the schema that checks the file."""
    schema = config.schema()
    lines = [
        "# Every key of an experiment file",
        "",
        "Generated from the schema that checks the files. `train.epochs` is the key `epochs` of the"
        " section `train`, and `--train.epochs` on the command line."
        " [config/README.md](../../config/README.md) says what the files in `config/` are for.",
    ]
    top: list[tuple[str, Mapping[str, Any]]] = []
    for name, field in schema["properties"].items():
        section = _section(field, schema)
        if section is None:
            top.append((name, field))
            continue
        keys = list(_keys(section, schema, f"{name}."))
        if keys:
            lines += ["", f"## {name}", "", _sentence(field, section), "", *_table(keys, schema)]
    lines[3:3] = ["", "## Top level", "", *_table(top, schema)]
    return "\n".join(lines) + "\n"


def python_page() -> str:
    """Return a page that makes Sphinx document the public functions and classes of modules."""
    lines = ["# Python reference", "", "Generated from the docstrings."]
    for title, modules in MODULES.items():
        lines += ["", f"## {title}"]
        for module in modules:
            lines += ["", f"```{{eval-rst}}\n.. automodule:: {module}\n   :members:\n```"]
    return "\n".join(lines) + "\n"


def _section(field: Mapping[str, Any], schema: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """Return the definition of a section, or None if the field is a value."""
    found = schema["$defs"].get(str(field.get("$ref", "")).rpartition("/")[2])
    return found if found is not None and "properties" in found else None


def _keys(
    section: Mapping[str, Any], schema: Mapping[str, Any], prefix: str
) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Yield all keys of a section with their fields, those of sections within it included."""
    for name, field in section["properties"].items():
        inner = _section(field, schema)
        if inner is None:
            yield f"{prefix}{name}", field
        else:
            yield from _keys(inner, schema, f"{prefix}{name}.")


def _table(fields: list[tuple[str, Mapping[str, Any]]], schema: Mapping[str, Any]) -> list[str]:
    rows = ["| key | default | meaning |", "|:--|:--|:--|"]
    for name, field in fields:
        cells = (f"`{name}`", _default(field), _meaning(field, schema))
        rows.append("| " + " | ".join(cell.replace("|", r"\|") for cell in cells) + " |")
    return rows


def _default(field: Mapping[str, Any]) -> str:
    if "default" not in field:
        return "required"
    value = field["default"]
    if isinstance(value, list | tuple) and len(value) > SHOWN_CHOICES:
        return "all"
    return "–" if value is None or value in ({}, []) else f"`{flag_text(value)}`"


def _meaning(field: Mapping[str, Any], schema: Mapping[str, Any]) -> str:
    choices = list(_choices(field, schema))
    text = str(field.get("description", ""))
    if 1 < len(choices) <= SHOWN_CHOICES:
        text += f" Names: {', '.join(f'`{name}`' for name in dict.fromkeys(choices))}."
    return text.strip()


def _choices(field: Mapping[str, Any], schema: Mapping[str, Any]) -> Iterator[str]:
    """Yield the names that a field accepts, or its list."""
    if "$ref" in field:
        yield from _choices(schema["$defs"][field["$ref"].rpartition("/")[2]], schema)
    yield from (str(name) for name in field.get("enum", ()))
    for part in (*field.get("anyOf", ()), *([field["items"]] if "items" in field else ())):
        yield from _choices(part, schema)


def _sentence(field: Mapping[str, Any], section: Mapping[str, Any]) -> str:
    text = str(field.get("description") or section.get("description") or "")
    return " ".join(text.replace("``", "`").split())
