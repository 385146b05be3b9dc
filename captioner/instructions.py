"""Flags captions that speak to their reader instead of describing: what a picture told the engine to say."""

from __future__ import annotations

import re

from captioner.filters.markup import TOKENS
from captioner.filters.text import judged, outside_quotes

# A whole address counts in a quoted sign too: whoever trains on it learns to write it. A bare domain there is a sign.
_ADDRESS = re.compile(r"(?:https?|ftp)://\S|\bwww\.\w|\b[\w.+-]{1,64}@[\w-]{1,64}\.\w")
_DOMAIN = re.compile(r"\b[a-z0-9][a-z0-9-]{1,62}\.(?:com|org|net|io|ru|cn|info|biz|xyz|top|shop|online|site|app)\b")
_BEGINS = (
    r"(?:^|[.!?:;,\n]\s{0,3}|\b(?:and|now|then|instead|please|just|also|you (?:must|should|need to|have to|can)) )"
)
# Verbs that no description begins a sentence with; those that are nouns too need what they are done to.
_ORDERS = re.compile(
    rf"{_BEGINS}(?:buy|subscribe|sign up|click|tap here|hurry|visit (?:us|our|the (?:site|website|page)|my)"
    r"|download (?:the|our|this|it|now)|call (?:us|now|today|me|this number|the number|\+?\d+)"
    r"|follow (?:us|me|@|the link)|order (?:now|today|yours|here|online)|send (?:me|us|your|money|a|the)"
    r"|reply (?:with|to|only)|respond (?:with|only)|answer (?:with|only|yes|no|the)"
    r"|say (?:that|only|exactly|the|yes|nothing|[\"“'])|write (?:that|only|down|the|a|[\"“'])"
    r"|repeat (?:after|the|this|exactly|[\"“'])"
    r"|output (?:only|the|exactly|nothing|[\"“'])|print (?:only|exactly|[\"“'])"
    r"|(?:do not|don't) (?:describe|mention|tell|reveal|say|follow|caption|miss)"
    r"|pretend|act as|assume the role|remember to|make sure (?:to|you)|enter your)(?!\w)"
)
_OVERRIDES = re.compile(
    r"\b(?:ignor(?:e|ing)|disregard(?:ing)?|forget(?:ting)?|overrid(?:e|ing)|bypass(?:ing)?)\b[^.!?\n]{0,40}?"
    r"\b(?:instructions?|tasks?|prompts?|rules|guidelines|previous|above|what you were told)\b"
    r"|\byou are now\b|\bnew instructions?:|\bsystem prompt\b|忽略[^。\n]{0,12}(?:指令|指示|提示)"
    r"|ignorier(?:e|en sie)[^.\n]{0,40}anweisung|ignora[^.\n]{0,40}instrucciones|ignore[rz][^.\n]{0,40}instructions"
)
_ROLES = re.compile(
    r"[\"'](?:role|instruction)[\"']\s{0,4}:|(?:^|\n|[.!?] )\s{0,4}#{0,6}\s?(?:user|assistant|system|human) ?:"
)
# Words of which one must be there for any of it: a plain search for them is ten times as fast.
_ADDRESS_SIGNS, _TOKEN_SIGNS = ("://", "www.", "@"), ("<", "[", "|>", "｜>", "◁", "ASSISTANT:")
_DOMAIN_SIGNS = (".com", ".org", ".net", ".io", ".ru", ".cn", ".in", ".bi", ".x", ".to", ".s", ".on", ".ap")
_ORDER_SIGNS = (
    "buy", "subscribe", "sign up", "click", "tap here", "hurry", "visit ", "download ", "call ", "follow ", "order ",
    "send ", "reply ", "respond ", "answer ", "say ", "write ", "repeat ", "output ", "print ", "do not", "don't",
    "pretend", "act as", "assume", "remember", "make sure", "enter your",
)  # fmt: skip
_OVERRIDE_SIGNS = (
    "ignor", "disregard", "forget", "overrid", "bypass", "you are now", "new instruction", "system prompt", "忽略",
)  # fmt: skip


def instruction_like(text: str) -> bool:
    """Whether a caption gives an address, an order or a role's turn. It drops nothing: the caption is data, flagged.

    Orders and bare domains in quotes are a sign that is described; role tokens and whole addresses count everywhere.
    """
    whole = judged(text)
    lower, own = whole.lower(), outside_quotes(whole).lower().replace("’", "'")
    searches = (
        (lower, _ADDRESS_SIGNS, _ADDRESS),
        (lower, (":",), _ROLES),
        (own, _DOMAIN_SIGNS, _DOMAIN),
        (own, _ORDER_SIGNS, _ORDERS),
        (own, _OVERRIDE_SIGNS, _OVERRIDES),
        (whole, _TOKEN_SIGNS, TOKENS),
    )
    return any(any(map(words.__contains__, signs)) and pattern.search(words) for words, signs, pattern in searches)
