"""How a picture looks, in sentences: colours by region, accents, light, detail and format."""

from __future__ import annotations

from captioner.experts.facts import Look, Shares
from captioner.experts.voice import Voice, listed

MOSTLY, NEARLY_ALL = 0.62, 0.9
PAIR, SECOND = 0.75, 0.25
DIFFER = 0.3  # total variation from which two regions are told apart
GREY_CHROMA = 8.0


def format_of(look: Look) -> str:
    """The picture's format as an adjective."""
    ratio = look.width / look.height
    if ratio > 2.2:
        return "panoramic"
    if ratio < 1 / 2.2:
        return "tall, narrow"
    if 0.95 <= ratio <= 1.05:
        return "square"
    return "landscape-format" if ratio > 1 else "portrait-format"


def outline(look: Look, voice: Voice, noun: str) -> str:
    """An opening for a picture of which nothing can be named."""
    colours = "black, white and grey" if look.chroma < GREY_CHROMA else _leading(look.overall)
    wordings = (f"this is a {format_of(look)} {noun} in {colours}", f"a {format_of(look)} {noun} in {colours}")
    return voice.pick("outline", wordings)


def appearance(look: Look, voice: Voice, noun: str) -> list[str]:
    """What can be said of any picture."""
    parts = [_palette(look, voice, noun), _accents(look, voice), _light(look, voice, noun), _detail(look, voice)]
    return [part for part in parts if part]


def _leading(shares: Shares) -> str:
    names = [name for name, share in shares.broad[:3] if share >= 0.12]
    return listed(names or [shares.broad[0][0]])


def _palette(look: Look, voice: Voice, noun: str) -> str:
    if look.chroma < GREY_CHROMA:
        return voice.pick("grey", (f"the {noun} has no colour", f"it is a {noun} without colour, in greys only"))
    down, across = _apart(look.rows), _apart(look.columns)
    if max(down, across) < DIFFER:
        return _throughout(look, voice, noun)
    thirds, names = (
        (look.rows, ("top", "middle", "bottom")) if down >= across else (look.columns, ("left", "centre", "right"))
    )
    said = [_region(third) for third in thirds]
    return f"the {names[0]} is {said[0]}, the {names[1]} {said[1]} and the {names[2]} {said[2]}"


def _throughout(look: Look, voice: Voice, noun: str) -> str:
    colours = _leading(look.overall)
    return voice.pick("palette", (f"its colours are mainly {colours}", f"{colours} are its main colours"))


def _region(shares: Shares) -> str:
    for ranked in (shares.fine, shares.broad):
        name, share = ranked[0]
        if share >= NEARLY_ALL:
            return f"almost entirely {name}"
        if share >= MOSTLY:
            return f"mostly {name}"
    (first, most), (second, next_most) = shares.broad[:2]
    if most + next_most >= PAIR and next_most >= SECOND:
        return f"{first} and {second}"
    return f"mixed, with {first} the most common"


def _apart(thirds: tuple[Shares, Shares, Shares]) -> float:
    """Half the sum of differences between the first and the last third's shares, 0 to 1."""
    first, last = dict(thirds[0].fine), dict(thirds[2].fine)
    return sum(abs(first.get(name, 0.0) - last.get(name, 0.0)) for name in first.keys() | last.keys()) / 2


def _accents(look: Look, voice: Voice) -> str:
    if not look.accents:
        return ""
    accent = look.accents[0]
    where = ("in " if accent.place == "the middle" else "at ") + accent.place
    return voice.pick(
        "accent",
        (f"a vivid {accent.colour} accent stands out {where}", f"{where} there is a patch of vivid {accent.colour}"),
    )


def _light(look: Look, voice: Voice, noun: str) -> str:
    if look.lightness < 28:
        return voice.pick("dark", (f"the {noun} is dark overall", "its tones are dark"))
    if look.lightness > 75:
        return voice.pick("bright", (f"the {noun} is bright overall", "its tones are light"))
    if look.contrast > 27:
        return voice.pick(
            "contrast", ("light and dark areas contrast strongly", "there is strong contrast between light and dark")
        )
    return ""


def _detail(look: Look, voice: Voice) -> str:
    if max(look.detail) < 1.0:
        return "there are hardly any edges"
    return ""
