"""A pen for pictures with Pillow: sizes in points of the finished picture, drawn twice as large for smooth lines.

canvas = Image.new("RGB", (width * SCALE, height * SCALE)); Pen(ImageDraw.Draw(canvas)).dot((10, 10), 4, "#0072B2")
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

SCALE = 2
Spot = tuple[float, float]


def font(size: int) -> ImageFont.FreeTypeFont:
    """Return Pillow's own font, ``size`` points high in the finished picture."""
    found = ImageFont.load_default(size=size * SCALE)
    if not isinstance(found, ImageFont.FreeTypeFont):
        raise TypeError("Pillow was built without FreeType")
    return found


def save_picture(canvas: Image.Image, path: str | Path) -> None:
    """Write a finished canvas as PNG, in its final size and in as many colours as a drawing needs."""
    width, height = canvas.size
    small = canvas.resize((width // SCALE, height // SCALE), Image.Resampling.LANCZOS)
    small.quantize(128, method=Image.Quantize.FASTOCTREE, dither=Image.Dither.NONE).save(path, optimize=True)


class Pen:
    """Draws in points of the finished picture."""

    def __init__(self, draw: ImageDraw.ImageDraw) -> None:
        self.draw = draw

    def text(self, at: Spot, text: str, size: int, fill: str, anchor: str = "la") -> None:
        """Write one line."""
        self.draw.text((at[0] * SCALE, at[1] * SCALE), text, fill=fill, font=font(size), anchor=anchor)

    def width(self, text: str, size: int) -> float:
        """Return how wide a line of text is."""
        return font(size).getlength(text) / SCALE

    def line(self, spots: Sequence[Spot], fill: str, width: float) -> None:
        """Draw a line through ``spots``."""
        self.draw.line(_scaled(spots), fill=fill, width=round(width * SCALE), joint="curve")

    def area(self, spots: Sequence[Spot], fill: str) -> None:
        """Fill the area within ``spots``."""
        self.draw.polygon(_scaled(spots), fill=fill)

    def dot(self, at: Spot, radius: float, fill: str) -> None:
        """Draw a filled circle."""
        self.draw.ellipse(_around(at, radius), fill=fill)

    def ring(self, at: Spot, radius: float, colour: str) -> None:
        """Draw a circle."""
        self.draw.ellipse(_around(at, radius), outline=colour, width=2 * SCALE)

    def box(self, corners: tuple[float, float, float, float], fill: str) -> None:
        """Fill a rectangle."""
        self.draw.rectangle([c * SCALE for c in corners], fill=fill)


def _scaled(spots: Sequence[Spot]) -> list[Spot]:
    return [(x * SCALE, y * SCALE) for x, y in spots]


def _around(at: Spot, radius: float) -> list[float]:
    return [(at[0] - radius) * SCALE, (at[1] - radius) * SCALE, (at[0] + radius) * SCALE, (at[1] + radius) * SCALE]
