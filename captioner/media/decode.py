"""Stored bytes to a bounded picture: the pure function that runs inside a decoder process, and nowhere else."""

from __future__ import annotations

import math
import struct
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO

from PIL import (
    BmpImagePlugin,
    GifImagePlugin,
    Image,
    ImageFile,
    JpegImagePlugin,
    PngImagePlugin,
    TiffImagePlugin,
    WebPImagePlugin,
)

from captioner.errors import MediaError
from captioner.media.colour import has_alpha, to_shrinkable, to_srgb
from captioner.media.envelope import MAX_METADATA_BYTES, Envelope, envelope_of
from captioner.types import Decoded, Picture, PixelBudget

# 40 dB to the shrunk pixels; 4:2:0 would be 38.8 dB, a fifth fewer bytes, and smear coloured text.
JPEG_QUALITY = 90
JPEG_SUBSAMPLING = "4:4:4"
# Shrink by whole pixels to 1.5 times the size, then Lanczos: over 48 dB to Lanczos alone in half its time.
REDUCING_GAP = 1.5

# Classes, not Image.open: no other format can be reached, and an MPO is read as its first JPEG.
READERS: dict[str, type[ImageFile.ImageFile]] = {
    "JPEG": JpegImagePlugin.JpegImageFile,
    "PNG": PngImagePlugin.PngImageFile,
    "WEBP": WebPImagePlugin.WebPImageFile,
    "GIF": GifImagePlugin.GifImageFile,
    "BMP": BmpImagePlugin.BmpImageFile,
    "TIFF": TiffImagePlugin.TiffImageFile,
}
PngImagePlugin.MAX_TEXT_CHUNK = PngImagePlugin.MAX_TEXT_MEMORY = MAX_METADATA_BYTES  # counted by envelope_of already

_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_ORIENTATION = 274
_BROKEN = (
    *(ArithmeticError, AssertionError, AttributeError, EOFError, LookupError, OSError, RuntimeError, SyntaxError),
    *(TypeError, ValueError, struct.error, zlib.error),
)


def decode(media: bytes, budget: PixelBudget, max_pixels: int) -> Decoded:
    """The first frame, upright by EXIF, shrunk to the budget, opaque 8-bit sRGB on white, as a JPEG of ours.

    max_pixels: of the original, judged from its header. Flags: animated, several_pictures, trailing_bytes, rotated,
    had_alpha, icc_ignored. Raises MediaError: undecodable, truncated_image, too_many_pixels, metadata_too_large,
    unsupported_mode, resource_exceeded; its detail is ours, never a library's.
    """
    envelope = envelope_of(media)
    with _in_our_words(envelope.format):
        image = _open(media, envelope.format, max_pixels)
        stored, turn = image.size, _orientation(image)
        size = bounded_size(*stored, budget)
        alpha, shrunk = _shrink(image, size)
        srgb, icc_ignored = to_srgb(shrunk, image.info.get("icc_profile"))
        if turn != 1 and envelope.format != "TIFF":  # Pillow turns a TIFF itself, while loading
            srgb = srgb.transpose(_UPRIGHT[turn])
        picture = _encode(srgb)
    width, height = stored[::-1] if turn >= 5 else stored
    flags = _flags(envelope, rotated=turn != 1, had_alpha=alpha, icc_ignored=icc_ignored)
    return Decoded(picture=picture, width=width, height=height, flags=flags)


def bounded_size(width: int, height: int, budget: PixelBudget) -> tuple[int, int]:
    """The sides a picture gets, in px: the nearest multiples; if those are too many pixels, the lower ones once scaled.

    Qwen2-VL's smart_resize (so that a server resizes nothing again) without its least size; one rule for both
    sides, so a turned picture gets the turned size. Beyond multiple_of : max_pixels aspects the long side is cut.
    """
    step = budget.multiple_of
    sides = [max(step, round(side / step) * step) for side in (width, height)]
    if math.prod(sides) > budget.max_pixels:
        scale = math.sqrt(budget.max_pixels / (width * height))
        sides = [max(step, int(side * scale / step) * step) for side in (width, height)]
        most = max(step, budget.max_pixels // min(sides) // step * step)
        sides = [min(side, most) for side in sides]
    return sides[0], sides[1]


@contextmanager
def _in_our_words(format: str) -> Iterator[None]:
    try:
        yield
    except MemoryError:
        raise MediaError("resource_exceeded", f"decoding this {format} needs more memory than a decoder has") from None
    except Image.DecompressionBombError:
        raise MediaError("too_many_pixels", f"this {format} claims more pixels than the limit") from None
    except _BROKEN as error:
        if "truncated" in str(error).lower():
            raise MediaError("truncated_image", f"this {format} ends before its last pixel") from None
        raise MediaError("undecodable", f"the {format} decoder refuses it") from None


def _open(media: bytes, format: str, max_pixels: int) -> ImageFile.ImageFile:
    Image.MAX_IMAGE_PIXELS = max_pixels // 2  # WebP and GIF allocate while opening; Pillow refuses over twice this
    image = READERS[format](BytesIO(media))
    if image.width * image.height > max_pixels:
        raise MediaError("too_many_pixels", f"{image.width} x {image.height} px, more than {max_pixels} in all")
    return image


def _orientation(image: ImageFile.ImageFile) -> int:
    """EXIF's, 1 where there is none or it is nonsense; XMP's is not asked, as browsers do not ask it."""
    if isinstance(image, TiffImagePlugin.TiffImageFile):
        value = image.tag_v2.get(_ORIENTATION)
    else:
        exif = Image.Exif()
        try:
            exif.load(image.info.get("exif") or b"")
            value = exif.get(_ORIENTATION)
        except _BROKEN:
            value = None
    return value if isinstance(value, int) and value in _UPRIGHT else 1


def _shrink(image: ImageFile.ImageFile, size: tuple[int, int]) -> tuple[bool, Image.Image]:
    """Whether it had alpha, and its pixels at this size, in the mode they are averaged in."""
    # libjpeg decodes at 1/2, 1/4 or 1/8 as long as that is no smaller than the result: 40 to 54 dB to the slow way.
    drafted = image.draft(image.mode, size) if image.format == "JPEG" else None
    image.load()
    averaged = to_shrinkable(image)
    if averaged.size == size:
        return has_alpha(image), averaged
    box = drafted[1] if drafted else None
    return has_alpha(image), averaged.resize(size, Image.Resampling.LANCZOS, box=box, reducing_gap=REDUCING_GAP)


def _encode(srgb: Image.Image) -> Picture:
    srgb.info.clear()  # Pillow would write the original's comment
    out = BytesIO()
    srgb.save(out, "JPEG", quality=JPEG_QUALITY, subsampling=JPEG_SUBSAMPLING)
    return Picture(jpeg=out.getvalue(), width=srgb.width, height=srgb.height)


def _flags(envelope: Envelope, **seen: bool) -> frozenset[str]:
    seen["animated"] = envelope.animated
    seen["several_pictures"] = envelope.several_pictures
    seen["trailing_bytes"] = envelope.trailing_bytes > 0 and not envelope.several_pictures
    return frozenset(flag for flag, is_so in seen.items() if is_so)
