"""A name with changes behind a colon, as on the command line: ``fixed16:weights=12,overrides.relu1=trn``.

    parted("edge_systolic_16:array.rows=8,memories.weights.size=64KiB", "architecture")
    changed(data, {"array.rows": 8})          # plain data with the changes made

A value is read as JSON where it is JSON (numbers, true, null, lists, mappings), else it is text.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from copy import deepcopy
from typing import Any

from xaisim.config import UserError, did_you_mean


def parted(text: str, kind: str) -> tuple[str, dict[str, Any]]:
    """Split a text into the name and its changes; ``kind`` names it in messages. Raises ``UserError``."""
    match = re.fullmatch(r"(.*?):([^:=]+=.*)", text)
    if match is None:
        return text, {}
    changes: dict[str, Any] = {}
    for item in _items(match[2]):
        key, equals, value = (part.strip() for part in item.partition("="))
        if not key or not equals or not value:
            raise UserError(f"{kind} {text!r}: a change is written key=value, got {item!r}")
        if key in changes:
            raise UserError(f"{kind} {text!r}: {key} is given twice")
        try:
            changes[key] = json.loads(value)
        except ValueError:
            changes[key] = value
    return match[1], changes


def joined(name: str, changes: Mapping[str, Any]) -> str:
    """Write a name and its changes such that ``parted`` gives them back."""
    items = [f"{key}={_value_text(value)}" for key, value in changes.items()]
    return f"{name}:{','.join(items)}" if items else name


def changed(data: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """Return plain data with values put at dotted keys; an item of a list is named by its ``name`` or its number.

    Raises ``UserError`` for a key that leads through something that is neither. Whether the last part of a key is
    known is for the noun to say that is made of the data.
    """
    made = deepcopy(dict(data))
    for key, value in changes.items():
        *parents, last = key.split(".")
        inside: Any = made
        for depth, part in enumerate(parents):
            inside = _inside(inside, part, key, ".".join(parents[:depth]))
        if isinstance(inside, list):
            inside[_place(inside, last, key, ".".join(parents))] = value
        elif isinstance(inside, dict):
            inside[last] = value
        else:
            raise UserError(f"{key}: {'.'.join(parents)} has no keys")
    return made


def _inside(data: Any, part: str, key: str, where: str) -> Any:
    """Return what stands at a part of a key; a mapping that is not there yet is made."""
    if isinstance(data, list):
        return data[_place(data, part, key, where)]
    if not isinstance(data, dict):
        raise UserError(f"{key}: {where} has no keys")
    if data.get(part) is None:
        data[part] = {}
    return data[part]


def _place(items: list[Any], part: str, key: str, where: str) -> int:
    """Return the index of an item of a list by name or number."""
    names = [str(item["name"]) for item in items if isinstance(item, dict) and "name" in item]
    if part in names:
        return next(i for i, item in enumerate(items) if isinstance(item, dict) and item.get("name") == part)
    if part.isdecimal() and int(part) < len(items):
        return int(part)
    near = did_you_mean(part, names) or ";"
    raise UserError(f"{key}: {where} has no {part!r}{near} choices: {', '.join(names) or f'0 to {len(items) - 1}'}")


def _items(text: str) -> Iterator[str]:
    """Split at commas that stand in no bracket and in no quotes."""
    depth, quoted, escaped, start = 0, False, False, 0
    for place, letter in enumerate(text):
        if escaped or (quoted and letter == "\\"):
            escaped = not escaped
        elif letter == '"':
            quoted = not quoted
        elif not quoted:
            depth += (letter in "[{") - (letter in "]}")
            if letter == "," and depth == 0:
                yield text[start:place]
                start = place + 1
    yield text[start:]


def _value_text(value: Any) -> str:
    """Write a value without quotes where it is still read as the same."""
    if isinstance(value, str) and value and not re.search(r"[,:={}\[\]\"\s]", value):
        try:
            json.loads(value)
        except ValueError:
            return value
    return json.dumps(value, separators=(",", ":"))
