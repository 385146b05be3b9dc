"""FORMATS in which a corpus goes out; one file and one line a format, or a file for those that are nearly one."""

FORMATS = {
    "eve-json": "shards.formats.eve:EveJson",
    "eve-index": "shards.formats.eve:EveIndex",
    "llava-json": "shards.formats.llava:LlavaJson",
    "llava-parquet": "shards.formats.llava:LlavaParquet",
    "webdataset": "shards.formats.tars:Tars",
    "recap-parquet": "shards.formats.tables:RecapParquet",
    "densefusion-jsonl": "shards.formats.tables:DenseFusionJsonl",
    "csv": "shards.formats.tables:Csv",
}
