"""The demo's samples: ten photographs with alt texts as the web writes them, and what goes wrong in real shards."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Iterator
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from shards.pack import Packed

PHOTOS = Path(__file__).parent / "photos"

# What a crawler finds beside such pictures: titles, camera names, shop phrases; seldom what is to be seen.
ALT_TEXTS = {
    "aitzgorri_by_aitzol_berasategi": "DSC_0142 Aitzgorri 2018 hike",
    "friends_by_aitzol_berasategi": "friends :)",
    "life_by_aitzol_berasategi": "life wallpaper hd free download 1920x1080",
    "picosdeeuropa_by_aitzol_berasategi": "Picos de Europa - holiday album page 3",
    "picture_0b_by_freespace": "picture_0b.jpg",
    "picture_1a_by_freespace": "Untitled",
    "seeding_by_clements_engelhardt": "seeding | phone background",
    "sunset_by_aitzol_berasategi": "Sunset Wallpapers Top Free Sunset Backgrounds",
    "umang_by_abhishek_mudgal": "umang best price buy online",
    "wine_by_jakkub_mede": "wine 2018 (c) all rights reserved",
}


def demo_samples() -> list[Packed]:
    """Every sample of the demo, keyed as img2dataset keys them."""
    named = [*_photographs(), *_odd_ones()]
    return [_packed(f"{number:09d}", *each) for number, each in enumerate(named)]


def _packed(key: str, name: str, extension: str, media: bytes, alt: str) -> Packed:
    fields = {
        "key": key,
        "url": f"https://pictures.example/{name}",
        "uid": hashlib.sha256(name.encode()).hexdigest()[:32],
        "sha256": hashlib.sha256(media).hexdigest(),
        "caption": alt,
        "clip_l14_similarity_score": 0.21,
    }
    return Packed(key=key, extension=extension, media=media, caption=alt, fields=fields)


def _photographs() -> Iterator[tuple[str, str, bytes, str]]:
    for name, alt in ALT_TEXTS.items():
        yield f"{name}.jpg", "jpg", (PHOTOS / f"{name}.jpg").read_bytes(), alt


def _odd_ones() -> Iterator[tuple[str, str, bytes, str]]:
    """A sign to read, and bad, tiny, rotated, mislabelled and doubled pictures, made from the photographs."""
    sunset = (PHOTOS / "sunset_by_aitzol_berasategi.jpg").read_bytes()
    wine = Image.open(PHOTOS / "wine_by_jakkub_mede.jpg")
    life = Image.open(PHOTOS / "life_by_aitzol_berasategi.jpg")
    yield "sign.jpg", "jpg", _jpeg(sign("FRESH BREAD", "OPEN 7 TO 5", "CLOSED ON MONDAYS")), "shop sign template"
    yield "again.jpg", "jpg", sunset, "sunset (again)"
    yield "sideways.jpg", "jpg", _jpeg(wine.transpose(Image.Transpose.ROTATE_90), orientation=6), "IMG_0007 rotated"
    yield "print.jpg", "jpg", _jpeg(life.convert("CMYK")), "life, print version"
    yield "really_a_png.jpg", "jpg", _png(life.resize((720, 540))), "life.jpg"
    yield "thumb.jpg", "jpg", _jpeg(wine.resize((160, 240))), "wine thumbnail"
    yield "banner.jpg", "jpg", _jpeg(life.resize((6000, 600))), "banner"
    yield "half.jpg", "jpg", sunset[: len(sunset) // 2], "download interrupted"
    yield "error_page.jpg", "jpg", b"<!DOCTYPE html><html><body>403 Forbidden</body></html>", "not a picture"
    yield "nothing.jpg", "jpg", b"", "0 bytes"
    yield "drawing.jpg", "jpg", b"<svg xmlns='http://www.w3.org/2000/svg' width='900' height='900'/>", "vector art"


def sign(*lines: str) -> Image.Image:
    """A painted board with something to read on it."""
    board = Image.new("RGB", (960, 640), (244, 236, 214))
    draw = ImageDraw.Draw(board)
    draw.rectangle((24, 24, 936, 616), outline=(120, 60, 30), width=12)
    for number, line in enumerate(lines):
        font = ImageFont.load_default(size=84 if number == 0 else 60)
        draw.text((480, 170 + 150 * number), line, fill=(90, 40, 20), font=font, anchor="mm")
    return board


def _jpeg(image: Image.Image, orientation: int = 1) -> bytes:
    exif = Image.Exif()
    exif[0x0112] = orientation
    sink = io.BytesIO()
    image.save(sink, "JPEG", quality=88, exif=exif)
    return sink.getvalue()


def _png(image: Image.Image) -> bytes:
    sink = io.BytesIO()
    image.save(sink, "PNG")
    return sink.getvalue()
