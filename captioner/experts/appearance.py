"""How a picture looks, in sentences: colours by region, accents, light, detail and format."""

from __future__ import annotations

from captioner.experts.facts import Look, Shares
from captioner.experts.voice import Voice, at, listed, with_article

MOSTLY, NEARLY_ALL = 0.62, 0.9
PAIR, SECOND = 0.75, 0.25
LEADING, LEAD = 0.35, 0.15  # share, and by how much more than the next, from which a colour leads a mix
NOTED = 0.15  # share from which a colour is worth naming
DIFFER = 0.3  # total variation from which two regions are told apart
GREYS_ONLY, MUTED, STRONG = 8.0, 28.0, 75.0  # 98th percentile of CIE C*
DARK, BRIGHT, CONTRAST = 28.0, 76.0, 26.0  # CIE L*
EDGELESS, SMOOTH, DENSE = 1.2, 2.5, 14.0  # grey levels a px
ENOUGH = 3  # sentences about the look
SHADED, SOFT = 12.0, 14.0  # CIE L*: between opposite thirds; standard deviation
BUSY, CALM = 12.0, 4.0  # mean edge strength
FLAT = 0.75  # share of px equal to their neighbours in a graphic
DOWN, ACROSS = ("top", "middle", "bottom"), ("left", "centre", "right")
NINTHS = (
    "the upper left",
    "the top",
    "the upper right",
    "the left",
    "the middle",
    "the right",
    "the lower left",
    "the bottom",
    "the lower right",
)


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


def plain(look: Look) -> bool:
    """Whether there is nothing but one colour."""
    return look.overall.fine[0][1] >= 0.98 and look.contrast < 2.5 and max(look.detail) < EDGELESS


def outline(look: Look, voice: Voice, noun: str) -> str:
    """An opening for a picture of which nothing can be named: what kind of surface it is."""
    kind = format_of(look)
    if plain(look):
        colour = look.overall.fine[0][0]
        wordings = (f"this {kind} {noun} is a plain {colour} surface", f"plain {colour} fills this {kind} {noun}")
        return voice.pick("plain", wordings)
    surface = _surface(look)
    predicate = f"has {surface.removeprefix('with ')}" if surface.startswith("with ") else f"is {surface}"
    return voice.pick("outline", (f"this is {with_article(kind)} {noun} {surface}", f"this {kind} {noun} {predicate}"))


def _surface(look: Look) -> str:
    if max(look.detail) < EDGELESS:
        return "with soft gradations and hardly any edges"
    if min(look.detail) > DENSE:
        return "with dense, fine detail all over"
    if look.flat >= FLAT:
        return "with large even areas and few edges"
    if look.chroma < GREYS_ONLY:
        return "in shades of grey"
    told = sum(share for _, share in look.overall.broad[:3] if share >= NOTED)
    return f"{'in' if told >= NEARLY_ALL else 'mainly in'} {leading(look.overall)}"


def appearance(look: Look, voice: Voice, noun: str, *, outlined: bool) -> list[str]:
    """What can be said of any picture, apart from what it shows. outlined: its outline was told already."""
    if plain(look):
        return []
    told = outlined and not _surface(look).startswith("with ")
    palette = "" if told and look.chroma < GREYS_ONLY else _palette(look, voice, noun)
    parts = [
        palette or ("" if told else _throughout(look, voice, noun)),
        _accent(look, voice) or _spot(look, voice, palette),
        _light(look, voice, noun),
        _detail(look, voice),
    ]
    said = [part for part in parts if part]
    spare = [part for part in (_brightest(look, voice), _shading(look, voice), _texture(look, voice)) if part]
    return said + spare[: max(0, ENOUGH - len(said))]


def _brightest(look: Look, voice: Voice) -> str:
    if not look.brightest:
        return ""
    where = at(look.brightest)
    return voice.pick("brightest", (f"the light is brightest {where}", f"the brightest area is {where}"))


def _shading(look: Look, voice: Voice) -> str:
    """Which side is lighter, where they differ much."""
    for (first, _, last), (one, _, other) in ((look.lightness_down, DOWN), (look.lightness_across, ACROSS)):
        if abs(first - last) >= SHADED:
            lighter, darker = (one, other) if first > last else (other, one)
            wordings = (f"the {lighter} is lighter than the {darker}", f"the {darker} is darker than the {lighter}")
            return voice.pick("shading", wordings)
    return ""


def _texture(look: Look, voice: Voice) -> str:
    mean = sum(look.detail) / len(look.detail)
    if mean > BUSY:
        return voice.pick("busy", ("there is much fine detail", "the surface is rich in detail"))
    if mean < CALM:
        return voice.pick("calm", ("large parts are smooth", "there are few sharp edges"))
    if look.contrast < SOFT:
        return voice.pick("soft", ("contrasts are soft", "light and dark differ little"))
    return ""


def leading(shares: Shares) -> str:
    """The colours that cover most of a region."""
    names = [name for name, share in shares.broad[:3] if share >= NOTED]
    return listed(names or [shares.broad[0][0]])


def _palette(look: Look, voice: Voice, noun: str) -> str:
    """The colours of the thirds, down or across, whichever differ more; nothing if they hardly do."""
    if look.chroma < GREYS_ONLY:
        wordings: tuple[str, ...] = (f"the {noun} has no colour, only greys", f"the {noun} is without colour")
        return voice.pick("grey", wordings)
    down, across = _apart(look.rows), _apart(look.columns)
    thirds, names = (look.columns, ACROSS) if across > down else (look.rows, DOWN)
    said = [region(third) for third in thirds]
    bare = {one.removeprefix("almost entirely ").removeprefix("mostly ") for one in said}
    if max(down, across) < DIFFER or len(bare) == 1:
        return ""
    if said[0] == said[1]:
        return f"the {names[0]} and the {names[1]} are {said[0]}, while the {names[2]} is {said[2]}"
    if said[1] == said[2]:
        return f"the {names[0]} is {said[0]}, while the {names[1]} and the {names[2]} are {said[1]}"
    first, second, third = (f"the {name} is {colours}" for name, colours in zip(names, said, strict=True))
    wordings = (
        f"{first}, {second} and {third}",
        f"while {first}, {second} and {third}",
        f"{first}; {second}, and {third}",
        f"{third}, {second} and {first}",
        f"the {names[0]} third is {said[0]}, the {names[1]} one {said[1]} and the {names[2]} one {said[2]}",
        f"seen from {names[0]} to {names[2]}, the {noun} is first {said[0]}, then {said[1]} and finally {said[2]}",
    )
    return voice.pick("palette", wordings)


def _throughout(look: Look, voice: Voice, noun: str) -> str:
    name, share = look.overall.fine[0]
    if share >= MOSTLY:
        wordings: tuple[str, ...] = (f"{name} is the main colour throughout", f"the {noun} is mostly {name}")
        return voice.pick("throughout", wordings)
    colours = leading(look.overall)
    if " and " not in colours:
        wordings = (f"the most common colour is {colours}", f"{colours} is more common than any other colour")
        return voice.pick("one", wordings)
    wordings = (
        f"the main colours are {colours}",
        f"{colours} are the main colours of the {noun}",
        f"the {noun} is mainly in {colours}",
    )
    return voice.pick("throughout", wordings)


def region(shares: Shares) -> str:
    """A region's colours as what follows "is"."""
    for ranked in (shares.fine, shares.broad):
        name, share = ranked[0]
        if share >= NEARLY_ALL:
            return f"almost entirely {name}"
        if share >= MOSTLY:
            return f"mostly {name}"
    (first, most), (second, next_most) = shares.broad[:2]
    if most + next_most >= PAIR and next_most >= SECOND:
        return f"{first} and {second}"
    names = [name for name, share in shares.broad[:3] if share >= NOTED]
    if len(names) > 1:
        return f"a mix of {listed(names)}"
    return f"a mix led by {first}" if most >= LEADING and most - next_most >= LEAD else "a mix of many colours"


def _apart(thirds: tuple[Shares, Shares, Shares]) -> float:
    """Half the sum of differences between the first and the last third's shares, 0 to 1."""
    first, last = dict(thirds[0].fine), dict(thirds[2].fine)
    return sum(abs(first.get(name, 0.0) - last.get(name, 0.0)) for name in first.keys() | last.keys()) / 2


def _accent(look: Look, voice: Voice) -> str:
    if not look.accents:
        return ""
    accent = look.accents[0]
    where = at(accent.place)
    wordings = (
        f"a patch of vivid {accent.colour} stands out {where}",
        f"{where} there is a vivid {accent.colour} accent",
        f"vivid {accent.colour} catches the eye {where}",
    )
    return voice.pick("accent", wordings)


def _spot(look: Look, voice: Voice, palette: str) -> str:
    if look.spot is None or look.spot.colour in palette:
        return ""
    colour, where = look.spot.colour, at(look.spot.place)
    return voice.pick("spot", (f"{where} it is mostly {colour}", f"{colour} prevails {where}"))


def _light(look: Look, voice: Voice, noun: str) -> str:
    strong = " and light and dark areas contrast strongly" if look.contrast > CONTRAST else ""
    if look.lightness < DARK:
        return voice.pick("dark", (f"the {noun} is dark overall", "most tones are dark")) + strong
    if look.lightness > BRIGHT:
        return voice.pick("bright", (f"the {noun} is bright overall", "most tones are light")) + strong
    if strong:
        return voice.pick("contrast", (strong.removeprefix(" and "), "there is strong contrast between light and dark"))
    if GREYS_ONLY <= look.chroma < MUTED:
        return voice.pick("muted", ("the colours are muted", "none of the colours is strong"))
    if look.chroma > STRONG:
        return voice.pick(
            "strong", ("some of the colours are strong and saturated", f"the {noun} has strong, saturated colours")
        )
    return ""


def _detail(look: Look, voice: Voice) -> str:
    """Where the edges are, if they are mostly in one place."""
    ranked = sorted(range(9), key=lambda ninth: -look.detail[ninth])
    most, least = look.detail[ranked[0]], look.detail[ranked[-1]]
    if most < SMOOTH:
        return ""
    if look.detail[ranked[0]] > 1.8 * look.detail[ranked[1]]:
        where = at(NINTHS[ranked[0]])
        return voice.pick(
            "sharpest", (f"the finest detail is {where}", f"there is more fine detail {where} than anywhere else")
        )
    rows = [sum(look.detail[start : start + 3]) for start in (0, 3, 6)]
    columns = [sum(look.detail[start::3]) for start in (0, 1, 2)]
    for sums, (one, other) in ((rows, ("top", "bottom")), (columns, ("left", "right"))):
        for rich, poor in ((one, other), (other, one)):
            high, low = (sums[0], sums[2]) if rich == one else (sums[2], sums[0])
            if high > 3 * low:
                wordings = (
                    f"the {rich} is rich in detail and the {poor} comparatively smooth",
                    f"there is far more detail at the {rich} than at the {poor}",
                )
                return voice.pick("richer", wordings)
    if least > 0.6 * most and most > SMOOTH:
        return voice.pick(
            "even", ("detail is spread evenly over the frame", "no part of it is much busier than the rest")
        )
    return ""
