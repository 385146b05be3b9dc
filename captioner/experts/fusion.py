"""Facts into sentences: a paraphrase grammar that says nothing the facts do not."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator

from captioner.experts.appearance import appearance, format_of, outline
from captioner.experts.facts import Facts, Line, Tag, Thing
from captioner.experts.look import place
from captioner.experts.voice import Voice, at, counted, listed, sentence, with_article

HUGE, ALL = 0.5, 0.85  # shares of the picture from which a box has no place but "much of the frame"
FEW_LINES, FIRST_LINES, MANY_LINES = 5, 3, 15
LONGEST_QUOTE = 80  # characters
HEDGES = ("what looks like", "what appears to be", "what seems to be")

_CREATURE = ("mammal", "animal")
_VEHICLE = ("motor vehicle", "vehicle")
# Box name -> tags that say no more than the box does: they are told once.
SAME_AS = {
    "dog": ("dog", "dog or a wild relative of dogs", *_CREATURE),
    "cat": ("cat", "cat or wild cat", *_CREATURE),
    "bird": ("bird", "parrot", "chicken", "animal"),
    "horse": ("hoofed animal", *_CREATURE),
    "sheep": ("hoofed animal", *_CREATURE),
    "cow": ("hoofed animal", *_CREATURE),
    "elephant": ("elephant", *_CREATURE),
    "bear": ("bear", *_CREATURE),
    "zebra": ("zebra", "hoofed animal", *_CREATURE),
    "car": ("car", *_VEHICLE),
    "bus": ("bus", *_VEHICLE),
    "truck": ("truck", *_VEHICLE),
    "train": ("train or tram", "vehicle"),
    "plane": ("aircraft", "vehicle"),
    "boat": ("boat or ship", "sailing boat", "vehicle"),
    "bicycle": ("bicycle", "two-wheeled vehicle", "vehicle"),
    "motorcycle": ("two-wheeled vehicle", "vehicle"),
    "cup": ("cup or mug",),
    "bottle": ("bottle",),
    "wine glass": ("wine glass",),
    "couch": ("couch", "furniture"),
    "chair": ("chair or bench", "furniture"),
    "bench": ("chair or bench", "furniture"),
    "bed": ("bed", "furniture"),
    "screen": ("electronic equipment",),
    "laptop": ("laptop computer", "electronic equipment"),
    "keyboard": ("keyboard", "electronic equipment"),
    "umbrella": ("umbrella",),
    "teddy bear": ("teddy bear",),
    "pizza": ("pizza", "food"),
    "piece of fruit": ("fruit", "fruit or vegetables", "food"),
    "broccoli": ("vegetables", "fruit or vegetables", "food"),
}


def describe(facts: Facts, voice: Voice, noun: str = "picture") -> str:
    """Several sentences about the facts. noun: what is described."""
    groups = _grouped(facts)
    tag = facts.tags[0] if facts.tags else None
    told = next((group for group in groups if tag is None or tag.name in SAME_AS.get(group[0].name, ())), None)
    left = [group for group in groups if group is not told]
    shown = _subject(tag, told, facts, voice)
    parts = [
        _opening(shown, facts, voice, noun),
        *_others(left, facts, voice),
        *_written(facts, voice),
        *appearance(facts.look, voice, noun, outlined=not shown),
    ]
    return " ".join(sentence(part) for part in parts)


def _opening(shown: str, facts: Facts, voice: Voice, noun: str) -> str:
    if not shown:
        return outline(facts.look, voice, noun)
    kind = format_of(facts.look)
    comma = "," if "," in shown else ""
    wordings = (
        f"this {kind} {noun} shows {shown}",
        f"{shown}{comma} can be seen in this {kind} {noun}",
        f"this is {with_article(kind)} {noun} of {shown}",
        f"this {kind} {noun} depicts {shown}",
        f"in this {kind} {noun} one can see {shown}",
    )
    return voice.pick("opening", wordings)


def _subject(tag: Tag | None, told: list[Thing] | None, facts: Facts, voice: Voice) -> str:
    """What the opening names: the boxes that are what the deepest tag says, or else the tag itself."""
    if told is not None:
        alike = _alike(tag) if tag else ""
        return f"{_counted(told, facts, voice)}{alike}{_places(told)}"
    if tag is None:
        return ""
    return f"{hedge(voice, many=False)} {tag.phrase}" if tag.hedged else f"{tag.phrase}{_alike(tag)}"


def _alike(tag: Tag) -> str:
    return f" resembling the {tag.resembles}" if tag.resembles else ""


def hedge(voice: Voice, *, many: bool) -> str:
    """What an unsure thing is called: "what looks like"."""
    words = voice.pick("hedge", HEDGES)
    return words.replace("looks", "look").replace("appears", "appear").replace("seems", "seem") if many else words


def _grouped(facts: Facts) -> list[list[Thing]]:
    """Things by name, those that cover the most of the picture first."""
    named: dict[str, list[Thing]] = defaultdict(list)
    for thing in facts.things:
        named[thing.name].append(thing)
    return sorted(named.values(), key=lambda group: (-sum(_area(thing) for thing in group), group[0].name))


def _counted(group: list[Thing], facts: Facts, voice: Voice) -> str:
    """ "two dogs", "at least one person", "what looks like a person"."""
    name, count = group[0].name, len(group)
    number = counted(name, count)
    if any(thing.hedged for thing in group):
        return f"{hedge(voice, many=count > 1)} {number}"
    if name in facts.more:
        return f"at least one {name}" if count == 1 else f"at least {number}"
    return number


def _places(group: list[Thing]) -> str:
    """Where the things of the opening are, each of two by itself."""
    places = [_at(thing) for thing in sorted(group, key=lambda thing: thing.box)]
    if len(group) == 2 and places[0] != places[1]:
        return f", one {places[0]} and one {places[1]}"
    return _place(group)


def _place(group: list[Thing]) -> str:
    """Where the things are, if they are in one place."""
    if len(group) == 1 and _area(group[0]) > HUGE:
        return f", filling {'nearly all' if _area(group[0]) > ALL else 'much'} of the frame"
    places = {_at(thing) for thing in group}
    return f" {places.pop()}" if len(places) == 1 else ""


def _at(thing: Thing) -> str:
    left, top, right, bottom = thing.box
    return at(place((left + right) / 2, (top + bottom) / 2))


def _area(thing: Thing) -> float:
    left, top, right, bottom = thing.box
    return (right - left) * (bottom - top)


def _others(groups: list[list[Thing]], facts: Facts, voice: Voice) -> Iterator[str]:
    """The boxes that the opening left out."""
    if not groups:
        return
    things = listed([f"{_counted(group, facts, voice)}{_place(group)}" for group in groups])
    wordings = (
        f"the scene also includes {things}",
        f"the frame also holds {things}",
        f"in addition, one can see {things}",
    )
    yield voice.pick("others", wordings)


def _written(facts: Facts, voice: Voice) -> Iterator[str]:
    lines = facts.lines
    if not lines:
        return
    if len(lines) <= FEW_LINES and facts.lines_found <= 2 * FEW_LINES:
        where, quotes = at(place(*_middle(lines))), _quoted(lines)
        wordings = (f"text {where} reads {quotes}", f"one can read {quotes} {where}", f"{where} are the words {quotes}")
        yield voice.pick("written", wordings)
        return
    quotes = _quoted(lines[:FIRST_LINES])
    many = f"at least {counted('line', len(lines))} of text"
    if facts.lines_found >= MANY_LINES and len(lines) >= MANY_LINES // 3:
        many = "many lines of text"
    yield voice.pick("written", (f"there are {many}, among them {quotes}", f"{many} can be read, such as {quotes}"))


def _quoted(lines: tuple[Line, ...]) -> str:
    return listed([f'"{clipped(line)}"' for line in lines])


def _middle(lines: tuple[Line, ...]) -> tuple[float, float]:
    across = sum((line.box[0] + line.box[2]) / 2 for line in lines) / len(lines)
    return across, sum((line.box[1] + line.box[3]) / 2 for line in lines) / len(lines)


def clipped(line: Line) -> str:
    """A line as it is quoted: whole words of its first LONGEST_QUOTE characters."""
    return line.text if len(line.text) <= LONGEST_QUOTE else line.text[:LONGEST_QUOTE].rsplit(" ", 1)[0] + " ..."
