"""Honest captions made by grammars: menus, charts, counts and verses that repeat a pattern and no content."""

# ruff: noqa: E501 - tables of words
from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from random import Random

from tests.labels import Half

COLOURS = ["red", "blue", "green", "yellow", "white", "black", "grey", "brown", "orange", "purple", "pink", "turquoise"]
THINGS = [
    "cup",
    "plate",
    "book",
    "lamp",
    "bottle",
    "candle",
    "vase",
    "clock",
    "basket",
    "hat",
    "shoe",
    "glove",
    "pen",
    "key",
    "coin",
    "bowl",
    "spoon",
    "ring",
]
FOODS = [
    "soup",
    "salad",
    "bread",
    "fish",
    "steak",
    "pasta",
    "rice",
    "cake",
    "tea",
    "coffee",
    "juice",
    "pie",
    "curry",
    "toast",
    "omelette",
    "pizza",
]
CITIES = [
    "Paris",
    "Rome",
    "Oslo",
    "Bern",
    "Prague",
    "Vienna",
    "Madrid",
    "Lisbon",
    "Athens",
    "Cairo",
    "Lima",
    "Quito",
    "Tokyo",
    "Delhi",
    "Perth",
    "Boston",
]
NAMES = [
    "Anna",
    "Tom",
    "Lisa",
    "Peter",
    "Maria",
    "Jan",
    "Eva",
    "Max",
    "Ole",
    "Nina",
    "Paul",
    "Rosa",
    "Ben",
    "Clara",
    "Hugo",
    "Ida",
    "Karl",
    "Lea",
]
ANIMALS = [
    "dog",
    "cat",
    "horse",
    "goat",
    "sheep",
    "duck",
    "swan",
    "crow",
    "fox",
    "deer",
    "hare",
    "mouse",
    "frog",
    "owl",
    "hen",
    "pig",
]
PLACES = (
    "on the left",
    "on the right",
    "in the middle",
    "at the top",
    "at the bottom",
    "near the door",
    "by the window",
)


def listed(words: list[str]) -> str:
    """a, b and c."""
    return ", ".join(words[:-1]) + " and " + words[-1]


def menu(dice: Random) -> str:
    foods = dice.sample(FOODS, dice.randint(4, 12))
    lines = ", ".join(f"{food} {dice.randint(1, 19)}.{dice.choice(('00', '50', '90', '20'))}" for food in foods)
    return f"A chalk board in front of a small restaurant lists the dishes of the day: {lines}."


def jerseys(dice: Random) -> str:
    numbers = listed([str(n) for n in sorted(dice.sample(range(1, 99), dice.randint(4, 15)))])
    return f"A team stands in two rows. The jerseys show the numbers {numbers}, all in white on {dice.choice(COLOURS)}."


def timetable(dice: Random) -> str:
    start, step = dice.randint(5, 9), dice.choice((10, 15, 20, 30))
    times = [f"{start + at // 60}:{at % 60:02d}" for at in range(0, step * dice.randint(5, 14), step)]
    return f"A timetable behind glass at a bus stop. The buses to {dice.choice(CITIES)} leave at {listed(times)}."


def table_top(dice: Random) -> str:
    things = [f"a {dice.choice(COLOURS)} {thing}" for thing in dice.sample(THINGS, dice.randint(4, 14))]
    return f"Seen from above, a wooden table on which lie {listed(things)}. The light comes from the left."


def counted(dice: Random) -> str:
    kinds = [
        f"{n} {animal}s" for n, animal in zip(dice.choices(range(2, 12), k=9), dice.sample(ANIMALS, 9), strict=True)
    ]
    return f"The children's drawing of a farm shows {listed(kinds[: dice.randint(3, 9)])} under a large yellow sun."


def seated(dice: Random) -> str:
    people = dice.sample(NAMES, dice.randint(3, 7))
    said = " ".join(f"{name} has a {dice.choice(COLOURS)} {dice.choice(THINGS)}." for name in people)
    return f"A drawing of a party with a name over each head. {said} A garland hangs above them."


def chart(dice: Random) -> str:
    year = dice.randint(1990, 2015)
    bars = " ".join(f"In {year + n}, it was {dice.randint(10, 990)} tons." for n in range(dice.randint(3, 7)))
    return f"A bar chart of the harvest of {dice.choice(FOODS)}. {bars} The bars are {dice.choice(COLOURS)}."


def numbered_list(dice: Random) -> str:
    things = dice.sample(THINGS, dice.randint(3, 8))
    lines = (f"{n}. A {dice.choice(COLOURS)} {thing} {dice.choice(PLACES)}." for n, thing in enumerate(things, 1))
    return "The picture shows these objects:\n" + "\n".join(lines)


def chant(dice: Random) -> str:
    word, times = dice.choice(("goal", "hey", "free", "olé", "vote", "row")), dice.randint(3, 6)
    frame = dice.choice(
        ('a crowd under a banner that says "{}" in large letters', "a singer; the lyrics on the wall go {}")
    )
    return (
        f"The photo shows {frame.format(' '.join([word] * times))}, and smoke of {dice.choice(COLOURS)} flares above."
    )


def clocks(dice: Random) -> str:
    cities = dice.sample(CITIES, dice.randint(3, 8))
    said = "; ".join(f"the one for {city} shows {dice.randint(1, 12)}:{dice.randint(0, 59):02d}" for city in cities)
    return f"A row of clocks on the wall of a hotel lobby: {said}. A clerk stands below them."


def departures(dice: Random) -> str:
    rows = "\n".join(
        f"| {dice.randint(5, 23):02d}:{dice.choice((5, 10, 25, 40)):02d} | {city} | {dice.randint(1, 30)} |"
        for city in dice.sample(CITIES, dice.randint(4, 10))
    )
    return f"A departure board at an airport:\n\n| time | to | gate |\n|---|---|---|\n{rows}\n\nTwo travellers look up at it."


def panels(dice: Random) -> str:
    count = dice.randint(3, 6)
    order = ("first", "second", "third", "fourth", "fifth", "sixth")[:count]
    animals = dice.sample(ANIMALS, count)
    said = " ".join(
        f"In the {n} panel, a {a} looks at a {dice.choice(THINGS)}." for n, a in zip(order, animals, strict=True)
    )
    return f"A comic strip of {count} panels. {said} The drawing is simple, in ink and {dice.choice(COLOURS)} wash."


def rooms(dice: Random) -> str:
    names = dice.sample(
        ("kitchen", "bathroom", "bedroom", "hall", "study", "cellar", "nursery", "pantry"), dice.randint(3, 6)
    )
    said = " ".join(f"The {n} measures {dice.uniform(2, 6):.1f} m by {dice.uniform(2, 6):.1f} m." for n in names)
    return f"A floor plan in black lines on white paper. {said} A small arrow in the corner points north."


def verse(dice: Random) -> str:
    animals = dice.sample(ANIMALS, dice.randint(4, 8))
    lines = "\n".join(f"The {one} ran after the {other}," for one, other in pairwise(animals))
    return f"A page from a picture book. The verse under the drawing reads:\n{lines}\nand home they went to bed."


def refrain(dice: Random) -> str:
    place, thing = dice.choice(CITIES), dice.choice(THINGS)
    first, second = dice.sample(ANIMALS, 2)
    return (
        f"A song sheet with a drawing of {place}. The verses read: A {first} went up the hill, to find a {thing}, to find a "
        f"{thing}. A {second} came down the hill and had the {thing} of {place}. Nobody knows who wrote it."
    )


def board(dice: Random) -> str:
    numbers = listed([str(n) for n in range(dice.randint(0, 3), dice.randint(12, 70))])
    thing = dice.choice(
        ("board game with fields", "wall of letter boxes", "folding rule", "row of seats", "race track with lanes")
    )
    return f"A {thing} numbered {numbers}. A {dice.choice(COLOURS)} {dice.choice(THINGS)} lies across it."


def results(dice: Random) -> str:
    rows = ", ".join(f"{a} {dice.randint(0, 5)}:{dice.randint(0, 5)} {b}" for a, b in
                     zip(dice.sample(CITIES, 6), reversed(dice.sample(CITIES, 6)), strict=True))  # fmt: skip
    return f"A page of sports results from an old newspaper: {rows}. A coffee stain covers the lower half."


def shelf(dice: Random) -> str:
    order = ("The top shelf", "The second shelf", "The third shelf", "The fourth shelf", "The bottom shelf")
    said = " ".join(
        f"{n} holds {listed([f'{t}s' for t in dice.sample(THINGS, 3)])}." for n in order[: dice.randint(3, 5)]
    )
    return f"The cupboard stands open and is filled to the last corner. {said}"


def positions(dice: Random) -> str:
    animals = dice.sample(ANIMALS, dice.randint(3, 6))
    places = dice.sample(PLACES, len(animals))
    said = " ".join(f"There is a {a} {p} of the picture." if "the " in p[:7] else f"There is a {a} {p}." for a, p in
                    zip(animals, places, strict=True))  # fmt: skip
    return f"A tapestry with animals on a {dice.choice(COLOURS)} ground. {said} Leaves and vines fill the space between them."


def shouting(dice: Random) -> str:
    word = dice.choice(("WOW", "BANG", "NO", "RUN", "HA", "STOP", "TICK TOCK"))
    return f'In the comic panel the word "{" ".join([word] * dice.randint(3, 12))}" fills the sky above the hero.'


HONEST_MAKERS: dict[Half, tuple[Callable[[Random], str], ...]] = {
    "tuning": (menu, jerseys, timetable, table_top, counted, seated, chart, numbered_list, chant),
    "held_out": (clocks, departures, panels, rooms, verse, refrain, board, results, shelf, positions, shouting),
}
