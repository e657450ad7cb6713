"""Reading experiment files: YAML, checks, and messages that name every problem."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml
from pydantic import (
    ValidationError,
)

from rift.config.experiment import Experiment
from rift.config.names import OPEN_NAMES
from rift.config.protocols import PROTOCOLS
from rift.config.values import merge
from rift.errors import RiftError


class _UniqueKeyLoader(yaml.SafeLoader):
    """A loader that refuses a key given twice, which YAML would settle in silence for the last one."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]
        for key in keys:
            if keys.count(key) > 1:
                raise yaml.constructor.ConstructorError(
                    None, None, f"key {key!r} stands twice", node.start_mark
                )
        return super().construct_mapping(node, deep)


def read(path: Path) -> Experiment:
    """Read an experiment file.

    Raises:
        RiftError: as ``load`` and ``parse``.
    """
    return parse(load(path), str(path))


def load(path: Path) -> object:
    """Read the content of a YAML file, unchecked but for keys that stand twice.

    Raises:
        RiftError: the file cannot be read or is not YAML.
    """
    try:
        return yaml.load(path.read_text(), Loader=_UniqueKeyLoader)
    except OSError as error:
        raise RiftError(f"{path}: cannot be read: {error.strerror}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise RiftError(f"{path}: is not valid YAML: {' '.join(str(error).split())}") from error


def parse(content: object, source: str) -> Experiment:
    """Check the content of an experiment file; ``source`` names it in messages.

    Raises:
        RiftError: everything that the schema does not allow, in one message with the paths.
    """
    if not isinstance(content, Mapping):
        raise RiftError(
            f"{source}: must be a mapping with the keys {', '.join(Experiment.model_fields)}"
        )
    try:
        # Through JSON, where "strict" still takes a list for a tuple, but neither "10" nor 10.0 nor true for 10.
        text = json.dumps(content, default=str)
        protocol = content.get("protocol")
        if isinstance(protocol, str) and protocol in PROTOCOLS:
            # Beneath the file before it is checked: settings of the file may go with those of the protocol alone.
            text = json.dumps(
                merge(PROTOCOLS[protocol].settings, json.loads(text))
            )  # what holds itself has failed by now
        return Experiment.model_validate_json(text, strict=True)
    except ValidationError as error:
        raise RiftError(describe(error, source)) from error
    except ValueError as error:
        raise RiftError(f"{source}: holds itself as a part: {error}") from error


def describe(error: ValidationError, source: str, prefix: str = "", within: int = 0) -> str:
    """Say in one message what a validation found: a line a problem, each with its path.

    Args:
        error: what pydantic raised.
        source: file or command that was checked.
        prefix: put before each path (``--`` makes flags of them).
        within: how many first parts of every path to leave out.
    """
    problems: dict[str, str] = {}
    for path, message in _problems(error, within):
        problems[path] = f"{problems[path]}, or: {message}" if path in problems else message
    count = "1 problem" if len(problems) == 1 else f"{len(problems)} problems"
    lines = [
        f"{prefix}{path}: {message}" if path else message for path, message in problems.items()
    ]
    return "\n  ".join([f"{source}: {count}", *lines])


def _problems(error: ValidationError, within: int) -> Iterator[tuple[str, str]]:
    for problem in error.errors(include_url=False):
        found = problem["input"]
        # Members of a union are part of pydantic's path, but of no path in the file.
        path = ".".join(str(part) for part in problem["loc"][within:] if not _is_union_member(part))
        match problem["type"]:
            case "extra_forbidden":
                message = "is not a key of this section"
            case "missing":
                message = "is missing"
            case "literal_error":
                message = f"{found!r} is not available; available: {problem['ctx']['expected']}"
            case "too_short" if found:
                continue  # some of its entries were refused, which is said at each of them
            case "too_short":
                message = "must not be empty"
            case "tuple_type" | "list_type":
                message = f"must be a list (found {found!r})"
            case "model_type" | "model_attributes_type":
                message = f"must be a section of keys (found {found!r})"
            case "string_pattern_mismatch" if problem["ctx"]["pattern"] in OPEN_NAMES:
                message = OPEN_NAMES[problem["ctx"]["pattern"]]
            case _:
                message = problem["msg"].removeprefix("Value error, ")
                message += "" if isinstance(found, Mapping) else f" (found {found!r})"
        yield path, message


def _is_union_member(part: int | str) -> bool:
    return isinstance(part, str) and (
        part in ("int", "str", "list-name", "names")
        or part.startswith(("literal[", "constrained-"))
    )


def schema() -> dict[str, Any]:
    """JSON schema of an experiment file, for editors."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **Experiment.model_json_schema(),
    }
