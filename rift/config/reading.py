"""Reading and checking of experiment files, with error messages that list all problems."""

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
    """YAML loader that refuses duplicate keys; PyYAML would silently use the last one."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]
        for key in keys:
            if keys.count(key) > 1:
                raise yaml.constructor.ConstructorError(
                    None, None, f"key {key!r} occurs twice; remove one", node.start_mark
                )
        return super().construct_mapping(node, deep)


def read(path: Path) -> Experiment:
    """Read an experiment file.

    Raises:
        RiftError: the file cannot be read, is not YAML, or violates the schema.
    """
    return parse(load(path), str(path))


def load(path: Path) -> object:
    """Read the content of a YAML file without checking it against the schema.

    Raises:
        RiftError: the file cannot be read, is not YAML, or contains a key twice.
    """
    try:
        return yaml.load(path.read_text(), Loader=_UniqueKeyLoader)
    except OSError as error:
        raise RiftError(f"{path}: cannot be read: {error.strerror}; check the path") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        problem = " ".join(str(error).split())
        raise RiftError(f"{path}: is not valid YAML: {problem}; correct the file") from error


def parse(content: object, source: str) -> Experiment:
    """Check the content of an experiment file.

    Args:
        content: content of the file, as returned by ``load``.
        source: name of the file for error messages.

    Raises:
        RiftError: the content violates the schema; the message lists all problems.
    """
    if not isinstance(content, Mapping):
        raise RiftError(
            f"{source}: must be a mapping with the keys {', '.join(Experiment.model_fields)}"
        )
    try:
        # In JSON, strict validation accepts a list as a tuple, but still refuses "10", 10.0 and
        # true as 10.
        text = json.dumps(content, default=str)
        protocol = content.get("protocol")
        if isinstance(protocol, str) and protocol in PROTOCOLS:
            # The protocol comes first, because settings of the file can be valid only together with
            # it. The first dump has already refused content that contains itself.
            text = json.dumps(merge(PROTOCOLS[protocol].settings, json.loads(text)))
        return Experiment.model_validate_json(text, strict=True)
    except ValidationError as error:
        raise RiftError(describe(error, source)) from error
    except ValueError as error:
        raise RiftError(
            f"{source}: a YAML alias refers to a value that contains it: {error}; remove it"
        ) from error


def describe(error: ValidationError, source: str, prefix: str = "", within: int = 0) -> str:
    """Return a message for a validation error, with one line per problem and its path.

    Args:
        error: error of pydantic.
        source: file or command that was checked.
        prefix: text in front of every path, such as ``--`` for flags.
        within: number of leading parts to remove from every path.
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
        # The path of pydantic contains members of unions, which are no keys of the file.
        path = ".".join(str(part) for part in problem["loc"][within:] if not _is_union_member(part))
        match problem["type"]:
            case "extra_forbidden":
                message = "is not a key of this section; check its spelling, or remove it"
            case "missing":
                message = "is missing; add it"
            case "literal_error":
                message = f"{found!r} is not available; available: {problem['ctx']['expected']}"
            case "too_short" if found:
                # The entries exist but are invalid, and each of them has its own message.
                continue
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
    """Return the JSON schema of an experiment file, which editors can use."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **Experiment.model_json_schema(),
    }
