"""ENGINES: who turns a request into a caption; one file and one line an engine."""

ENGINES = {
    "experts": "captioner.engines.experts:Experts",
    "sglang": "captioner.engines.served:Remote",
    "vllm": "captioner.engines.served:Remote",
    "openai": "captioner.engines.served:Remote",
    "trained": "trainer.engine:Trained",  # by name alone: nothing of the trainer is imported until it is asked for
    "fake": "captioner.engines.fake:Fake",
}
