"""SCREENS judge a sample before the engine, FILTERS judge its caption after; one file and one line a part.

Every dataset has all FILTERS, in this order, unless its script says otherwise; screens are what a script names.
"""

SCREENS = {
    "format": "captioner.filters.format:Format",
    "container": "captioner.filters.container:Container",
    "bytes": "captioner.filters.bytes:Bytes",
    "pixels": "captioner.filters.pixels:Pixels",
    "resolution": "captioner.filters.resolution:Resolution",
    "aspect": "captioner.filters.aspect:Aspect",
    "scores": "captioner.filters.scores:Scores",
}

FILTERS = {
    "empty": "captioner.filters.empty:Empty",
    "characters": "captioner.filters.characters:Characters",
    "markup": "captioner.filters.markup:Markup",
    "refusal": "captioner.filters.refusal:Refusal",
    "echo": "captioner.filters.echo:Echo",
    "truncated": "captioner.filters.truncated:Truncated",
    "repetition": "captioner.filters.repetition:Repetition",
    "length": "captioner.filters.length:Length",
}
