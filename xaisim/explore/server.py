"""Serve the explorer's page on this machine alone, with the standard library: a reader or two, five kinds of answer.

with open_server(Path("sweep.sqlite"), port=0) as server:
    server.serve_forever()            # http://127.0.0.1:<server.server_port>/
"""

from __future__ import annotations

import gzip
import json
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from xaisim.config import UserError
from xaisim.explore.page import live_page
from xaisim.explore.payload import payload
from xaisim.sweep.store import Store

HOST = "127.0.0.1"


class ExploreServer(ThreadingHTTPServer):
    """Answers from one store, opened anew for every question: nothing is held while a sweep writes."""

    daemon_threads = True

    def __init__(self, store: Path, port: int) -> None:
        self.store = store
        super().__init__((HOST, port), _Handler)


def open_server(store: Path, port: int) -> ExploreServer:
    """Return a server that listens already; raises :class:`UserError` where the port is taken."""
    try:
        return ExploreServer(store, port)
    except OSError as error:
        raise UserError(f"port {port}: {error.strerror or error}; choose another with --port") from None


class _Handler(BaseHTTPRequestHandler):
    server: ExploreServer

    def do_GET(self) -> None:
        """Answer with the page, the data, their stamp, a point's details or a map."""
        url = urlsplit(self.path)
        query = {name: values[0] for name, values in parse_qs(url.query).items()}
        if self.headers.get("Host", "").rpartition(":")[0] not in (HOST, "localhost"):
            self.send_error(HTTPStatus.FORBIDDEN, "this page is for this machine")  # not for a name that points here
            return
        try:
            self._answer(url.path, query)
        except UserError as error:
            self._send(json.dumps({"error": str(error)}), "application/json", HTTPStatus.SERVICE_UNAVAILABLE)
        except (BrokenPipeError, ConnectionResetError):
            pass  # the reader has left

    def _answer(self, path: str, query: dict[str, str]) -> None:
        if path == "/":
            self._send(live_page(self.server.store.stem), "text/html; charset=utf-8")
        elif path in ("/stamp", "/data", "/details", "/map"):
            with Store.read(self.server.store) as store:
                found = _found(store, path, query)
            self._json(found)
        else:
            self.send_error(HTTPStatus.NOT_FOUND)

    def _json(self, value: Any) -> None:
        self._send(json.dumps(value, separators=(",", ":")), "application/json")

    def _send(self, text: str, kind: str, status: HTTPStatus = HTTPStatus.OK) -> None:
        body = text.encode()
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Cache-Control", "no-store")
        if "gzip" in self.headers.get("Accept-Encoding", ""):
            body = gzip.compress(body, 1)
            self.send_header("Content-Encoding", "gzip")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing: the terminal belongs to the user."""


def _found(store: Store, path: str, query: dict[str, str]) -> Any:
    if path == "/stamp":
        return store.stamp()
    if path == "/details":
        hash = query.get("hash", "")
        return store.details(hash).get(hash, {})
    if path == "/map":
        return store.map(query.get("key", ""))
    stamp = store.stamp()  # before the points: what is written meanwhile is fetched again
    return {**payload(store), "stamp": stamp}
