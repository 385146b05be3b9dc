"""Any mode Pillow can hold, by a stated rule, to opaque 8-bit sRGB."""

from __future__ import annotations

from functools import lru_cache
from io import BytesIO

from PIL import Image, ImageCms

from captioner.errors import MediaError

BACKGROUND = (255, 255, 255)  # white: what a page shows under a cut-out product or logo
_WITH_ALPHA = frozenset(("RGBA", "LA", "PA", "RGBa", "La"))
_SPACES = {"L": "GRAY", "RGB": "RGB", "CMYK": "CMYK", "LAB": "Lab"}
_SRGB = ImageCms.createProfile("sRGB")


def has_alpha(image: Image.Image) -> bool:
    """Whether it has an alpha channel or a transparent colour, used or not."""
    return image.mode in _WITH_ALPHA or "transparency" in image.info


def to_shrinkable(image: Image.Image) -> Image.Image:
    """A mode whose channels may be averaged: L, RGB, RGBA, CMYK or LAB.

    1-bit: black and white. P, PA: through the palette. I;16 (and 16-bit RGB, which Pillow cuts itself): the high
    byte. F: 0 to 1 if no pixel is over 1, else 0 to 255. Raises MediaError unsupported_mode for anything else.
    """
    if has_alpha(image):
        return image if image.mode == "RGBA" else image.convert("RGBA")
    if image.mode in _SPACES:
        return image
    if image.mode == "1":
        return image.convert("L")
    if image.mode in ("P", "YCbCr"):
        return image.convert("RGB")
    if image.mode.startswith("I;16"):
        return image.convert("I").point(lambda value: value * (1 / 256)).convert("L")
    if image.mode == "F":
        return _from_float(image)
    raise MediaError("unsupported_mode", f"no rule for {image.mode[:8]} pixels")


def _from_float(image: Image.Image) -> Image.Image:
    low, high = image.getextrema()
    if not (isinstance(low, float) and isinstance(high, float) and low >= 0 and high <= 255):
        raise MediaError("unsupported_mode", "float pixels outside 0 to 255 have no stated white")
    return image.point(lambda value: value * (255.0 if high <= 1 else 1.0) + 0.5).convert("L")


def to_srgb(image: Image.Image, profile: bytes | None) -> tuple[Image.Image, bool]:
    """The picture as RGB on the background, and whether its ICC profile was broken or of another space.

    With a sound profile: that profile to sRGB, perceptual. Without: RGB and L are taken as sRGB, CMYK by
    (1-C)(1-K) of each (Adobe's inverted JPEGs come upright from Pillow), LAB as D50 CIELAB.
    """
    colours = image.convert("RGB") if image.mode == "RGBA" else image
    transform, ignored = _transform(profile, colours.mode) if profile else (None, False)
    if transform is None and colours.mode == "LAB":
        transform = _from_lab()
    if transform is not None:
        colours = transform.apply(colours)
    elif colours.mode != "RGB":
        colours = colours.convert("RGB")
    if image.mode != "RGBA":
        return colours, ignored
    flat = Image.new("RGB", image.size, BACKGROUND)
    flat.paste(colours, mask=image.getchannel("A"))
    return flat, ignored


@lru_cache(maxsize=64)
def _transform(profile: bytes, mode: str) -> tuple[ImageCms.ImageCmsTransform | None, bool]:
    """A transform to sRGB, None where there is nothing to do; and whether the profile had to be ignored."""
    try:
        source = ImageCms.ImageCmsProfile(BytesIO(profile))
        if source.profile.xcolor_space.strip() != _SPACES[mode]:
            return None, True
        transform = ImageCms.ImageCmsTransform(source, ImageCms.ImageCmsProfile(_SRGB), mode, "RGB")
        return (None if mode == "RGB" and _changes_nothing(transform) else transform), False
    except (OSError, ValueError, TypeError, ImageCms.PyCMSError):
        return None, True


def _changes_nothing(transform: ImageCms.ImageCmsTransform) -> bool:
    """Whether the profile is sRGB by any name: no colour of a 6x6x6 cube moves by more than one step."""
    levels = range(0, 256, 51)
    cube = bytes(value for r in levels for g in levels for b in levels for value in (r, g, b))
    moved = transform.apply(Image.frombytes("RGB", (216, 1), cube)).tobytes()
    return all(abs(there - here) <= 1 for there, here in zip(moved, cube, strict=True))


@lru_cache(maxsize=1)
def _from_lab() -> ImageCms.ImageCmsTransform:
    lab = ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB"))
    return ImageCms.ImageCmsTransform(lab, ImageCms.ImageCmsProfile(_SRGB), "LAB", "RGB")
