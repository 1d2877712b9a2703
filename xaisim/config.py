"""Strict reader of what a user writes: YAML 1.2 straight into a frozen pydantic model, every error at once.

    class Dma(Config):
        issue_cycles: int = Field(ge=0)

    dma = load_yaml(Dma, "dma.yaml")

A wrong file raises ``UserError`` with one line per problem: ``dma.yaml:1:15: issue_cycles: must be … (got -3)``.
"""

from __future__ import annotations

import difflib
import inspect
import json
import math
import re
import types
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, NamedTuple, TypeVar, Union, get_args, get_origin

from pydantic import (
    AliasChoices,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    PlainSerializer,
    Tag,
    ValidationError,
    WithJsonSchema,
)
from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

KeyPath = tuple[str | int, ...]


class UserError(Exception):
    """A mistake in what the user gave, told in one line per problem. The command line prints it and exits 2."""


class RuleError(ValueError):
    """Rules between several keys that do not hold: a list of (path below the model, text). Raised by validators."""

    def __init__(self, problems: Sequence[tuple[KeyPath, str]]) -> None:
        self.problems = tuple(problems)
        super().__init__("; ".join(f"{_path_text(path)}: {text}" if path else text for path, text in problems))


class Config(BaseModel):
    """The base of every noun that is read from a file: frozen, strict about types, no unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False, validate_default=True)


M = TypeVar("M", bound=BaseModel)

# ---------------------------------------------------------------------------------------------------------------------
# Quantities

_UNITS = {"B": 1, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30}


def parse_bytes(value: object) -> int:
    """Return the number of bytes in ``128KiB``, ``1.5 MiB``, ``2GiB`` or ``512B``; raise ``ValueError`` otherwise."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        raise ValueError("missing unit; write e.g. 128KiB")
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([A-Za-z]*)", value) if isinstance(value, str) else None
    if match is None:
        raise ValueError("must be a size such as 128KiB")
    number, unit = match.groups()
    if not unit:
        raise ValueError("missing unit; write e.g. 128KiB")
    if unit not in _UNITS:
        raise ValueError(f"unknown unit {unit!r}; choices: {', '.join(_UNITS)}")
    size = float(number) * _UNITS[unit]
    if size != int(size) or size < 1:
        raise ValueError("must be a whole number of bytes, at least 1")
    return int(size)


def format_bytes(size: int) -> str:
    """Write a size in the largest unit that divides it, such that ``parse_bytes`` gives it back: ``128KiB``."""
    unit = next(unit for unit, factor in reversed(_UNITS.items()) if size % factor == 0)
    return f"{size // _UNITS[unit]}{unit}"


Bytes = Annotated[
    int,
    BeforeValidator(parse_bytes),
    PlainSerializer(format_bytes, return_type=str, when_used="json"),
    WithJsonSchema({"type": "string", "pattern": r"^\d+(\.\d+)?\s*(B|KiB|MiB|GiB)$", "examples": ["128KiB"]}),
]
"""A number of bytes, written with its unit."""

# ---------------------------------------------------------------------------------------------------------------------
# Choosing by name


def did_you_mean(value: str, choices: Iterable[str]) -> str:
    """Return ``; did you mean 'x'?`` for the choice nearest to ``value``, or an empty string if none is near."""
    by_lower = {choice.lower(): choice for choice in choices}
    near = difflib.get_close_matches(value.lower(), by_lower, n=1)
    return f"; did you mean '{by_lower[near[0]]}'?" if near else ""


def choose(kind: str, value: str, choices: Iterable[str]) -> str:
    """Return ``value`` if it is one of ``choices``; raise ``UserError`` with the nearest match and all choices."""
    known = list(choices)
    if value in known:
        return value
    raise UserError(f"unknown {kind} {value!r}{_hint(value, known)}")


def _hint(value: str, choices: Sequence[str]) -> str:
    near = did_you_mean(value, choices)
    return f"{near or ';'} choices: {', '.join(choices) or 'none'}"


def data_root() -> Path:
    """Return the folder that holds ``arch_configs/``, ``workloads/`` and ``dse/``: in the wheel or in the checkout."""
    package = Path(__file__).resolve().parent
    installed = package / "data"
    return installed if installed.is_dir() else package.parent


def shipped_names(folder: str, suffix: str = ".yaml") -> tuple[str, ...]:
    """Return the sorted names of the files with ``suffix`` directly in a data folder (``arch_configs``)."""
    return tuple(sorted(path.name.removesuffix(suffix) for path in (data_root() / folder).glob(f"*{suffix}")))


def find_named(folder: str, name_or_path: str | Path, suffix: str = ".yaml", *, kind: str | None = None) -> Path:
    """Return the file of a shipped name, or of a path (anything with a separator or the suffix).

    ``kind`` is the word for it in messages (``architecture``). Raises ``UserError`` if there is no such file.
    """
    text, kind = str(name_or_path), kind or folder
    if "/" in text or "\\" in text or text.endswith(suffix):
        path = Path(text)
        if not path.is_file():
            reason = "is a folder" if path.is_dir() else "no such file"
            raise UserError(f"{text}: {reason}; {kind} choices: {', '.join(shipped_names(folder, suffix)) or 'none'}")
        return path
    return data_root() / folder / (choose(kind, text, shipped_names(folder, suffix)) + suffix)


# ---------------------------------------------------------------------------------------------------------------------
# Loading


def load_yaml(cls: type[M], source: str | Path, *, text: str | None = None) -> M:
    """Read one YAML 1.2 mapping into ``cls``; raise ``UserError`` naming every problem with file, line and column.

    ``text`` is the content if it is already at hand; ``source`` then only names it in messages.
    """
    return _validate(cls, _parse(_read(Path(source)) if text is None else text, str(source)))


def load_data(cls: type[M], data: Mapping[str, Any], source: str = "options") -> M:
    """Build ``cls`` from plain data as ``load_yaml`` would; messages name ``source`` instead of a file position."""
    return _validate(cls, _Document(source, dict(data)))


def json_schema(cls: type[BaseModel]) -> dict[str, Any]:
    """Return the JSON schema of ``cls``, for editors that complete and check YAML."""
    return cls.model_json_schema(mode="validation")


Position = tuple[int, int]  # line and column from 1; (0, 0) where there is no file


class _Problem(NamedTuple):
    position: Position
    path: KeyPath
    text: str


@dataclass(frozen=True)
class _Document:
    """Plain data, where each key and value of it stands, and what was no plain data."""

    name: str
    data: dict[str, Any] = field(default_factory=dict)
    keys: dict[KeyPath, Position] = field(default_factory=dict)
    values: dict[KeyPath, Position] = field(default_factory=dict)
    problems: list[_Problem] = field(default_factory=list)


def _validate(cls: type[M], document: _Document) -> M:
    problems = list(document.problems)
    try:
        # Validated as JSON: a strict model then still takes a list for a tuple and a text for an enum.
        model = cls.model_validate_json(json.dumps(document.data))
    except ValidationError as error:
        already = {problem.path for problem in problems}
        problems += [problem for problem in _problems(cls, error, document) if problem.path not in already]
    if not problems:
        return model
    problems.sort(key=lambda problem: problem.position)
    raise UserError("\n".join(_line(document.name, problem) for problem in problems))


def _line(name: str, problem: _Problem) -> str:
    line, column = problem.position
    where = f"{name}:{line}:{column}" if line else name
    return f"{where}: {_path_text(problem.path)}: {problem.text}" if problem.path else f"{where}: {problem.text}"


def _read(path: Path) -> str:
    try:
        return path.read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror}") from None
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        raise UserError(f"{path}:{line}:1: not UTF-8 text (byte 0x{error.object[error.start]:02x})") from None


def _parse(text: str, name: str) -> _Document:
    try:
        node = YAML(typ="safe", pure=True).compose(text)
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f"{name}:{mark.line + 1}:{mark.column + 1}" if mark else name
        detail = ", ".join(part for part in (error.problem, error.context) if part)
        raise UserError(f"{where}: YAML syntax: {' '.join(detail.split())}") from None
    except YAMLError as error:
        raise UserError(f"{name}: YAML syntax: {' '.join(str(error).split())}") from None
    except RecursionError:
        raise UserError(f"{name}: nested too deeply") from None
    if node is None:
        raise UserError(f"{name}:1:1: empty file; expected a mapping of keys to values")
    if not isinstance(node, MappingNode):
        raise UserError(_line(name, _Problem(_mark(node), (), "expected a mapping of keys to values")))
    document = _Document(name)
    document.data.update(_plain(node, (), document, set()))
    return document


def _mark(node: Node) -> Position:
    return node.start_mark.line + 1, node.start_mark.column + 1


def _plain(node: Node, path: KeyPath, document: _Document, seen: set[int]) -> Any:
    """Return a node as plain data, noting where it stands; what is no plain data becomes a problem."""
    document.values[path] = _mark(node)
    if id(node) in seen:
        here = document.keys.get(path, _mark(node))  # the node itself stands at its anchor
        document.problems.append(_Problem(here, path, "aliases (*name) are not read; write the value out"))
        return None
    seen.add(id(node))
    if isinstance(node, SequenceNode):
        return [_plain(item, (*path, index), document, seen) for index, item in enumerate(node.value)]
    if isinstance(node, MappingNode):
        return dict(_plain_items(node, path, document, seen))
    try:
        return _scalar(str(node.tag).removeprefix("tag:yaml.org,2002:"), node.value)
    except ValueError as error:
        document.problems.append(_Problem(_mark(node), path, str(error)))
        return None


def _plain_items(node: MappingNode, path: KeyPath, document: _Document, seen: set[int]) -> Iterator[tuple[str, Any]]:
    for key_node, value_node in node.value:
        key = str(key_node.value) if isinstance(key_node, ScalarNode) else ""
        here = (*path, key)
        if not key:
            document.problems.append(_Problem(_mark(key_node), path, "a key must be a plain word"))
        elif here in document.keys:
            text = f"duplicate key; first given in line {document.keys[here][0]}"
            document.problems.append(_Problem(_mark(key_node), here, text))
        else:
            document.keys[here] = _mark(key_node)
            yield key, _plain(value_node, here, document, seen)


_LEAST, _MOST = 1e-9, 1e12
"""Numbers beyond these are no sizes, rates or cycles of a machine, and their sums would not fit 64 bits."""


def _scalar(kind: str, text: str) -> Any:
    """Return a YAML 1.2 scalar as a Python value; raise ``ValueError`` with the rule for one that is not read."""
    if kind == "null":
        return None
    if kind == "bool":
        return text.lower() == "true"
    if kind in ("int", "float"):
        base = {"0o": 8, "0x": 16}.get(text[:2].lower(), 10)
        try:
            number = int(text, base) if kind == "int" else float(re.sub(r"\.(?=inf|nan)|_", "", text.lower()))
        except ValueError:
            raise ValueError(f"not a number (got {text!r})") from None
        if number and math.isfinite(number) and not _LEAST <= abs(number) <= _MOST:
            raise ValueError(f"must be 0 or between {_LEAST:g} and {_MOST:g} in size (got {text})")
        return number
    if kind not in ("str", "timestamp"):  # a date is text to us
        raise ValueError(f"tags such as {kind} are not read")
    if any("\ud800" <= character <= "\udfff" for character in text):
        raise ValueError("not Unicode text")
    return text


# ---------------------------------------------------------------------------------------------------------------------
# Telling what is wrong


def _problems(cls: type[BaseModel], error: ValidationError, document: _Document) -> Iterator[_Problem]:
    """Give every problem that pydantic found its place in the document and a rule in our words."""
    for item in error.errors(include_url=False):
        if item["type"] == "too_short" and len(item["input"]) >= item["ctx"]["min_length"]:
            continue  # only because some items are wrong, and those are told
        path = _data_path(document.data, item)
        cause = item.get("ctx", {}).get("error")
        if isinstance(cause, RuleError):
            for below, rule in cause.problems:
                yield _Problem(_place(document, (*path, *below)), (*path, *below), rule)
        elif item["type"] == "extra_forbidden":
            model = _model_at(cls, item["loc"][:-1])
            yield _Problem(document.keys.get(path, (0, 0)), path, _unknown_key(str(path[-1]), _keys_of(model)))
        else:
            yield _Problem(_place(document, path), path, _rule(item))


def _place(document: _Document, path: KeyPath) -> Position:
    """Return where a value stands; for one that is missing, where the mapping around it begins."""
    while path and path not in document.values:
        path = path[:-1]
    return document.values.get(path, (0, 0))


def _path_text(path: KeyPath) -> str:
    text = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in path)
    return text.removeprefix(".")


def _data_path(data: Any, item: Any) -> KeyPath:
    """Return pydantic's location without the parts that are no keys of the data (names of union members)."""
    location, path = item["loc"], []
    for index, part in enumerate(location):
        inside = isinstance(data, dict) and part in data
        inside = inside or (isinstance(data, list) and isinstance(part, int) and part < len(data))
        if inside:
            data = data[part]
        if inside or (item["type"] == "missing" and index == len(location) - 1):
            path.append(part)
    if item["type"].startswith("union_tag"):
        path.append(item["ctx"]["discriminator"].strip("'"))
    return tuple(path)


def _unknown_key(key: str, choices: list[str]) -> str:
    return "given twice, under two names" if key in choices else f"unknown key{_hint(key, choices)}"


def _rule(item: Any) -> str:
    """Say which rule a value breaks: the rule, the value, the choices and the nearest of them."""
    kind, context = item["type"], item.get("ctx", {})
    if kind in ("missing", "union_tag_not_found"):
        return "required key missing"
    if kind in ("literal_error", "enum", "union_tag_invalid"):
        expected = context.get("expected") or context["expected_tags"]
        choices = [text or number for text, number in re.findall(r"'([^']*)'|(-?\d+)", expected)]
        value = context.get("tag", item["input"])
        return f"must be one of {', '.join(choices)} (got {_show(value)}){did_you_mean(str(value), choices)}"
    if kind == "too_short":
        return f"must have at least {context['min_length']} items (got {context['actual_length']})"
    message = str(context["error"]) if kind == "value_error" else item["msg"].replace("Input should", "must")
    return f"{message[:1].lower()}{message[1:]} (got {_show(item['input'])})"


def _show(value: Any) -> str:
    if isinstance(value, str):
        return repr(value if len(value) <= 60 else value[:57] + "...")
    if isinstance(value, dict | list | tuple):
        return "a mapping" if isinstance(value, dict) else "a list"
    return "nothing" if value is None else str(value).lower() if isinstance(value, bool) else str(value)


def _model_at(annotation: Any, location: Sequence[str | int]) -> type[BaseModel] | None:
    """Return the model that a location of pydantic's leads to, following lists, mappings and tagged unions."""
    origin, args = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return _model_at(args[0], location)
    if origin in (Union, types.UnionType):
        members = [member for member in args if member is not type(None)]
        if len(members) == 1:
            return _model_at(members[0], location)
        tagged = [member for member in members if location and _has_tag(member, location[0])]
        return _model_at(tagged[0], location[1:]) if tagged else None
    if origin in (tuple, list, dict):
        return _model_at(args[1] if origin is dict else args[0], location[1:])
    if not (inspect.isclass(annotation) and issubclass(annotation, BaseModel)):
        return None
    if not location:
        return annotation
    info = annotation.model_fields.get(str(location[0]))
    return _model_at(info.annotation, location[1:]) if info else None


def _has_tag(member: Any, tag: str | int) -> bool:
    if get_origin(member) is Annotated:
        member, *notes = get_args(member)
        if any(isinstance(note, Tag) and note.tag == tag for note in notes):
            return True
    fields: Mapping[str, Any] = getattr(member, "model_fields", {})
    return any(tag in get_args(info.annotation) for info in fields.values())


def _keys_of(model: type[BaseModel] | None) -> list[str]:
    keys: list[str] = []
    for name, info in (model.model_fields if model else {}).items():
        alias = info.validation_alias
        keys += [str(choice) for choice in alias.choices] if isinstance(alias, AliasChoices) else [name]
    return keys
