"""Stored bytes to a bounded picture: the pure function that runs inside a decoder process, and nowhere else."""

from __future__ import annotations

import math
import struct
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
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

Size = tuple[int, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Loaded:
    """A decoded first frame, not yet upright where turn, an EXIF orientation, is not 1.

    stored: its size in px before libjpeg scaled it. target: the size it gets. box: the part of image that the
    original covers, in px of image: scaling by 1/8 up to whole px leaves a fraction over.
    """

    image: ImageFile.ImageFile
    stored: Size
    target: Size
    box: tuple[float, float, float, float] | None
    turn: int
    rotated: bool


def decode(media: bytes, budget: PixelBudget, max_pixels: int) -> Decoded:
    """The first frame, upright by EXIF, shrunk to the budget, opaque 8-bit sRGB on white, as a JPEG of ours.

    max_pixels: of the original, judged from its header. Flags: animated, several_pictures, trailing_bytes, rotated,
    had_alpha, icc_ignored. Raises MediaError: undecodable, truncated_image, too_many_pixels, metadata_too_large,
    unsupported_mode, resource_exceeded; its detail is ours, never a library's.
    """
    envelope = envelope_of(media)
    with _in_our_words(envelope.format):
        loaded = _load(_open(media, envelope.format, max_pixels), budget)
        if envelope.format == "JPEG" and _closed_early(media, envelope, loaded):
            raise MediaError("truncated_image", "this JPEG was closed before its last pixel")
        srgb, icc_ignored = to_srgb(_shrunk_and_upright(loaded), loaded.image.info.get("icc_profile"))
        picture = encoded(srgb)
    width, height = loaded.stored[::-1] if loaded.turn >= 5 else loaded.stored
    seen = {
        "rotated": loaded.rotated,
        "had_alpha": has_alpha(loaded.image),
        "icc_ignored": icc_ignored,
        "animated": envelope.animated,
        "several_pictures": envelope.several_pictures,
        "trailing_bytes": envelope.trailing_bytes > 0 and not envelope.several_pictures,
    }
    flags = frozenset(flag for flag, is_so in seen.items() if is_so)
    return Decoded(picture=picture, width=width, height=height, flags=flags)


def pixels(media: bytes, target: Size, max_pixels: int) -> Image.Image:
    """The first frame as decode() makes it, upright and opaque sRGB, but of exactly `target` px, bicubic, and not
    encoded again: for a model in training. For bytes that decode() has taken before: nothing limits this process.

    Raises MediaError as decode() does.
    """
    envelope = envelope_of(media)
    with _in_our_words(envelope.format):
        image = _open(media, envelope.format, max_pixels)
        turn = _orientation(image.info.get("exif")) if envelope.format != "TIFF" else 1
        stored = target[::-1] if turn >= 5 else target
        drafted = image.draft(image.mode, stored) if isinstance(image, JpegImagePlugin.JpegImageFile) else None
        image.load()
        srgb, _ = to_srgb(to_shrinkable(image), image.info.get("icc_profile"))
        scaled = srgb.resize(stored, Image.Resampling.BICUBIC, box=drafted[1] if drafted else None)
        return scaled.transpose(_UPRIGHT[turn]) if turn in _UPRIGHT else scaled


def bounded_size(width: int, height: int, budget: PixelBudget) -> Size:
    """The sides a picture gets, in px: the nearest multiples; if those are too many pixels, the lower ones once scaled;
    if they are too few, the upper ones.

    Qwen2-VL's smart_resize (so that a server resizes nothing again); one rule for both sides, so a turned picture
    gets the turned size. Beyond multiple_of : max_pixels aspects, and beyond max_aspect, the long side is cut.
    """
    step = budget.multiple_of
    sides = [max(step, round(side / step) * step) for side in (width, height)]
    if math.prod(sides) > budget.max_pixels:
        scale = math.sqrt(budget.max_pixels / (width * height))
        sides = [max(step, int(side * scale / step) * step) for side in (width, height)]
        most = max(step, budget.max_pixels // min(sides) // step * step)
        sides = [min(side, most) for side in sides]
    elif math.prod(sides) < budget.min_pixels:
        scale = math.sqrt(budget.min_pixels / (width * height))
        sides = [math.ceil(side * scale / step) * step for side in (width, height)]
    if budget.max_aspect:
        sides = [min(side, min(sides) * budget.max_aspect) for side in sides]
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


def _load(image: ImageFile.ImageFile, budget: PixelBudget) -> Loaded:
    stored, box = image.size, None
    rotated = isinstance(image, TiffImagePlugin.TiffImageFile) and image.tag_v2.get(_ORIENTATION, 1) != 1
    if isinstance(image, JpegImagePlugin.JpegImageFile):
        # libjpeg decodes at 1/2, 1/4 or 1/8 if that is no smaller than the target: 40 to 54 dB to the slow way.
        drafted = image.draft(image.mode, bounded_size(*stored, budget))
        image.load()
        box = drafted[1] if drafted else None
    else:
        image.load()
        stored = image.size  # a TIFF has been turned by now
    turn = 1 if image.format == "TIFF" else _orientation(image.info.get("exif"))
    target = bounded_size(*stored, budget)
    return Loaded(image=image, stored=stored, target=target, box=box, turn=turn, rotated=rotated or turn != 1)


def _orientation(exif: bytes | None) -> int:
    """EXIF's, 1 where there is none or it is nonsense; XMP's is not asked, as browsers do not ask it."""
    tags = Image.Exif()
    try:
        tags.load(exif or b"")
        value = tags.get(_ORIENTATION)
    except _BROKEN:
        return 1
    return value if isinstance(value, int) and value in _UPRIGHT else 1


def _closed_early(media: bytes, envelope: Envelope, loaded: Loaded) -> bool:
    """Whether an end marker stands behind half the data: libjpeg then fills up with mid-grey and says nothing.

    A picture may be grey in its corner. A progressive one has more than one scan, though, and a whole one looks
    the same with zeros between its data and its end, which a cut one would go on reading.
    """
    image = loaded.image
    corner = image.getpixel((image.width - 1, image.height - 1))
    if not {127, 128}.issuperset(corner if isinstance(corner, tuple) else (corner,)):
        return False
    if "progressive" in image.info:
        return envelope.scans == 1
    zeros = bytes(min(math.prod(loaded.stored), 2**24))  # a byte a pixel lasts for any Huffman table
    data = media[: len(media) - envelope.trailing_bytes - 2]
    again = JpegImagePlugin.JpegImageFile(BytesIO(data + zeros + b"\xff\xd9"))
    again.draft(again.mode, loaded.target)
    again.load()
    last_row = (0, image.height - 1, image.width, image.height)
    return image.crop(last_row).tobytes() != again.crop(last_row).tobytes()


def _shrunk_and_upright(loaded: Loaded) -> Image.Image:
    """Lossless pictures are turned first: shrinking rounds by rows, and all eight turns shall give the same bytes."""
    pixels, target, turn = to_shrinkable(loaded.image), loaded.target, _UPRIGHT.get(loaded.turn)
    if turn is not None and loaded.box is None:
        pixels, target, turn = pixels.transpose(turn), target[::-1] if loaded.turn >= 5 else target, None
    if pixels.size != target:
        pixels = pixels.resize(target, Image.Resampling.LANCZOS, box=loaded.box, reducing_gap=REDUCING_GAP)
    if turn is not None:
        pixels = pixels.transpose(turn)
    return pixels.copy() if pixels is loaded.image else pixels  # Pillow wants a folder to save an opened picture


def encoded(srgb: Image.Image) -> Picture:
    """Bounded RGB pixels as the JPEG that engines get."""
    srgb.info.clear()  # Pillow would write the original's comment
    out = BytesIO()
    srgb.save(out, "JPEG", quality=JPEG_QUALITY, subsampling=JPEG_SUBSAMPLING)
    return Picture(jpeg=out.getvalue(), width=srgb.width, height=srgb.height)
