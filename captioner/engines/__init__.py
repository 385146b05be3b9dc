"""ENGINES: who turns a request into a caption; one file and one line an engine."""

ENGINES = {
    "experts": "captioner.engines.experts:Experts",
    "fake": "captioner.engines.fake:Fake",
}
