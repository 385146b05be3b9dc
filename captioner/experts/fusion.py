"""Facts into sentences: a paraphrase grammar that says nothing the facts do not."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator

from captioner.experts.appearance import appearance, format_of, outline
from captioner.experts.facts import Facts, Line, Tag, Thing
from captioner.experts.look import place
from captioner.experts.voice import Voice, counted, listed, sentence

HUGE = 0.5  # share of the picture from which a box has no place but "much of it"
FEW_LINES = 5
LONGEST_QUOTE = 90  # characters

# Tags that say no more than a box of this name does.
SAME_AS = {
    "dog": ("dog", "mammal", "animal", "dog or a wild relative of dogs"),
    "cat": ("cat", "cat or wild cat", "mammal", "animal"),
    "bird": ("bird", "animal", "parrot", "chicken"),
    "horse": ("horse", "hoofed animal", "mammal", "animal"),
    "sheep": ("sheep or goat", "hoofed animal", "mammal", "animal"),
    "cow": ("bovine animal", "hoofed animal", "mammal", "animal"),
    "elephant": ("elephant", "mammal", "animal"),
    "bear": ("bear", "mammal", "animal"),
    "zebra": ("zebra", "hoofed animal", "mammal", "animal"),
    "car": ("car", "motor vehicle", "vehicle"),
    "bus": ("bus", "motor vehicle", "vehicle"),
    "truck": ("truck", "motor vehicle", "vehicle"),
    "train": ("train or tram", "vehicle"),
    "plane": ("aircraft", "vehicle"),
    "boat": ("boat or ship", "vehicle"),
    "bicycle": ("bicycle", "two-wheeled vehicle", "vehicle"),
    "motorcycle": ("motorcycle or scooter", "two-wheeled vehicle", "vehicle"),
    "cup": ("cup or mug",),
    "bottle": ("bottle",),
    "wine glass": ("wine glass",),
    "couch": ("couch", "furniture"),
    "chair": ("chair or bench", "furniture"),
    "bed": ("bed", "furniture"),
    "screen": ("screen", "electronic equipment"),
    "laptop": ("laptop computer", "electronic equipment"),
    "keyboard": ("keyboard", "electronic equipment"),
    "umbrella": ("umbrella",),
    "teddy bear": ("teddy bear",),
    "pizza": ("pizza", "food"),
    "orange": ("citrus fruit", "fruit", "fruit or vegetables", "food"),
    "banana": ("banana", "fruit", "fruit or vegetables", "food"),
}


def describe(facts: Facts, voice: Voice, noun: str = "picture") -> str:
    """Several sentences about the facts. noun: what is described, "picture" or "video frame"."""
    parts = [_opening(facts, voice, noun), *_others(facts, voice), *_written(facts, voice)]
    parts += appearance(facts.look, voice, noun)
    return " ".join(sentence(part) for part in parts)


def _opening(facts: Facts, voice: Voice, noun: str) -> str:
    shown = _subject(facts, voice)
    if not shown:
        return outline(facts.look, voice, noun)
    kind = format_of(facts.look)
    wordings = (
        f"this {kind} {noun} shows {shown}",
        f"{shown} can be seen in this {kind} {noun}",
        f"in this {kind} {noun} there is {shown}",
        f"the {kind} {noun} contains {shown}",
    )
    several = shown.split()[0] in ("at", "two", "three", "four", "five", "six", "seven", "eight")
    return voice.pick("opening", wordings).replace("there is", "there are" if several else "there is")


def _subject(facts: Facts, voice: Voice) -> str:
    """What the opening names: the deepest tag, counted if boxes of it were found; without a tag the largest boxes."""
    groups = _grouped(facts)
    tag = facts.tags[0] if facts.tags else None
    if tag is None:
        return _counted(groups[0], facts) if groups else ""
    for group in groups:
        if tag.name in SAME_AS.get(group[0].name, ()):
            return _counted(group, facts) + _resembling(tag, many=len(group) > 1)
    if tag.hedged:
        return voice.pick("hedge", ("what looks like ", "what appears to be ", "probably ")) + tag.phrase
    return tag.phrase + _resembling(tag, many=False)


def _resembling(tag: Tag, *, many: bool) -> str:
    if not tag.resembles:
        return ""
    return f" of a kind that {'resemble' if many else 'resembles'} the {tag.resembles}".replace(" of a kind that", ",")


def _grouped(facts: Facts) -> list[list[Thing]]:
    """Things by name, the most of the picture first."""
    named: dict[str, list[Thing]] = defaultdict(list)
    for thing in facts.things:
        named[thing.name].append(thing)
    return sorted(named.values(), key=lambda group: (-sum(_area(thing) for thing in group), group[0].name))


def _counted(group: list[Thing], facts: Facts) -> str:
    name = group[0].name
    least = "at least " if name in facts.more else ""
    return f"{least}{counted(name, len(group))}{_places(group)}"


def _places(group: list[Thing]) -> str:
    if len(group) == 1:
        return f", filling {_much(group[0])}" if _area(group[0]) > HUGE else f" {_at(group[0])}"
    places = [_at(thing) for thing in group]
    if len(group) == 2 and places[0] != places[1]:
        return f", one {places[0]} and one {places[1]}"
    return f" {places[0]}" if len(set(places)) == 1 else ""


def _much(thing: Thing) -> str:
    return "nearly all of the frame" if _area(thing) > 0.85 else "much of the frame"


def _at(thing: Thing) -> str:
    left, top, right, bottom = thing.box
    where = place((left + right) / 2, (top + bottom) / 2)
    return f"{'in' if where == 'the middle' else 'at'} {where}"


def _area(thing: Thing) -> float:
    left, top, right, bottom = thing.box
    return (right - left) * (bottom - top)


def _others(facts: Facts, voice: Voice) -> Iterator[str]:
    """The boxes that the opening left out."""
    groups = _grouped(facts)
    tag = facts.tags[0].name if facts.tags else None
    told = next((g for g in groups if tag is None or tag in SAME_AS.get(g[0].name, ())), None)
    left = [_counted(group, facts) for group in groups if group is not told]
    if left:
        yield voice.pick("others", ("also visible: {}", "there is also {}", "one can also make out {}")).format(
            listed(left)
        )


def _written(facts: Facts, voice: Voice) -> Iterator[str]:
    lines = facts.lines
    if not lines:
        return
    quotes = listed([f'"{_clipped(line)}"' for line in lines[:FEW_LINES]])
    where = place(*_middle(lines))
    if len(lines) > FEW_LINES:
        yield f"about {len(lines)} lines of text can be read, beginning with {quotes}"
        return
    wordings = (f"written text {_near(where)} reads {quotes}", f"the words {quotes} can be read {_near(where)}")
    yield voice.pick("written", wordings)


def _near(where: str) -> str:
    return f"in {where}" if where == "the middle" else f"at {where}"


def _middle(lines: tuple[Line, ...]) -> tuple[float, float]:
    across = sum((line.box[0] + line.box[2]) / 2 for line in lines) / len(lines)
    return across, sum((line.box[1] + line.box[3]) / 2 for line in lines) / len(lines)


def _clipped(line: Line) -> str:
    return line.text if len(line.text) <= LONGEST_QUOTE else line.text[:LONGEST_QUOTE].rsplit(" ", 1)[0] + " ..."
