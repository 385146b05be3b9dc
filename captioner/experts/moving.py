"""What the experts saw in a video's frames into sentences: what is there, what changes, what is written.

They see single frames, so nothing is said of movement, and of a change only between which frames it lies.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from captioner.experts import facts as seen_facts
from captioner.experts.appearance import appearance, format_of, leading, outline
from captioner.experts.facts import Facts, Look, Tag
from captioner.experts.fusion import SAME_AS, clipped, hedge
from captioner.experts.voice import Voice, counted, listed, sentence, with_article

MAINLY = 0.5  # share of the frames in which a thing is seen, from which the video shows it
ALIKE, CUT = 0.25, 0.6  # of the colours, the share that differs: below, frames are alike; from there on, others
BRIGHTENS = 12.0  # CIE L* between the first and the last frame
MOST_THINGS, MOST_LINES = 4, 6


@dataclass(frozen=True, slots=True, kw_only=True)
class Moment:
    """A frame and what was seen in it. second: from the video's beginning."""

    second: float
    facts: Facts


@dataclass(frozen=True, slots=True, kw_only=True)
class _Seen:
    """A kind of thing over the whole video. places: numbers of the moments; most, least: of it in one of these."""

    name: str
    places: tuple[int, ...]
    most: int
    least: int
    hedged: bool
    open_ended: bool


def narrate(moments: Sequence[Moment], voice: Voice) -> str:
    """Several sentences about a video's moments, in their order. The same moments and voice make the same words."""
    things = _things(moments)
    tag = _tag(moments)
    main = [thing for thing in things if len(thing.places) >= MAINLY * len(moments)][:MOST_THINGS]
    rest = [thing for thing in things if thing not in main][:MOST_THINGS]
    middle = moments[len(moments) // 2].facts.look
    parts = [
        _opening(main, tag, middle, voice),
        *_passing(rest, moments),
        *_changes(moments, voice),
        *_written(moments),
        *(appearance(middle, voice, "video", outlined=not main and tag is None) if _steady(moments) else ()),
    ]
    return " ".join(sentence(part) for part in parts if part)


def to_json(moments: Sequence[Moment]) -> Mapping[str, Any]:
    """The moments' facts as a record keeps them."""
    frames = [{"second": round(each.second, 3), **seen_facts.to_json(each.facts)} for each in moments]
    return {"engine": "experts", "frames": frames}


def _things(moments: Sequence[Moment]) -> list[_Seen]:
    """The kinds of things, those seen in the most frames first."""
    counts: dict[str, dict[int, int]] = defaultdict(lambda: defaultdict(int))
    sure: set[str] = set()
    more: set[str] = set()
    for number, moment in enumerate(moments):
        more |= moment.facts.more
        for thing in moment.facts.things:
            counts[thing.name][number] += 1
            if not thing.hedged:
                sure.add(thing.name)
    found = [
        _Seen(
            name=name,
            places=tuple(sorted(by_place)),
            most=max(by_place.values()),
            least=min(by_place.values()),
            hedged=name not in sure,
            open_ended=name in more,
        )
        for name, by_place in counts.items()
    ]
    return sorted(found, key=lambda thing: (-len(thing.places), -thing.most, thing.name))


def _tag(moments: Sequence[Moment]) -> Tag | None:
    """What most frames show as a whole, by their deepest tags; None where they do not agree."""
    tags: dict[str, list[Tag]] = defaultdict(list)
    for moment in moments:
        for tag in moment.facts.tags[:1]:
            tags[tag.name].append(tag)
    best = max(tags.values(), key=len, default=[])
    if len(best) < MAINLY * len(moments):
        return None
    return next((tag for tag in best if not tag.hedged), best[0])


def _opening(main: Sequence[_Seen], tag: Tag | None, look: Look, voice: Voice) -> str:
    kind = format_of(look)
    names = [_named(thing, voice) for thing in main]
    if tag is not None and not any(tag.name in SAME_AS.get(thing.name, ()) for thing in main):
        phrase = f"{hedge(voice, many=False)} {tag.phrase}" if tag.hedged else tag.phrase
        names = [phrase, *names]
    if not names:
        return outline(look, voice, "video")
    shown = listed(names)
    wordings = (
        f"this {kind} video shows {shown}",
        f"in this {kind} video one can see {shown}",
        f"this is {with_article(kind)} video of {shown}",
    )
    return voice.pick("opening", wordings)


def _named(thing: _Seen, voice: Voice) -> str:
    """ "two dogs", "up to three people", "at least one cup", "what looks like a cat"."""
    number = counted(thing.name, thing.most)
    if thing.hedged:
        return f"{hedge(voice, many=thing.most > 1)} {number}"
    if thing.most != thing.least:
        return f"up to {number}"
    if thing.open_ended:
        return f"at least one {thing.name}" if thing.most == 1 else f"at least {number}"
    return number


def _passing(things: Sequence[_Seen], moments: Sequence[Moment]) -> Iterator[str]:
    """What is seen in few frames, and when."""
    for thing in things:
        name = f"what may be {counted(thing.name, thing.most)}" if thing.hedged else counted(thing.name, thing.most)
        yield f"{_when(thing.places, moments)} {name} can be seen"


def _when(places: Sequence[int], moments: Sequence[Moment]) -> str:
    last = len(moments) - 1
    if places == (0,):
        return "at the beginning"
    if places == (last,):
        return "at the end"
    seconds = [_second(moments[place]) for place in places]
    if len(seconds) == 1:
        return f"around second {seconds[0]}"
    if len(seconds) == places[-1] - places[0] + 1:
        if places[0] == 0:
            return f"up to second {seconds[-1]}"
        return f"from second {seconds[0]} to second {seconds[-1]}"
    return f"around seconds {listed([str(each) for each in seconds])}"


def _second(moment: Moment) -> int:
    return round(moment.second)


def _changes(moments: Sequence[Moment], voice: Voice) -> Iterator[str]:
    """Where the picture becomes another, whether it grows lighter or darker, or that it hardly changes."""
    if len(moments) < 2:
        return
    apart = [_apart(one.facts.look, other.facts.look) for one, other in pairwise(moments)]
    cuts = [n for n, share in enumerate(apart) if share >= CUT]
    if not cuts and max(apart) < ALIKE:
        still = ("the frames looked at differ little", "little changes from one frame looked at to the next")
        yield voice.pick("still", still)
    if cuts and len(cuts) <= 2:
        times = [f"between seconds {_second(moments[n])} and {_second(moments[n + 1])}" for n in cuts]
        yield f"the picture becomes another one {listed(times)}"
    elif cuts:
        yield f"the picture changes again and again, {len(cuts)} times at least"
    first, last = moments[0].facts.look, moments[-1].facts.look
    if abs(last.lightness - first.lightness) >= BRIGHTENS:
        yield f"it is {'lighter' if last.lightness > first.lightness else 'darker'} at the end than at the beginning"
    before, after = leading(first.overall), leading(last.overall)
    if before != after and _apart(first, last) >= ALIKE:
        yield f"at the beginning its main colours are {before}, at the end {after}"


def _steady(moments: Sequence[Moment]) -> bool:
    """Whether what is said of the middle frame's look holds for the others."""
    middle = moments[len(moments) // 2].facts.look
    return all(_apart(moment.facts.look, middle) < ALIKE for moment in moments)


def _apart(one: Look, other: Look) -> float:
    """How much of the colours of the thirds, down and across, differs between two frames, 0 to 1."""
    pairs = [*zip(one.rows, other.rows, strict=True), *zip(one.columns, other.columns, strict=True)]
    total = 0.0
    for first, second in pairs:
        shares, others = dict(first.fine), dict(second.fine)
        total += sum(abs(shares.get(name, 0.0) - others.get(name, 0.0)) for name in shares.keys() | others.keys()) / 2
    return total / len(pairs)


def _written(moments: Sequence[Moment]) -> Iterator[str]:
    """Lines that can be read, each told once, with where in the video it was read."""
    places: dict[str, list[int]] = defaultdict(list)
    for number, moment in enumerate(moments):
        for text in dict.fromkeys(clipped(line) for line in moment.facts.lines):
            places[text].append(number)
    ranked = sorted(places.items(), key=lambda each: (-len(each[1]), each[1], each[0]))[:MOST_LINES]
    together: dict[tuple[int, ...], list[str]] = defaultdict(list)
    for text, found in ranked:
        together[tuple(found)].append(f'"{text}"')
    for found_at, quotes in sorted(together.items()):
        if len(found_at) == len(moments):
            yield f"text reads {listed(quotes)}"
        else:
            yield f"{_when(found_at, moments)} one can read {listed(quotes)}"
