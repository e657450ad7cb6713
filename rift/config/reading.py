"""Reading and checking of experiment files, with error messages that list all problems."""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from rift.config.experiment import Experiment
from rift.config.names import OPEN_NAMES
from rift.config.protocols import PROTOCOLS
from rift.config.values import merge
from rift.errors import RiftError

MOST_CHARACTERS = 100_000
"""Largest size of an experiment file, also after its aliases are replaced."""

MOST_PROBLEMS = 50
"""Largest number of problems in one error message."""


class _UniqueKeyLoader(yaml.SafeLoader):
    """YAML loader that refuses duplicate keys; PyYAML would silently use the last one.

    It also refuses a file that its aliases expand to more than ``MOST_CHARACTERS``.
    """

    def get_single_node(self) -> yaml.Node | None:
        node: yaml.Node | None = super().get_single_node()
        if node is not None and _expanded_size(node, _node_parts) > MOST_CHARACTERS:
            raise RiftError(TOO_LARGE)
        return node

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen = set()
        for key in (self.construct_object(key, deep=True) for key, _ in node.value):
            # A key that is a list or a mapping is refused by PyYAML, with a message of its own.
            if isinstance(key, list | dict):
                continue
            if key in seen:
                raise yaml.constructor.ConstructorError(
                    None, None, f"key {key!r} occurs twice; remove one", node.start_mark
                )
            seen.add(key)
        return super().construct_mapping(node, deep)


TOO_LARGE = (
    f"has more than {MOST_CHARACTERS:,} characters after its aliases are replaced; an experiment"
    " needs a few thousand, so remove aliases or lists"
)


def _expanded_size(value: object, parts: Callable[[Any], tuple[int, Iterable[object]]]) -> int:
    """Return the size of a value if every reference to a part counts as a copy of the part.

    Args:
        value: value whose parts may occur several times, or contain the value itself.
        parts: function value → its own size and its parts.
    """
    sizes: dict[int, int] = {}

    def size(value: object) -> int:
        if id(value) not in sizes:
            # A value that contains itself has no size; it is refused elsewhere.
            sizes[id(value)] = 0
            own, inside = parts(value)
            sizes[id(value)] = own + sum(size(part) for part in inside)
        return sizes[id(value)]

    return size(value)


def _node_parts(node: yaml.Node) -> tuple[int, Iterable[object]]:
    match node:
        case yaml.MappingNode():
            return 1, (part for pair in node.value for part in pair)
        case yaml.SequenceNode():
            return 1, node.value
    return 1 + len(node.value), ()


def _value_parts(value: object) -> tuple[int, Iterable[object]]:
    match value:
        case Mapping():
            return 1, (part for pair in value.items() for part in pair)
        case list() | tuple():
            return 1, value
        case str() | bytes():
            return 1 + len(value), ()
    return 1, ()


def read(path: Path) -> Experiment:
    """Read an experiment file.

    Raises:
        RiftError: the file cannot be read, is not YAML, or violates the schema.
    """
    return parse(load(path), str(path))


def load(path: Path) -> object:
    """Read the content of a YAML file without checking it against the schema.

    Raises:
        RiftError: the file cannot be read, is not YAML, is too large, or contains a key twice.
    """
    try:
        text = path.read_text(encoding="utf-8")
        if len(text) > MOST_CHARACTERS:
            raise RiftError(f"has more than {MOST_CHARACTERS:,} characters; name another file")
        return yaml.load(text, Loader=_UniqueKeyLoader)
    except RiftError as error:
        raise RiftError(f"{path}: {error}") from error
    except OSError as error:
        raise RiftError(f"{path}: cannot be read: {error.strerror}; check the path") from error
    except RecursionError as error:
        raise RiftError(f"{path}: is nested too deeply; correct the file") from error
    except Exception as error:  # a tag with a wrong value gives an exception of its own
        problem = " ".join(str(error).split()) or type(error).__name__
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
        # Without a limit, a few lines of aliases of aliases would expand to gigabytes of JSON.
        if _expanded_size(content, _value_parts) > MOST_CHARACTERS:
            raise RiftError(f"{source}: {TOO_LARGE}")
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
    except TypeError as error:
        raise RiftError(f"{source}: a key is not text ({error}); put it in quotes") from error
    except RecursionError as error:
        raise RiftError(f"{source}: is nested too deeply; correct the file") from error


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
    if len(lines) > MOST_PROBLEMS:
        lines = [*lines[:MOST_PROBLEMS], f"and {len(lines) - MOST_PROBLEMS} more"]
    return "\n  ".join([f"{source}: {count}", *lines])


def _problems(error: ValidationError, within: int) -> Iterator[tuple[str, str]]:
    paths: set[str] = set()
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
                message = (
                    f"{_shown(found)} is not available; available: {problem['ctx']['expected']}"
                )
            case "too_short" if found:
                # The entries exist but are invalid, and each of them has its own message.
                continue
            case "default_factory_not_called":
                # The default depends on another key, and that key has its own message.
                continue
            case "too_short":
                message = "must not be empty"
            case "tuple_type" | "list_type":
                message = f"must be a list (found {_shown(found)})"
            case "model_type" | "model_attributes_type":
                message = f"must be a section of keys (found {_shown(found)})"
            case "string_pattern_mismatch" if problem["ctx"]["pattern"] in OPEN_NAMES:
                # After the names of a list, a form is one more possibility.
                message = "" if path in paths else f"{_shown(found)} is not of the form "
                message += OPEN_NAMES[problem["ctx"]["pattern"]]
            case _:
                message = problem["msg"].removeprefix("Value error, ")
                message += "" if isinstance(found, Mapping) else f" (found {_shown(found)})"
        paths.add(path)
        yield path, message


def _shown(value: object) -> str:
    """Return a value as text of at most 100 characters."""
    text = repr(value)
    return text if len(text) <= 100 else f"{text[:99]}…"


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
