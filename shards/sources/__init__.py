"""SOURCES: how each dataset names its shards and fields; one file and one line a dataset."""

SOURCES = {
    "datacomp": "shards.sources.datacomp:Datacomp",
    "laion": "shards.sources.laion:Laion",
    "sa1b": "shards.sources.sa1b:Sa1b",
    "webvid": "shards.sources.webvid:Webvid",
    "valor": "shards.sources.valor:Valor",
    "folder": "shards.sources.folder:Folder",
}
