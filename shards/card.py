"""A corpus's dataset card and Croissant metadata, for whoever finds the folder."""

from __future__ import annotations

import json
from typing import Any

import pyarrow as pa

from captioner.reasons import OUTCOMES, REASONS
from shards.ledger import SCHEMA
from shards.manifest import Manifest
from shards.plan import Plan
from shards.store import Store


def write(store: Store, plan: Plan, manifest: Manifest) -> None:
    """Create README.md and croissant.json beside a complete corpus; they stay as they are once written."""
    store.create("README.md", card(plan, manifest).encode())
    store.create("croissant.json", json.dumps(croissant(plan, manifest), indent=1).encode())


def card(plan: Plan, manifest: Manifest) -> str:
    """The dataset card: what this is, how it was made, what was dropped and why, how to read it."""
    recipe, counts = plan.recipe, manifest.totals["counts"]
    outcomes = "\n".join(f"| {name} | {counts.get(name, 0):,} |" for name in OUTCOMES)
    dropped = "\n".join(
        f"| `{reason}` | {count:,} | {REASONS[reason].meaning if reason in REASONS else ''} |"
        for reason, count in manifest.totals["reasons"].items()
    )
    return f"""# A recaptioned corpus of {counts.get("captioned", 0):,} samples

Made by Recap {manifest.tool} from the source `{recipe["source"]["name"]}` with the engine `{recipe["engine"]["name"]}`
(model `{recipe["model"]}`, revision `{recipe["model_revision"]}`, prompt `{recipe["asking"]["prompt_id"]}`).
Run id `{manifest.plan}`; as of version `manifests/{manifest.number:06d}.json`.

| outcome | samples |
|---|---|
| read | {counts.get("read", 0):,} |
{outcomes}

| reason | samples | meaning |
|---|---|---|
{dropped or "| - | 0 | nothing was dropped |"}

## Reading it

`data/*.tar` hold the captioned samples: `<key>.<ext>` is the original picture or clip, `<key>.txt` the caption,
`<key>.json` the record. `data/*.parquet` is the ledger, one row per input sample, whatever became of it. Read only
files that a commit record names, and prove the whole with `recap verify`.

```python
import webdataset
for sample in webdataset.WebDataset(["data/....tar"], shardshuffle=False).decode("pil"):
    print(sample["__key__"], sample["txt"])
```

The media keep the licences of their source; the captions were written by a machine and may be wrong.
"""


# The words of Croissant's own context that stand in its own vocabulary; readers refuse a file that spells others.
_TERMS = (
    *("citeAs", "column", "equivalentProperty", "extract", "field", "fileObject", "fileProperty", "fileSet", "format"),
    *("includes", "isLiveDataset", "jsonPath", "key", "md5", "parentField", "path", "recordSet", "references", "regex"),
    *("repeated", "replace", "samplingRate", "separator", "source", "subField", "transform"),
)
CONTEXT: dict[str, Any] = {
    "@language": "en",
    "@vocab": "https://schema.org/",
    "conformsTo": "dct:conformsTo",
    "cr": "http://mlcommons.org/croissant/",
    "data": {"@id": "cr:data", "@type": "@json"},
    "dataType": {"@id": "cr:dataType", "@type": "@vocab"},
    "dct": "http://purl.org/dc/terms/",
    "examples": {"@id": "cr:examples", "@type": "@json"},
    "rai": "http://mlcommons.org/croissant/RAI/",
    "sc": "https://schema.org/",
    **{term: f"cr:{term}" for term in _TERMS},
}


def croissant(plan: Plan, manifest: Manifest) -> dict[str, Any]:
    """The corpus in MLCommons' Croissant 1.0 vocabulary (https://docs.mlcommons.org/croissant/docs/croissant-spec.html).

    It has no licence, author or date: the pictures keep their source's, and nobody here knows them.
    """
    captioned = manifest.totals["counts"]["captioned"]
    return {
        "@context": CONTEXT,
        "@type": "sc:Dataset",
        "conformsTo": "http://mlcommons.org/croissant/1.0",
        "name": f"recap-{manifest.plan[:12]}",
        "description": f"{captioned} recaptioned samples of {plan.recipe['source']['name']}.",
        "version": f"{manifest.number}.0.0",
        "distribution": [
            _file_set("corpus-files", "data/*.tar", "application/x-tar"),
            _file_set("ledger-files", "data/*.parquet", "application/x-parquet"),
        ],
        "recordSet": [
            {
                "@type": "cr:RecordSet",
                "@id": "ledger",
                "name": "ledger",
                "description": "One row per input sample. Not described here, as Croissant has no type for a map: "
                + ", ".join(column.name for column in SCHEMA if pa.types.is_map(column.type)),
                "field": [_field(column) for column in SCHEMA if not pa.types.is_map(column.type)],
            }
        ],
    }


def _file_set(name: str, includes: str, encoding: str) -> dict[str, str]:
    return {"@type": "cr:FileSet", "@id": name, "name": name, "includes": includes, "encodingFormat": encoding}


def _field(column: pa.Field) -> dict[str, Any]:
    """A column of the ledger; a list is a repeated field of its items."""
    repeated = pa.types.is_list(column.type)
    return {
        "@type": "cr:Field",
        "@id": f"ledger/{column.name}",
        "name": column.name,
        "dataType": _data_type(column.type.value_type if repeated else column.type),
        "source": {"fileSet": {"@id": "ledger-files"}, "extract": {"column": column.name}},
    } | ({"repeated": True} if repeated else {})


def _data_type(arrow: pa.DataType) -> str:
    if pa.types.is_integer(arrow):
        return "sc:Integer"
    return "sc:Float" if pa.types.is_floating(arrow) else "sc:Text"
