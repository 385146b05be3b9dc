# The engine image: a vLLM or SGLang server with CUDA, in an environment of its own beside Recap's.
#   docker build -f docker/engine.Dockerfile --build-arg RECAP=recap --build-arg ENGINE=vllm==0.33.0   -t recap-vllm .
#   docker build -f docker/engine.Dockerfile --build-arg RECAP=recap --build-arg ENGINE=sglang==0.5.23 -t recap-sglang .
# On a Ray cluster it is also the image of the GPU group: Recap starts servers with --engine-python /opt/engine/bin/python.
# CUDA comes in the engines' own wheels; the host brings the driver.
ARG RECAP=recap
FROM ${RECAP}
ARG ENGINE=vllm==0.33.0
USER 0
# Triton compiles its launchers when a server starts. No version: the base's own compiler, whichever that is.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install -y --no-install-recommends gcc libc6-dev \
    && rm -rf /var/lib/apt/lists/*
RUN python -m venv /opt/engine && /opt/engine/bin/pip install --no-cache-dir "${ENGINE}"
USER 10001:10001
# Weights are mounted; nothing is fetched that a deployment did not ask for, and media only ever come as data URLs.
ENV HF_HOME=/models HF_HUB_OFFLINE=1 VLLM_MEDIA_URL_ALLOW_REDIRECTS=0 VLLM_NO_USAGE_STATS=1 DO_NOT_TRACK=1
EXPOSE 8000
HEALTHCHECK --interval=15s --timeout=5s --start-period=600s \
    CMD ["python", "-c", "import urllib.request as r; r.urlopen('http://127.0.0.1:8000/health', timeout=4)"]
# No `vllm serve` here: the same words serve builds of vLLM whose command line does not start.
ENTRYPOINT ["/opt/engine/bin/python", "-m"]
CMD ["vllm.entrypoints.openai.api_server", "--host", "0.0.0.0", "--port", "8000"]
