"""Pictures of explanations: heat maps over photos, grids of feature maps and of channels, with captions."""

from __future__ import annotations

import base64
import functools
import io
import os
from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from components.example_gen.photo_rules import WHITE, Colour
from components.transform import image_ops

PHOTO_SIDE = 320  # pixels; longer side of a photo in a picture
MAP_SIDE = 112
GAP, TEXT_SIZE, SMALL_TEXT_SIZE = 10, 15, 13
_PAPER, _INK, _SOFT = (255, 255, 255), (24, 24, 24), (96, 96, 96)
# Of equal steps to the eye, and apart to those who see fewer colours.
_COLOURS = "inferno"


def upright_photo(photo_bytes: bytes, background: Colour = WHITE) -> Image.Image:
    """The photo in RGB as people see it, decoded and turned as the model's own Transform graph does it.

    Args:
      photo_bytes: JPEG, PNG, GIF or BMP.
      background: what transparent parts are seen on.

    Raises:
      tf.errors.OpError: it cannot be decoded.
    """
    pixels = image_ops.decode_image(photo_bytes, background)
    return Image.fromarray(image_ops.upright(pixels, image_ops.exif_orientation(photo_bytes)).numpy())


def overlay(photo: Image.Image, heat: np.ndarray) -> Image.Image:
    """A heat map over a photo: where it is 0 the photo in grey, where it is 1 the colour of heat.

    Args:
      photo: upright, in RGB.
      heat: float32 [any, any], range [0, 1], of the whole photo, whatever the shape of either.
    """
    # Lanczos would ring beyond [0, 1].
    fitted = Image.fromarray(np.asarray(heat, np.float32)).resize(photo.size, Image.Resampling.BILINEAR)
    share = np.clip(np.asarray(fitted), 0, 1)
    grey = np.asarray(photo.convert("L"), np.float32)[..., np.newaxis]
    colours = _palette()[np.rint(share * 255).astype(int)]
    opacity = (0.7 * share**0.8)[..., np.newaxis]
    return Image.fromarray(np.rint(grey * (1 - opacity) + colours * opacity).astype(np.uint8))


def overlay_jpeg(photo_bytes: bytes, heat: np.ndarray, max_side: int = 160, background: Colour = WHITE) -> bytes:
    """A small picture of a photo with its heat map, for a page: a JPEG.

    Args:
      photo_bytes: of the photo's file.
      heat: as `heat_map` gives it: float32 [size, size], range [0, 1].
      max_side: of the picture's longer side, in pixels; a smaller photo stays as small as it is.
      background: what transparent parts are seen on.

    Raises:
      tf.errors.OpError: the photo cannot be decoded.
    """
    photo = upright_photo(photo_bytes, background)
    photo.thumbnail((max_side, max_side))
    return _encoded(overlay(photo, heat), "JPEG", quality=85)


def png(picture: Image.Image) -> bytes:
    return _encoded(picture, "PNG", compress_level=4)


def jpeg(picture: Image.Image) -> bytes:
    return _encoded(picture, "JPEG", quality=85)


def jpeg_uri(file: bytes) -> str:
    """A JPEG file as a data URI."""
    return "data:image/jpeg;base64," + base64.b64encode(file).decode()


def _encoded(picture: Image.Image, image_format: str, **options) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, image_format, **options)
    return buffer.getvalue()


def heat_picture(photo: Image.Image, rows: Sequence[tuple[str, Sequence[tuple[str, np.ndarray]]]]) -> Image.Image:
    """A photo, and a row of heat maps over it for each model.

    Args:
      photo: upright, in RGB.
      rows: of each model its name, and captions with heat maps.
    """
    shown = photo.copy()
    shown.thumbnail((PHOTO_SIDE, PHOTO_SIDE))
    if max(shown.size) < PHOTO_SIDE:  # a tiny photo is shown as large as the others
        larger = PHOTO_SIDE / max(shown.size)
        shown = shown.resize([max(1, round(side * larger)) for side in shown.size], Image.Resampling.BICUBIC)
    lines = [[(title, shown), *((caption, overlay(shown, heat)) for caption, heat in maps)] for title, maps in rows]
    return _scale_below(_table(lines))


def feature_map_picture(
    shown: Image.Image, rows: Sequence[tuple[str, Sequence[tuple[str, np.ndarray]]]]
) -> Image.Image:
    """A grid: a row a layer, with the photo as the model sees it in front of the first.

    Args:
      shown: what the model looks at.
      rows: of each layer its name and shape, and captions with maps float32 [height, width]; each from its own least
        value (dark) to its own largest (bright).
    """
    blank = ("", Image.new("RGB", (MAP_SIDE, MAP_SIDE), _PAPER))
    front = ("photo", shown.resize((MAP_SIDE, MAP_SIDE), Image.Resampling.BICUBIC))
    lines = []
    for i, (title, maps) in enumerate(rows):
        tiles = [blank if i else front]
        for caption, values in maps:
            least, largest = float(values.min()), float(values.max())
            share = (values - least) / (largest - least) if largest > least else np.zeros_like(values)
            tile = Image.fromarray(_palette()[np.rint(share * 255).astype(int)].astype(np.uint8))
            # Cells stay visible as cells.
            tiles.append((caption, tile.resize((MAP_SIDE, MAP_SIDE), Image.Resampling.NEAREST)))
        lines.append((title, tiles))
    return _rows_with_titles(lines, MAP_SIDE + GAP)


def channel_picture(title: str, images: Sequence[tuple[str, np.ndarray]]) -> Image.Image:
    """Captions with images float32 [size, size, 3], range [0, 1], in a grid of four columns."""
    side = 2 * MAP_SIDE
    tiles = [
        (caption, Image.fromarray(np.rint(image * 255).astype(np.uint8)).resize((side, side), Image.Resampling.BICUBIC))
        for caption, image in images
    ]
    return _rows_with_titles([("" if i else title, tiles[i : i + 4]) for i in range(0, len(tiles), 4)])


@functools.cache
def _palette() -> np.ndarray:
    """float32 [256, 3], range [0, 255]."""
    import matplotlib

    return np.asarray(matplotlib.colormaps[_COLOURS](np.arange(256))[:, :3] * 255, np.float32)


@functools.cache
def _font(size: int) -> ImageFont.FreeTypeFont:
    import matplotlib

    # It knows far more letters than Pillow's own, and names of classes are anybody's.
    return ImageFont.truetype(os.path.join(matplotlib.get_data_path(), "fonts", "ttf", "DejaVuSans.ttf"), size)


def _fitted(text: str, width: int, font: ImageFont.FreeTypeFont) -> str:
    """The text, with its end left out where it is wider than `width` pixels."""
    text = " ".join("".join(letter if letter.isprintable() else " " for letter in text).split())
    if font.getlength(text) <= width:
        return text
    while text and font.getlength(text + "…") > width:
        text = text[:-1]
    return text + "…"


def _table(lines: Sequence[Sequence[tuple[str, Image.Image]]]) -> Image.Image:
    """Captions above tiles, line by line; all tiles are of one size."""
    width, height = lines[0][0][1].size
    font = _font(TEXT_SIZE if width > MAP_SIDE else SMALL_TEXT_SIZE)
    cell_width, cell_height = width + GAP, height + TEXT_SIZE + 2 * GAP
    columns = max(map(len, lines))
    paper = Image.new("RGB", (columns * cell_width + GAP, len(lines) * cell_height + GAP), _PAPER)
    draw = ImageDraw.Draw(paper)
    for row, line in enumerate(lines):
        for column, (caption, tile) in enumerate(line):
            x, y = GAP + column * cell_width, GAP + row * cell_height
            draw.text((x, y), _fitted(caption, width, font), _INK, font)
            paper.paste(tile, (x, y + TEXT_SIZE + GAP - 3))
    return paper


def _rows_with_titles(rows: Sequence[tuple[str, Sequence[tuple[str, Image.Image]]]], indent: int = 0) -> Image.Image:
    """Rows of tiles, each below its title, which begins `indent` pixels further to the right."""
    parts = [(title, _table([tiles])) for title, tiles in rows]
    title_height, font = TEXT_SIZE + GAP // 2, _font(TEXT_SIZE)
    heights = [part.height + (title_height if title else 0) for title, part in parts]
    paper = Image.new("RGB", (max(part.width for _, part in parts), sum(heights) + GAP), _PAPER)
    draw, y = ImageDraw.Draw(paper), GAP
    for (title, part), height in zip(parts, heights, strict=True):
        paper.paste(part, (0, y + height - part.height))
        if title:
            draw.text((GAP + indent, y), _fitted(title, paper.width - 2 * GAP - indent, font), _INK, font)
        y += height
    return paper


def _scale_below(picture: Image.Image) -> Image.Image:
    """The picture with a legend of the colours of heat."""
    paper = Image.new("RGB", (picture.width, picture.height + TEXT_SIZE + 2 * GAP), _PAPER)
    paper.paste(picture)
    draw, font = ImageDraw.Draw(paper), _font(SMALL_TEXT_SIZE)
    text_before, text_after = "speaks for the class: nothing", "most"
    y, x = picture.height, GAP
    draw.text((x, y), text_before, _SOFT, font)
    x += round(font.getlength(text_before)) + GAP
    bar = np.repeat(_palette().astype(np.uint8)[np.newaxis], 12, axis=0)
    paper.paste(Image.fromarray(bar).resize((160, 12)), (x, y + 3))
    draw.text((x + 160 + GAP, y), text_after, _SOFT, font)
    return paper
