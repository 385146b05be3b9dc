"""A corpus's dataset card and Croissant metadata, for whoever finds the folder."""

from __future__ import annotations

import json
from typing import Any

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

`data/*.tar` hold the captioned samples: `<key>.<ext>` is the original picture, `<key>.txt` the caption, `<key>.json`
the record. `data/*.parquet` is the ledger, one row per input sample, whatever became of it. Read only files that a
commit record names, and prove the whole with `recap verify`.

```python
import webdataset
for sample in webdataset.WebDataset(["data/....tar"], shardshuffle=False).decode("pil"):
    print(sample["__key__"], sample["txt"])
```

The pictures keep the licences of their source; the captions were written by a machine and may be wrong.
"""


def croissant(plan: Plan, manifest: Manifest) -> dict[str, Any]:
    """The corpus in MLCommons' Croissant 1.0 vocabulary."""
    captioned = manifest.totals["counts"]["captioned"]
    fields = [
        {
            "@type": "cr:Field",
            "@id": f"ledger/{field.name}",
            "name": field.name,
            "dataType": _data_type(str(field.type)),
            "source": {"fileSet": {"@id": "ledger-files"}, "extract": {"column": field.name}},
        }
        for field in SCHEMA
    ]
    return {
        "@context": {
            "@vocab": "https://schema.org/",
            "cr": "http://mlcommons.org/croissant/",
            "sc": "https://schema.org/",
        },
        "@type": "sc:Dataset",
        "conformsTo": "http://mlcommons.org/croissant/1.0",
        "name": f"recap-{manifest.plan[:12]}",
        "description": f"{captioned} recaptioned samples of {plan.recipe['source']['name']}.",
        "version": f"{manifest.number}.0.0",
        "distribution": [
            _file_set("corpus-files", "data/*.tar", "application/x-tar"),
            _file_set("ledger-files", "data/*.parquet", "application/x-parquet"),
        ],
        "recordSet": [{"@type": "cr:RecordSet", "@id": "ledger", "name": "ledger", "field": fields}],
    }


def _file_set(name: str, includes: str, encoding: str) -> dict[str, str]:
    return {"@type": "cr:FileSet", "@id": name, "name": name, "includes": includes, "encodingFormat": encoding}


def _data_type(arrow: str) -> str:
    if arrow.startswith("int"):
        return "sc:Integer"
    return "sc:Float" if arrow in ("float", "double") else "sc:Text"
