"""SOURCES: how each dataset names its shards and fields; one file and one line a dataset."""

SOURCES = {
    "datacomp": "shards.sources.datacomp:Datacomp",
    "laion": "shards.sources.laion:Laion",
    "folder": "shards.sources.folder:Folder",
}
