"""Stored samples to RGB: what the samples of a pixel mean, and which of them are drawn."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from fgseg._checks import describe
from fgseg.errors import OptionError
from fgseg.images.levels import Levels, fitting_levels, stated_levels, stretched_levels, value_range

__all__ = ["ARRAY", "Layout", "RgbBand", "RgbSource", "Stored", "band_numbers", "levels_of", "on_white"]

log = logging.getLogger("fgseg")
ARRAY = "source"
"""The name of an array in messages."""
WHITE = 255  # pixels without data and clear pixels are drawn white


class RgbBand(NamedTuple):
    """Rows of a picture: (h, W, 3) uint8 RGB, and (h, W) bool, true where there is no data."""

    rgb: NDArray[np.uint8]
    no_data: NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Layout:
    """What the samples of a pixel mean.

    Attributes:
        kind: "bands" are drawn as grey or RGB; the others are converted to RGB of 8 bits first.
        colors: index of the one or three samples that are drawn.
        bits: number of bits that a sample uses.
        alpha: index of the sample that is declared alpha; None without one.
        is_premultiplied: whether colours were multiplied by alpha.
        white_is_zero: whether 0 is white.
        no_data: a pixel has no data if all its colours have this value; None without one.
        palette: (2^bits, 3) uint8 RGB of kind "palette".
    """

    kind: Literal["bands", "palette", "cmyk", "lab", "ycbcr"]
    colors: tuple[int, ...]
    bits: int
    alpha: int | None = None
    is_premultiplied: bool = False
    white_is_zero: bool = False
    no_data: float | None = None
    palette: NDArray[np.uint8] | None = None


@dataclass(frozen=True, eq=False)
class Stored:
    """A picture whose samples can be read from top to bottom, any number of times.

    Attributes:
        name: of the file, for messages.
        image_hw: (height, width) in pixels.
        dtype: of the samples.
        num_samples: number of samples per pixel.
        layout: what they mean.
        samples: gives (h, W, S) arrays, from the top. A masked array's mask means no data.
        bands: the numbers of the bands that were chosen, from 1; None where none were.
    """

    name: str
    image_hw: tuple[int, int]
    dtype: np.dtype[Any]
    num_samples: int
    layout: Layout
    samples: Callable[[], Iterator[NDArray[Any]]]
    bands: tuple[int, ...] | None = None

    def choosing(self, bands: Sequence[int] | None) -> Stored:
        """The picture with other bands drawn.

        Args:
            bands: one or three numbers, from 1; None keeps the layout's own.

        Raises:
            OptionError: other numbers, or colours that are no bands.
        """
        if bands is None:
            return self
        numbers = band_numbers(bands)
        if self.layout.kind != "bands":
            raise OptionError(
                f"bands: {self.name} holds {self.layout.kind} colours, which have no bands; leave bands out"
            )
        if max(numbers) > self.num_samples:
            raise OptionError(
                f"bands: expected numbers from 1 to {self.num_samples} for {self.name}, got {list(numbers)}"
            )
        layout = replace(self.layout, colors=tuple(number - 1 for number in numbers))
        return replace(self, layout=layout, bands=numbers)

    def colors(self) -> Iterator[NDArray[Any]]:
        """The values of the pixels that have data, as (n,) arrays, for ranges and percentiles."""
        for samples in self.samples():
            values = _colors(samples, self.layout)
            yield values[~_no_data(samples, self.layout)]


def levels_of(stored: Stored, stretch: tuple[float, float] | None) -> Levels | None:
    """How the values become levels; None if they fit no range that this package knows.

    Without a stretch, values that state their range are not read here.
    """
    if stretch is not None:
        return stretched_levels(stored.colors, stretch)
    if stored.layout.kind != "bands":
        return stated_levels(np.dtype(np.uint8), 8)
    stated = stated_levels(stored.dtype, stored.layout.bits)
    if stated is not None:
        return stated
    ends = value_range(stored.colors())
    return Levels(0, 1) if ends is None else fitting_levels(stored.dtype, *ends)


@dataclass(frozen=True, eq=False)
class RgbSource:
    """A stored picture that is drawn as RGB from top to bottom.

    Attributes:
        stored: the picture.
        levels: how its values become levels.
        stretch: the percentiles that were chosen; None where none were.
    """

    stored: Stored
    levels: Levels
    stretch: tuple[float, float] | None = None

    def rows(self) -> Iterator[RgbBand]:
        """The picture, band by band; after the last one, warnings tell what it lacks."""
        stored, brightest, missing = self.stored, self.levels.low, 0
        is_assumed = self.stretch is None and stored.layout.kind == "bands" and stored.dtype.itemsize > 1
        for samples in stored.samples():
            band = _rgb_band(samples, stored.layout, self.levels)
            missing += int(band.no_data.sum())
            if is_assumed and not band.no_data.all():
                brightest = max(brightest, float(_colors(samples, stored.layout)[~band.no_data].max()))
            yield band
        self._warn_of_bands()
        if missing:
            total = stored.image_hw[0] * stored.image_hw[1]
            log.warning("%s: %d of %d pixels have no data and stay unlabelled", stored.name, missing, total)
        if is_assumed and not stored.layout.white_is_zero:
            self.levels.warn_if_dark(stored.name, brightest)

    def _warn_of_bands(self) -> None:
        """Say which bands are drawn, if there are more and the user chose none."""
        stored, drawn = self.stored, len(self.stored.layout.colors)
        others = stored.num_samples - drawn - (stored.layout.alpha is not None)
        if stored.bands is None and stored.layout.kind == "bands" and others:
            log.warning(
                "%s: %d bands, of which the first %d are drawn; --bands 3,2,1 (in Python bands=(3, 2, 1)) chooses "
                "others", stored.name, stored.num_samples, drawn,
            )  # fmt: skip

    def settings(self, no_data_pixels: int) -> dict[str, Any]:
        """How the picture is read, for run.json."""
        return {
            "bands": self.stored.bands and list(self.stored.bands),
            "stretch": self.stretch and list(self.stretch),
            "levels": [float(self.levels.low), float(self.levels.high)],
            "no_data_pixels": no_data_pixels,
        }


def band_numbers(bands: Sequence[int]) -> tuple[int, ...]:
    """One or three band numbers, counted from 1.

    Raises:
        OptionError: anything else.
    """
    is_list = isinstance(bands, Sequence) and not isinstance(bands, (str, bytes))
    if not is_list or len(bands) not in (1, 3) or not all(_is_band(number) for number in bands):
        raise OptionError(
            f"bands: expected one number (grey) or three (red, green, blue), counted from 1, got {describe(bands)}; "
            "say (3, 2, 1)"
        )
    return tuple(int(number) for number in bands)


def on_white(rgb: NDArray[np.uint8], alpha: NDArray[np.uint8], *, is_premultiplied: bool = False) -> NDArray[np.uint8]:
    """(h, W, 3) colours of (h, W) opacity, laid on white."""
    if is_premultiplied:
        summed: NDArray[np.uint16] = rgb.astype(np.uint16) + (WHITE - alpha)[:, :, None]
        return np.minimum(summed, WHITE).astype(np.uint8)
    canvas = Image.new("RGB", rgb.shape[1::-1], (WHITE, WHITE, WHITE))
    canvas.paste(Image.fromarray(rgb), mask=Image.fromarray(alpha))
    return np.array(canvas)


def _is_band(number: Any) -> bool:
    return isinstance(number, (int, np.integer)) and not isinstance(number, bool) and bool(number >= 1)


def _rgb_band(samples: NDArray[Any], layout: Layout, levels: Levels) -> RgbBand:
    no_data = _no_data(samples, layout)
    values = _colors(samples, layout)
    if no_data.any():
        values = np.where(no_data[:, :, None], values.dtype.type(0), values)
    drawn = levels(values)
    if layout.white_is_zero:
        drawn = WHITE - drawn
    rgb = np.repeat(drawn, 3, axis=2) if drawn.shape[2] == 1 else drawn
    if layout.alpha is not None:
        alpha = _alpha(_plain(samples)[:, :, layout.alpha], layout.bits)
        rgb = on_white(np.ascontiguousarray(rgb), alpha, is_premultiplied=layout.is_premultiplied)
    if no_data.any():
        rgb = np.where(no_data[:, :, None], np.uint8(WHITE), rgb)
    return RgbBand(rgb, no_data)


def _colors(samples: NDArray[Any], layout: Layout) -> NDArray[Any]:
    """(h, W, 1 or 3): the values that are drawn."""
    plain = _plain(samples)
    if layout.kind == "palette":
        assert layout.palette is not None
        drawn: NDArray[np.uint8] = layout.palette[plain[:, :, 0]]
        return drawn
    colors = _chosen(plain, layout.colors)
    if layout.kind == "bands":
        return colors
    levels = (colors >> 8).astype(np.uint8) if colors.dtype == np.uint16 else colors
    return _converted(np.ascontiguousarray(levels), layout.kind)


def _converted(colors: NDArray[np.uint8], kind: str) -> NDArray[np.uint8]:
    """(h, W, C) uint8 of another colour space as RGB, as Pillow converts it."""
    mode = {"cmyk": "CMYK", "lab": "LAB", "ycbcr": "YCbCr"}[kind]
    return np.array(Image.frombytes(mode, colors.shape[1::-1], colors.tobytes()).convert("RGB"))


def _no_data(samples: NDArray[Any], layout: Layout) -> NDArray[np.bool_]:
    """(h, W): no colour has data, or one is not a number."""
    plain = _chosen(_plain(samples), layout.colors)
    missing = np.zeros((*plain.shape[:2], 1), np.bool_)
    if layout.no_data is not None:
        missing = np.equal(plain, layout.no_data, dtype=np.bool_)
    if isinstance(samples, np.ma.MaskedArray):
        missing = np.logical_or(missing, _chosen(np.ma.getmaskarray(samples), layout.colors))
    found = np.asarray(missing.all(axis=2))
    return found | np.isnan(plain).any(axis=2) if plain.dtype.kind == "f" else found


def _alpha(alpha: NDArray[Any], bits: int) -> NDArray[np.uint8]:
    """(h, W) opacity as 0..255."""
    levels = stated_levels(alpha.dtype, bits) or Levels(0, 1)
    return np.ascontiguousarray(levels(np.nan_to_num(alpha) if alpha.dtype.kind == "f" else alpha))


def _chosen(samples: NDArray[Any], indices: tuple[int, ...]) -> NDArray[Any]:
    """Samples along the last axis; a view where they are the first ones in order."""
    if indices == tuple(range(len(indices))):
        return samples[:, :, : len(indices)]
    return samples[:, :, list(indices)]


def _plain(samples: NDArray[Any]) -> NDArray[Any]:
    """The values without a mask."""
    return np.asarray(np.ma.getdata(samples))
