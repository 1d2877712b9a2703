"""Draw docs/explore.png: the explorer's page on a store, with the middle of the front chosen, as Chromium shows it.

python docs/make_explore.py [STORE]          without a store: a synthetic one of the tests, which says so in its title
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from urllib.parse import quote

from PIL import Image

from xaisim.explore.page import page_of
from xaisim.sweep.front import front
from xaisim.sweep.store import Store

HERE = Path(__file__).parent
SIZE = (1400, 1130)
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


def synthetic(folder: Path) -> Path:
    """Write a store of numbers that no simulator made."""
    sys.path.insert(0, str(HERE.parent / "tests"))
    from sweep_stores import write_store

    return write_store(folder / "synthetic.sqlite", 600)


def main() -> None:
    """Write the picture."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with Store.read(Path(sys.argv[1]) if len(sys.argv) > 1 else synthetic(folder)) as store:
            best = sorted(row.hash for row in front(store.points(), store.objectives()))
            (folder / "page.html").write_text(page_of(store, maps=200), encoding="utf-8")
        chosen = best[len(best) // 2]
        address = f"file://{folder}/page.html#a={quote(json.dumps(chosen[:16]))}"
        flags = f"--headless --no-sandbox --disable-gpu --hide-scrollbars --window-size={SIZE[0]},{SIZE[1]}"
        picture = folder / "page.png"
        subprocess.run(
            [str(CHROMIUM), *flags.split(), f"--user-data-dir={folder / 'profile'}", "--virtual-time-budget=5000",
             f"--screenshot={picture}", address],
            check=True, capture_output=True,
        )  # fmt: skip
        Image.open(picture).convert("RGB").save(HERE / "explore.png", optimize=True)


if __name__ == "__main__":
    main()
