r"""Text as pixels: measured first, drawn second, so that no label is ever cut.

Pillow draws the letters of DejaVu Sans, a font that ships with matplotlib and covers Latin, Greek, Cyrillic,
Arabic, Hebrew, many symbols and some emoji. The Unicode font that is built into OpenCV 5 draws Chinese, Japanese
and Korean; OpenCV 4 has no such font. A character that neither font holds is written as its escape (``\u7ea2``),
never as a box and without a warning.
"""

import math
import unicodedata
from functools import cache, lru_cache
from itertools import groupby
from pathlib import Path

import cv2
import numpy as np
from matplotlib import get_data_path
from matplotlib.ft2font import FT2Font
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from fgseg._checks import check_number
from fgseg.errors import OptionError

__all__ = [
    "SMALLEST_FONT",
    "font_size_for",
    "font_size_within",
    "line_height",
    "printable",
    "text_block",
    "text_coverage",
    "text_width",
    "wrap_text",
]

DEJAVU = Path(get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf"
ASCENT, DESCENT = 1.12, 0.4
"""Room above and below the baseline in font sizes: DejaVu Sans reaches from -0.391 to 1.068, hinting adds."""
SMALLEST_FONT = 13
"""Pixels; below it DejaVu's letters close up."""
LARGEST_FONT = 4096
"""Pixels; a longer side of 225,000 asks for it."""
SIDE_PER_FONT = 55
"""A picture this many font sizes long shows 18 px letters when it fills a 1,000 px window."""
SHORT_SIDE_IN_FONTS = 4
"""A legend of one line takes 2.6 font sizes, less than a picture this many high; all but panoramas are higher."""
INK = 32


def font_size_for(image_hw: tuple[int, int]) -> int:
    """Font size in pixels that stays readable on a picture of this (height, width) shown whole.

    It grows with the longer side alone; `font_size_within` minds the shorter one too.

    >>> font_size_for((64, 64)), font_size_for((6000, 8000)), font_size_for((100, 20_000))
    (13, 145, 364)
    """
    return min(LARGEST_FONT, max(SMALLEST_FONT, round(max(image_hw) / SIDE_PER_FONT)))


def font_size_within(image_hw: tuple[int, int]) -> int:
    """`font_size_for`, but at most a quarter of the shorter side, so that no text dwarfs a panorama.

    The smallest font is kept however low the picture is. Up to ten times as long as high the bound changes nothing.

    >>> font_size_within((64, 64)), font_size_within((6000, 8000)), font_size_within((100, 20_000))
    (13, 145, 25)
    """
    return max(SMALLEST_FONT, min(font_size_for(image_hw), min(image_hw) // SHORT_SIDE_IN_FONTS))


def line_height(font_size: int) -> int:
    """Rows of one line of text of this font size in pixels, accents and descenders included.

    >>> line_height(20)
    34
    """
    return _baseline(font_size) + math.ceil(DESCENT * font_size) + 1


def printable(text: str) -> str:
    r"""The text as it will be drawn: one line, composed, with an escape for each character no font holds.

    Args:
        text: anything; runs of white space and line ends become one space, invisible joiners are dropped.

    >>> printable(" red\n cup \U000e0042\x07")
    'red cup \\x07'
    """
    shown = []
    for character in " ".join(unicodedata.normalize("NFC", text).split()):
        if unicodedata.category(character) == "Cf" or "\ufe00" <= character <= "\ufe0f":
            continue
        drawn = _in_dejavu(character) or _in_opencv(character)
        shown.append(character if drawn else character.encode("unicode_escape").decode("ascii"))
    return "".join(shown)


@lru_cache(maxsize=4096)
def text_width(text: str, font_size: int) -> int:
    """Columns that one line of printable text takes at this font size in pixels.

    >>> text_width("wide", 20) < text_width("wider", 20)
    True
    """
    return int(text_coverage(text, font_size).shape[1])


def text_coverage(text: str, font_size: int) -> NDArray[np.uint8]:
    """One line of text as ink.

    Args:
        text: as `printable` returns it.
        font_size: in pixels, at least 1.

    Returns:
        (line_height(font_size), W) uint8: 0 paper, 255 ink. Baseline in every line at the same row.

    Raises:
        OptionError: `font_size` below 1 or above 4096, or a character that no font holds.

    >>> text_coverage("cup", 20).shape[0] == line_height(20)
    True
    """
    check_number("font_size", font_size, low=1, high=LARGEST_FONT)
    if not all(_in_dejavu(character) or _in_opencv(character) for character in text):
        raise OptionError(f"text: expected characters that a font holds, got {text!a:.60}; pass it through printable")
    pieces = [np.zeros((line_height(font_size), 1), np.uint8)]
    for in_dejavu, characters in groupby(text, key=_in_dejavu):
        draw = _dejavu_ink if in_dejavu else _opencv_ink
        pieces.append(draw("".join(characters), font_size))
    return np.hstack(pieces)


def wrap_text(text: str, font_size: int, max_width: int) -> tuple[str, ...]:
    """Break text into lines no wider than `max_width`, at spaces where it can, inside a word where it must.

    Args:
        text: anything; made printable first.
        font_size: in pixels.
        max_width: in pixels; a single character wider than it still gets its line.

    Returns:
        At least one line; joined, they hold every character but the spaces at the breaks.

    >>> wrap_text("a red cup", 20, 60)
    ('a red', 'cup')
    """
    lines = [""]
    for word in printable(text).split(" "):
        joined = f"{lines[-1]} {word}" if lines[-1] else word
        if text_width(joined, font_size) <= max_width:
            lines[-1] = joined
        else:
            # A word too long for any line starts on the one that is open, others on a new one.
            too_long = text_width(word, font_size) > max_width
            start = len(lines) - 1 if too_long or not lines[-1] else len(lines)
            lines[start:] = _split(joined if too_long else word, font_size, max_width)
    return tuple(lines)


def text_block(text: str, font_size: int, max_width: int) -> NDArray[np.uint8]:
    """Wrapped text in dark ink on white.

    Args:
        text: anything; wrapped by `wrap_text`.
        font_size: in pixels.
        max_width: in pixels.

    Returns:
        (H, W, 3) uint8 RGB, just large enough for the lines.

    >>> text_block("a red cup", 20, 60).shape[0] == 2 * line_height(20)
    True
    """
    lines = [text_coverage(line, font_size) for line in wrap_text(text, font_size, max_width)]
    width = max(line.shape[1] for line in lines)
    ink = np.vstack([np.pad(line, ((0, 0), (0, width - line.shape[1]))) for line in lines])
    grey = 255 - (ink.astype(np.uint16) * (255 - INK) + 127) // 255
    return np.repeat(grey.astype(np.uint8)[..., None], 3, axis=2)


def _split(text: str, font_size: int, max_width: int) -> list[str]:
    pieces = [""]
    for character in text:
        if not pieces[-1] or text_width(pieces[-1] + character, font_size) <= max_width:
            pieces[-1] += character
        else:
            pieces.append(character)
    return pieces


def _baseline(font_size: int) -> int:
    """Rows of a line above the baseline."""
    return math.ceil(ASCENT * font_size) + 2


@cache
def _dejavu_characters() -> frozenset[int]:
    """The code points that DejaVu Sans holds; Pillow cannot tell."""
    return frozenset(FT2Font(str(DEJAVU)).get_charmap())


def _in_dejavu(character: str) -> bool:
    return ord(character) in _dejavu_characters()


@cache
def _in_opencv(character: str) -> bool:
    """Whether OpenCV's built-in font draws the character: it draws a question mark for those it lacks."""
    # OpenCV 5.0 crashes the process on half of a surrogate pair.
    if not hasattr(cv2, "FontFace") or unicodedata.category(character) == "Cs":
        return False
    ink = _opencv_ink(character, 32)
    question = _opencv_ink("?", 32)
    return bool(ink.any()) and not np.array_equal(ink, question)


@lru_cache(maxsize=32)
def _dejavu(font_size: int) -> ImageFont.FreeTypeFont:
    return ImageFont.truetype(DEJAVU, font_size)


def _dejavu_ink(text: str, font_size: int) -> NDArray[np.uint8]:
    font = _dejavu(font_size)
    # Letters such as j reach left of their origin; spaces at the ends count in the length, not in the box.
    left, _, right, _ = font.getbbox(text, anchor="ls")
    width = max(right, math.ceil(font.getlength(text))) - min(left, 0)
    canvas = Image.new("L", (int(width), line_height(font_size)))
    ImageDraw.Draw(canvas).text((-min(left, 0), _baseline(font_size)), text, fill=255, font=font, anchor="ls")
    return np.asarray(canvas)


def _opencv_ink(text: str, font_size: int) -> NDArray[np.uint8]:
    font = cv2.FontFace("uni")
    left, _, width, _ = cv2.getTextSize((0, 0), text, (0, 0), font, font_size)
    canvas = np.zeros((line_height(font_size), max(1, left + width) + 2), np.uint8)
    cv2.putText(canvas, text, (0, _baseline(font_size)), (255,), font, font_size)
    return canvas
