"""The command ``xaisim explore``: the page on a sweep's store, served or written."""

from __future__ import annotations

import os
import tempfile
from contextlib import suppress
from pathlib import Path

import click

from xaisim.config import UserError


@click.command(short_help="Look at the points of a sweep in the browser.")
@click.argument("store", type=click.Path(path_type=Path))
@click.option("--html", metavar="FILE", type=click.Path(path_type=Path), help="Write one file instead of serving.")
@click.option("--force", is_flag=True, help="Replace an existing FILE.")
@click.option("--maps", metavar="N", type=click.IntRange(min=0), default=200, show_default=True,
              help="--html: at most so many heatmaps and timelines, the front's first.")  # fmt: skip
@click.option("--port", metavar="N", type=click.IntRange(0, 65535), default=8321, show_default=True,
              help="0: any that is free.")  # fmt: skip
@click.option("--no-open", is_flag=True, help="Do not open a browser.")
def explore(store: Path, html: Path | None, force: bool, maps: int, port: int, no_open: bool) -> None:
    """Show the points of a sweep on a page: choose axes, filter, compare, see the heatmaps behind each point.

    The page is served on this machine and follows the sweep while it goes on. With --html it is one file that opens
    offline.

    \b
    xaisim explore sweep.sqlite
    xaisim explore sweep.sqlite --html sweep.html
    """
    if html is None:
        _serve(store, port, no_open)
        return
    from xaisim.explore.page import page_of
    from xaisim.sweep.store import Store

    with Store.read(store) as opened:
        _check(html, store, force)
        text = page_of(opened, maps=maps)
    _write(html, text)
    click.echo(f"written to {html} ({len(text.encode()) / 1e6:.1f} MB)")


def _serve(store: Path, port: int, no_open: bool) -> None:
    import webbrowser

    from xaisim.explore.server import HOST, open_server
    from xaisim.sweep.store import Store

    with Store.read(store) as opened:  # what is wrong with it is told here, not in the browser
        opened.objectives()
        opened.points()
    with open_server(store, port) as server:
        address = f"http://{HOST}:{server.server_port}/"
        click.echo(f"serving {store} at {address} (Ctrl-C stops)")
        if not no_open:
            webbrowser.open(address)
        with suppress(KeyboardInterrupt):
            server.serve_forever()


def _check(html: Path, store: Path, force: bool) -> None:
    """Raise :class:`UserError` unless the page can be written."""
    if html.is_dir() or not html.absolute().parent.is_dir():
        raise UserError(f"{html}: is a folder" if html.is_dir() else f"{html}: there is no folder {html.parent}")
    if html.exists() and html.samefile(store):
        raise UserError(f"{html}: is the store itself")
    if html.exists() and not force:
        raise UserError(f"{html}: exists already; choose another name or use --force")


def _write(html: Path, text: str) -> None:
    """Write the file as a whole or not at all."""
    try:
        with tempfile.TemporaryDirectory(prefix=".xaisim-", dir=html.absolute().parent) as folder:
            whole = Path(folder) / "page.html"
            whole.write_text(text, encoding="utf-8")
            os.replace(whole, html)
    except OSError as error:
        raise UserError(f"{html}: cannot be written: {error.strerror or error}") from None
