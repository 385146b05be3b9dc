"""How a picture looks, true by construction: colours by thirds, vivid accents, light and where the detail is."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from captioner.experts.facts import Accent, Look, Shares
from captioner.experts.sessions import Floats

SPOT, RARE = 0.62, 0.25  # shares of a colour in its ninth and in the whole picture
BRIGHTER, BRIGHT = 9.0, 60.0  # CIE L* above the next ninth, and at all
SIDE = 192  # px of the copy whose colours are counted; in a smaller one black and white dots turn grey
FINE = 384  # px of the longer side of the copy whose edges are measured
VIVID = 50.0  # CIE C* of an accent
ACCENT_LEAST, ACCENT_MOST = 0.004, 0.12
ACCENT_PURE = 0.75  # share of the vivid pixels around it that have its colour
ACCENT_SPREAD = 0.17  # standard deviation of its pixels' places, as a fraction of the picture
PLACES = (
    ("the upper left", "the top", "the upper right"),
    ("the left", "the middle", "the right"),
    ("the lower left", "the bottom", "the lower right"),
)
# What a vivid patch may be called, and the colour names that its pixels then have; mixtures come last.
VIVID_COLOURS = {
    "red": ("red",),
    "orange": ("orange",),
    "yellow": ("yellow",),
    "green": ("green",),
    "turquoise": ("turquoise",),
    "blue": ("blue",),
    "purple": ("purple",),
    "magenta": ("magenta",),
    "pink": ("pink",),
    "reddish orange": ("red", "orange", "orange-brown"),
    "yellow-orange": ("yellow", "orange"),
    "purplish pink": ("pink", "magenta"),
}
Names = NDArray[np.str_]


def look(picture: Image.Image) -> Look:
    """Measures a picture."""
    small = np.asarray(picture.resize((SIDE, SIDE), Image.Resampling.BOX), dtype=np.float32) / 255.0
    lab = to_lab(small)
    names = named(small, lab)
    third = SIDE // 3
    rows = [_shares(names[n * third : (n + 1) * third]) for n in range(3)]
    columns = [_shares(names[:, n * third : (n + 1) * third]) for n in range(3)]
    edges, flat = _edges(picture)
    return Look(
        width=picture.width,
        height=picture.height,
        overall=_shares(names),
        rows=(rows[0], rows[1], rows[2]),
        columns=(columns[0], columns[1], columns[2]),
        accents=_accents(names, lab),
        spot=_spot(names),
        brightest=_brightest(lab[..., 0]),
        lightness_down=_thirds(lab[..., 0].mean(axis=1)),
        lightness_across=_thirds(lab[..., 0].mean(axis=0)),
        lightness=float(lab[..., 0].mean()),
        contrast=float(lab[..., 0].std()),
        chroma=float(np.percentile(chroma(lab), 98)),
        detail=edges,
        flat=flat,
    )


def to_lab(rgb: Floats) -> Floats:
    """sRGB in 0 to 1 as CIE L*a*b* under D65; (..., 3) both."""
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    matrix = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])
    xyz = linear @ matrix.T / np.array([0.9505, 1.0, 1.089])
    root = np.where(xyz > 0.008856, np.cbrt(xyz), 7.787 * xyz + 16 / 116)
    x, y, z = root[..., 0], root[..., 1], root[..., 2]
    return np.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], axis=-1).astype(np.float32)


def chroma(lab: Floats) -> Floats:
    """CIE C*: 0 for grey, about 130 for the purest blue."""
    return np.asarray(np.hypot(lab[..., 1], lab[..., 2]), dtype=np.float32)


def named(rgb: Floats, lab: Floats) -> Names:
    """A colour name for every pixel; the first rule that holds decides."""
    hue, light, pure = _hue(rgb), lab[..., 0], chroma(lab)
    red, warm, yellow = (hue >= 340) | (hue < 15), (hue >= 15) & (hue < 46), (hue >= 46) & (hue < 66)
    green, teal = (hue >= 66) & (hue < 160), (hue >= 160) & (hue < 190)
    blue, purple = (hue >= 190) & (hue < 243), (hue >= 243) & (hue < 290)
    rules = [
        *_greys(light, pure),
        ((hue >= 285) & (pure < 38) & (light < 75), "mauve"),
        (red & (pure < 32) & (light < 62), "reddish brown"),
        *_bands(red, light, ("dark red", 30), ("red", 66), ("pink", 101)),
        ((hue >= 41) & (hue < 66) & (pure >= 45) & (light >= 64), "yellow"),
        ((hue >= 46) & (hue < 85) & (pure < 26) & (light >= 62), "beige"),
        (warm & (pure >= 50) & (light >= 56) | warm & (pure >= 58) & (light >= 48), "orange"),
        (warm & (pure >= 42) & (light >= 34), "orange-brown"),
        (warm & (light >= 60), "beige"),
        ((hue >= 36) & (hue < 49), "olive-brown"),
        *_bands(warm, light, ("dark brown", 30), ("brown", 101)),
        (yellow & (pure < 36) & (light >= 62), "beige"),
        *_bands(yellow, light, ("dark olive", 32), ("olive", 62), ("yellow", 101)),
        *_bands(green, light, ("dark green", 34), ("green", 72), ("light green", 101)),
        *_bands(teal, light, ("dark turquoise", 34), ("turquoise", 101)),
        ((blue | teal) & (pure < 17), "greyish blue"),
        *_bands(blue, light, ("dark blue", 32), ("blue", 66), ("light blue", 101)),
        (purple & (hue < 262) & (light >= 14), "bluish purple"),
        *_bands(purple, light, ("dark purple", 30), ("purple", 68), ("light purple", 101)),
        *_bands((hue >= 290) & (hue < 340), light, ("dark magenta", 32), ("magenta", 58), ("pink", 101)),
    ]
    return np.asarray(np.select([rule for rule, _ in rules], [name for _, name in rules], default="grey"))


def _greys(light: Floats, pure: Floats) -> list[tuple[NDArray[np.bool_], str]]:
    """Rules for what has no colour to speak of."""
    grey = (pure < 10) | ((light < 22) & (pure < 14))
    shades = [("dark grey", 36), ("grey", 72), ("light grey", 91), ("white", 101)]
    return [((light < 14) & (pure < 25), "black"), *((grey & (light < top), name) for name, top in shades)]


def broad(name: str) -> str:
    """ "dark green" is green, and so for all."""
    return name.split()[-1]


def _bands(hue: NDArray[np.bool_], light: Floats, *bands: tuple[str, float]) -> list[tuple[NDArray[np.bool_], str]]:
    """Rules for one hue by lightness, from dark to light: (name, L* below which it holds)."""
    return [(hue & (light < top), name) for name, top in bands]


def _hue(rgb: Floats) -> Floats:
    """HSV hue in degrees."""
    high, low = rgb.max(axis=-1), rgb.min(axis=-1)
    span = np.maximum(high - low, 1e-6)
    r, g, b = rgb[..., 0], rgb[..., 1], rgb[..., 2]
    sector = np.where(high == r, (g - b) / span, np.where(high == g, 2 + (b - r) / span, 4 + (r - g) / span))
    return np.asarray(sector * 60 % 360, dtype=np.float32)


def _shares(names: Names) -> Shares:
    fine = Counter(names.ravel().tolist())
    wide: Counter[str] = Counter()
    for name, count in fine.items():
        wide[broad(name)] += count
    return Shares(fine=_ranked(fine), broad=_ranked(wide))


def _ranked(counts: Counter[str]) -> tuple[tuple[str, float], ...]:
    whole = counts.total()
    ranked = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    return tuple((name, count / whole) for name, count in ranked)


def _accents(names: Names, lab: Floats) -> tuple[Accent, ...]:
    """Small, compact, vivid patches in a picture that is otherwise not vivid, the largest first."""
    vivid = chroma(lab) >= VIVID
    if vivid.mean() > 2 * ACCENT_MOST:
        return ()
    broads = np.vectorize(broad)(names)
    found: list[Accent] = []
    for colour, parts in VIVID_COLOURS.items():
        if any(accent.colour in parts for accent in found):
            continue  # a mixture of which one colour is a patch by itself
        patch = _patch(broads, vivid, colour)
        found += [patch] if patch else []
    return tuple(sorted(found, key=lambda accent: (-accent.share, accent.colour)))


def _patch(broads: Names, vivid: NDArray[np.bool_], colour: str) -> Accent | None:
    """The vivid pixels of a colour, if they lie together, are rare and have no vivid neighbours of other colours."""
    coloured = np.isin(broads, VIVID_COLOURS[colour])
    mine = vivid & coloured
    share = float(mine.mean())
    if not ACCENT_LEAST <= share <= ACCENT_MOST or float(coloured.mean()) > 1.5 * ACCENT_MOST:
        return None
    where = np.argwhere(mine)
    middle, spread = where.mean(axis=0), where.std(axis=0)
    if spread.max() > ACCENT_SPREAD * SIDE:
        return None
    (top, left), (bottom, right) = np.maximum(middle - 2 * spread - 2, 0), middle + 2 * spread + 3
    around = np.s_[int(top) : int(bottom), int(left) : int(right)]
    if mine[around].sum() < ACCENT_PURE * vivid[around].sum():
        return None
    y, x = (middle / SIDE).tolist()
    return Accent(colour=colour, place=place(x, y), share=share)


def _ninths(values: NDArray[Any]) -> list[tuple[str, NDArray[Any]]]:
    third = SIDE // 3
    return [
        (PLACES[row][column], values[row * third : (row + 1) * third, column * third : (column + 1) * third])
        for row in range(3)
        for column in range(3)
    ]


def _spot(names: Names) -> Accent | None:
    """The ninth that is mostly of a colour which is rare in the picture as a whole."""
    rare = {name for name, share in _shares(names).broad if share <= RARE}
    tops = [(where, *_shares(block).broad[0]) for where, block in _ninths(names)]
    spots = [Accent(colour=name, place=where, share=share) for where, name, share in tops if share >= SPOT]
    return max((spot for spot in spots if spot.colour in rare), key=lambda spot: spot.share, default=None)


def _thirds(line: Floats) -> tuple[float, float, float]:
    first, second, third = (float(part.mean()) for part in np.array_split(line, 3))
    return first, second, third


def _brightest(light: Floats) -> str:
    ranked = sorted(((float(block.mean()), where) for where, block in _ninths(light)), reverse=True)
    return ranked[0][1] if ranked[0][0] >= BRIGHT and ranked[0][0] - ranked[1][0] >= BRIGHTER else ""


def place(x: float, y: float) -> str:
    """The name of the ninth of the picture that (x, y), as fractions, lies in."""
    return PLACES[min(2, int(y * 3))][min(2, int(x * 3))]


def _edges(picture: Image.Image) -> tuple[tuple[float, ...], float]:
    """Mean edge strength of the nine ninths (grey levels a px), and the share of px equal to their neighbours."""
    grey = picture.convert("L")
    grey.thumbnail((FINE, FINE), Image.Resampling.BOX)
    light = np.asarray(grey, dtype=np.float32)
    if min(light.shape) < 6:
        return (0.0,) * 9, 1.0
    across, down = np.abs(np.diff(light, axis=1))[:-1], np.abs(np.diff(light, axis=0))[:, :-1]
    strength = np.maximum(across, down)
    ninths = [block for band in np.array_split(strength, 3) for block in np.array_split(band, 3, axis=1)]
    return tuple(float(block.mean()) for block in ninths), float((strength <= 1.5).mean())
