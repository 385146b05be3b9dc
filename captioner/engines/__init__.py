"""ENGINES: who turns a request into a caption; one file and one line an engine."""

ENGINES = {
    "experts": "captioner.engines.experts:Experts",
    "sglang": "captioner.engines.served:SGLang",
    "vllm": "captioner.engines.served:VLLM",
    "openai": "captioner.engines.served:OpenAI",
    "fake": "captioner.engines.fake:Fake",
}
