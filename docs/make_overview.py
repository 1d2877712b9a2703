"""Draw docs/overview.png: the heatmap of `xaisim explain` above what each unit did during one point of the path.

python docs/make_overview.py
"""

from __future__ import annotations

import tempfile
from pathlib import Path

from PIL import Image, ImageColor, ImageDraw, ImageFont

from xaisim import explain
from xaisim.report.events import phase_of
from xaisim.report.figures import PHASE_COLOURS, gantt_info
from xaisim.report.heatmap import draw_heatmap, heatmap_info
from xaisim.simulate.program import TimedLaunch

MARGIN, ROW, LABEL = 36, 34, 70
INK, FAINT = "#1a1a1a", "#707780"


def draw_timeline(launch: TimedLaunch, width: int) -> Image.Image:
    """Return the launch's first trip, one strip per unit; neighbouring tiles of a stage are merged into a block."""
    info, stages = gantt_info(launch), launch.schedule.stages
    strip = Image.new("RGB", (width, 60 + 3 * ROW + 70), "white")
    draw = ImageDraw.Draw(strip)
    scale = (width - 2 * MARGIN - LABEL) / int(info.end.max())
    draw.text((MARGIN, 8), f"first trip of '{launch.launch.kernel}', one of {launch.timing.trips}",
              fill=INK, font=ImageFont.load_default(20))  # fmt: skip
    for unit, seat in enumerate(launch.schedule.tiles.units[:3]):
        draw.text((MARGIN, 52 + unit * ROW), seat.name, fill=INK, font=ImageFont.load_default(17))
    for unit, stage, start, end in zip(info.unit, info.stage, info.start, info.end, strict=True):
        left = MARGIN + LABEL + int(start) * scale
        top = 50 + int(unit) * ROW
        colour = ImageColor.getrgb(PHASE_COLOURS[phase_of(stages[stage])])
        draw.rectangle((left, top, MARGIN + LABEL + int(end) * scale, top + ROW - 10), fill=colour, outline="white")
    _legend(draw, 50 + 3 * ROW, int(info.end.max()), {phase_of(stages[stage]) for stage in info.stage})
    return strip


def _legend(draw: ImageDraw.ImageDraw, top: int, cycles: int, drawn: set[str]) -> None:
    x = MARGIN + LABEL
    for phase, colour in PHASE_COLOURS.items():
        if phase not in drawn:
            continue
        draw.rectangle((x, top + 10, x + 16, top + 26), fill=colour)
        draw.text((x + 24, top + 7), phase, fill=FAINT, font=ImageFont.load_default(16))
        x += 44 + int(draw.textlength(phase, font=ImageFont.load_default(16)))
    draw.text((x + 20, top + 7), f"{cycles:,} cycles from left to right", fill=FAINT, font=ImageFont.load_default(16))


def main() -> None:
    """Write the picture."""
    report = explain()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "heatmap.png"
        draw_heatmap(heatmap_info(report), path)
        heatmap = Image.open(path).convert("RGB")
    longest = max(report.run.timing.launches, key=lambda launch: launch.cycles)
    timeline = draw_timeline(longest, heatmap.width)
    both = Image.new("RGB", (heatmap.width, heatmap.height + timeline.height), "white")
    both.paste(heatmap, (0, 0))
    both.paste(timeline, (0, heatmap.height))
    both.save(Path(__file__).parent / "overview.png", optimize=True)


if __name__ == "__main__":
    main()
