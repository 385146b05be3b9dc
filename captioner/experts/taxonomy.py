"""ImageNet's classes as a tree of kinds one can name without being wrong; a class outside it is never spoken of.

Left out on purpose are the classes that catch whatever ImageNet has no class for: web site, jigsaw puzzle, envelope,
window screen, spotlight, jellyfish, nematode, analog clock, hook, velvet and the like. Probability that lands on
them belongs to no kind and so keeps the others from being certain.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

Leaves = Literal["named", "resembles", "silent"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """A kind of thing. phrase: with its article; indices: its ImageNet classes.

    leaves: how a single class of it is spoken of. named: ImageNet has about all there is of this kind, so a certain
    class is right. resembles: there are thousands that ImageNet does not know (breeds, species). silent: never.
    """

    phrase: str
    indices: frozenset[int]
    leaves: Leaves

    @property
    def name(self) -> str:
        """The phrase without its article."""
        return self.phrase.removeprefix("a ").removeprefix("an ")


def indices(spelled: str) -> frozenset[int]:
    """ "2-4 7" as {2, 3, 4, 7}."""
    spans = [part.partition("-") for part in spelled.split()]
    return frozenset(n for low, _, high in spans for n in range(int(low), int(high or low) + 1))


def kinds(rows: Iterable[tuple[str, Leaves, str]]) -> tuple[Kind, ...]:
    """The table's rows as kinds, the narrowest first: the deepest level that is certain is the first one certain."""
    built = [Kind(phrase=phrase, indices=indices(spelled), leaves=leaves) for phrase, leaves, spelled in rows]
    return tuple(sorted(built, key=lambda kind: (len(kind.indices), min(kind.indices))))


KINDS = kinds(
    [
        # Animals. Plant pictures call up what lives on plants (frogs, lizards, spiders, insects), because ImageNet
        # has hardly a plant: those count only under their own names, never towards "an animal".
        ("an animal", "silent", "0-24 33-37 49 50 80-106 118-125 127-299 330-397"),
        ("a bird", "resembles", "7-24 80-100 127-146"),
        ("a chicken", "silent", "7 8"),
        ("a parrot", "resembles", "87-90"),
        ("a fish", "resembles", "0 1 5 6 389-397"),  # without sharks: dolphins call them up
        ("a turtle", "silent", "33-37"),
        ("a lizard", "resembles", "38-48"),
        ("a crocodile or alligator", "silent", "49 50"),
        ("a snake", "resembles", "52-68"),
        ("a frog", "silent", "30-32"),
        ("a spider", "silent", "72-77"),
        ("an insect", "silent", "300-326"),
        ("a beetle", "resembles", "300-307"),
        ("a dragonfly or damselfly", "silent", "319 320"),
        ("a butterfly", "resembles", "321-326"),
        ("a crustacean", "silent", "118-125"),
        ("a crab", "silent", "118-121"),
        ("a mammal", "silent", "101 104-106 147-299 330-388"),
        ("a dog", "resembles", "151-268"),
        ("a dog or a wild relative of dogs", "silent", "151-275 277-280"),
        ("a fox", "silent", "277-280"),
        ("a cat", "silent", "281-285"),
        ("a cat or wild cat", "silent", "281-293"),
        ("a big cat", "named", "286-293"),
        ("a bear", "named", "294-297"),
        ("a rabbit or hare", "silent", "330-332"),
        ("a rodent", "silent", "333 335-338"),  # without porcupines: hedgehogs call them up
        ("a hoofed animal", "resembles", "339-355"),  # deer, giraffes and gnus are no classes of ImageNet
        ("a zebra", "silent", "340"),
        ("a pig or boar", "silent", "341-343"),
        ("a camel or llama", "named", "354 355"),
        ("a primate", "silent", "365-384"),
        ("an ape", "silent", "365-369"),
        ("a monkey", "resembles", "370-382"),
        ("an elephant", "silent", "101 385 386"),
        ("a panda", "named", "387 388"),
        # plants, food and drink
        ("a flower", "resembles", "984-986"),
        ("a mushroom or other fungus", "silent", "947 991-997"),
        ("food", "silent", "923-957 959-965 987 998"),
        ("fruit or vegetables", "silent", "936-957 987 998"),
        ("fruit", "resembles", "948-957"),
        ("a strawberry", "silent", "949"),
        ("a pineapple", "silent", "953"),
        ("vegetables", "resembles", "936-938 943-945"),
        ("bread", "silent", "930-932"),
        ("a pizza", "silent", "963"),
        ("a burger or hot dog", "silent", "933 934"),
        ("a frozen dessert", "silent", "928 929"),
        ("a cup or mug", "silent", "504 967 968"),
        ("a bottle", "silent", "440 737 898 907"),
        ("a wine glass", "silent", "572 966"),
        # vehicles
        (
            "a vehicle",
            "silent",
            "403-405 407 408 436 444 466 468 472 484 510 511 547 554 555 565 569 576 586 609 625 627 628 654 656 661"
            " 665 670 671 675 705 717 724 734 751 757 779 780 802 803 814 817 820 829 833 864 866 867 870 871 874 895"
            " 908 914",
        ),
        (
            "a motor vehicle",
            "silent",
            "407 408 436 468 511 555 569 586 609 627 654 656 661 675 717 734 751 757 779 803 817 864 867 874",
        ),
        ("a car", "silent", "436 468 511 609 627 656 661 751 817"),
        ("a truck", "silent", "555 569 675 717 864 867"),
        ("a bus", "silent", "654 779 874"),
        ("a two-wheeled vehicle", "silent", "444 665 670 671"),
        ("a bicycle", "silent", "444 671"),
        ("a train or tram", "silent", "466 547 565 705 820 829"),
        ("an aircraft", "silent", "404 405 895 908"),
        ("a rocket or missile", "silent", "657 744 812"),
        ("a boat or ship", "silent", "403 472 484 510 554 576 625 628 724 780 814 871 914"),
        ("a sailing boat", "silent", "484 724 780 871 914"),
        ("a tractor or other farm machine", "silent", "595 730 856 866"),
        ("a parachute", "silent", "701"),
        # places
        (
            "a building or monument",
            "silent",
            "425 437 442 449 483 497 538 580 649 663 668 682 698 727 832 853 858 863 873 900 915",
        ),
        ("a building", "silent", "425 437 449 483 497 538 580 663 668 698 727 853 858"),
        ("a bridge or pier", "silent", "718 821 839 888"),
        ("a dam", "silent", "525"),
        ("a landscape", "silent", "970 972 975-980"),
        ("mountain scenery", "silent", "970 972 979 980"),
        ("a waterside landscape", "silent", "975-978"),
        ("a coral reef", "silent", "973"),
        ("shelves of books", "silent", "453 454 624"),
        # things
        ("furniture", "silent", "423 431 453 493 495 516 520 526 532 548 559 564 703 765 831 857 894"),
        ("a chair or bench", "silent", "423 559 703 765 857"),
        ("a bed", "silent", "431 516 520 564"),
        ("a couch", "silent", "831"),
        (
            "a musical instrument",
            "silent",
            "401 402 420 432 486 513 541 546 558 566 579 593 594 642 683 687 699 776 822 875 881 889",
        ),
        ("a guitar", "silent", "402 546"),
        ("a piano", "silent", "579 881"),
        ("a drum", "silent", "541 822"),
        ("a violin or cello", "silent", "486 889"),
        # A circuit board calls up modem and hard disk: what is inside a case is never named after the case.
        (
            "electronic equipment",
            "silent",
            "482 485 487 508 527 590 592 605 620 632 662 664 673 681 713 732 742 745 754 759 782 810 848 851",
        ),
        ("a keyboard", "silent", "508 810 878"),
        ("a laptop computer", "silent", "620 681"),
        ("a camera", "silent", "732 759"),
        ("a tripod", "silent", "872"),
        ("a hand tool", "silent", "587 596 740 784"),
        ("a paintbrush", "silent", "696"),
        ("an umbrella", "silent", "879"),
        ("a teddy bear", "silent", "850"),
        ("a teapot", "silent", "849"),
        ("a fountain", "silent", "562"),
        ("a street sign", "silent", "919"),
        ("a puzzle grid", "silent", "918"),
    ]
)

# Kinds so wide that half of the probability is enough: of 700 labelled pictures none was wrong above it.
WIDE = frozenset({"a dog", "a bird", "a mammal", "a building or monument", "a landscape", "a bridge or pier"})
