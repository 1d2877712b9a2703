"""The explorer's page: one HTML file with its style and scripts; the data are inside it, or fetched from the server.

live_page("title")                        asks the server for data, again when the sweep has gone on
page_of(store, maps=200)                  everything in the file, packed by gzip: opens offline

The scripts draw on canvas themselves: ten thousand points stay quick and the page small.
"""

from __future__ import annotations

import base64
import gzip
import json
from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import Any

from xaisim.explore.payload import payload
from xaisim.sweep.store import Store

_HERE = Path(__file__).parent
_SCRIPTS = (
    "data", "filter", "shapes", "state", "scatter", "pointer", "parallel", "table", "details", "timeline", "compare",
    "progress", "controls", "app",
)  # fmt: skip
# Nothing is fetched but from the page's own server: the browser itself refuses the rest.
_POLICY = "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src data: blob:"
_CHUNK = 250  # points whose details are packed together


def live_page(title: str) -> str:
    """Return the page that the server hands out."""
    return _document(title, {"live": True}, {}, f"{_POLICY}; connect-src 'self'")


def page_of(store: Store, *, maps: int) -> str:
    """Return the whole page as HTML text, with at most ``maps`` heatmaps and timelines: those of the front first."""
    data, details = payload(store), store.details()
    ranked = dict.fromkeys([*(data["hashes"][row] for row in data["front"]), *data["hashes"]])
    drawn = [parts for hash in ranked if "timeline" in (parts := details.get(hash, {}).get("breakdown", {}))]
    for parts in drawn[maps:]:
        del parts["timeline"]
    chunks = [data["hashes"][start : start + _CHUNK] for start in range(0, len(data["hashes"]), _CHUNK)]
    wanted = _maps_by_rank(data)
    kept = {key: found for key in wanted[:maps] if (found := store.map(key)) is not None}
    blocks = {"data": data}
    blocks |= {f"details{i}": {hash: details.get(hash, {}) for hash in chunk} for i, chunk in enumerate(chunks)}
    blocks |= {f"map-{key}": found for key, found in kept.items()}
    source = {
        "live": False, "chunk": _CHUNK, "maps": len(kept), "maps_in_store": len(wanted),
        "timelines": min(maps, len(drawn)), "timelines_in_store": len(drawn),
    }  # fmt: skip
    return _document(data["title"], source, {name: packed(block) for name, block in blocks.items()}, _POLICY)


def packed(value: Any) -> str:
    """Return JSON, gzip, base64: what ``unpacked`` in data.js reads."""
    text = json.dumps(value, separators=(",", ":"), allow_nan=False)
    return base64.b64encode(gzip.compress(text.encode(), 6, mtime=0)).decode()


def _maps_by_rank(data: dict[str, Any]) -> Sequence[str]:
    """Return the keys of all maps, those of points on the front first."""
    ranked = [data["maps"][row] for row in data["front"]] + data["maps"]
    return list(dict.fromkeys(key for key in ranked if key))


def _document(title: str, source: dict[str, Any], blocks: dict[str, str], policy: str) -> str:
    data = "".join(
        f'<script type="application/octet-stream" id="{escape(name)}">{text}</script>\n'
        for name, text in blocks.items()
    )
    scripts = "\n".join((_HERE / f"{name}.js").read_text(encoding="utf-8") for name in _SCRIPTS)
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{policy}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{escape(title)} - xaisim</title>
<link rel="icon" href="data:,">
<style>{(_HERE / "explore.css").read_text(encoding="utf-8")}</style>
</head>
<body>
{(_HERE / "body.html").read_text(encoding="utf-8")}
<script type="application/json" id="source">{json.dumps(source)}</script>
{data}<script>
"use strict";
{scripts}
</script>
</body>
</html>
"""
