"""SGLang's own request model reads what we send, every field of it.

Its interpreter needs no GPU and no torch; 55 MB, made once:

    python -m venv ENV && ENV/bin/pip install --no-deps sglang==0.5.23
    ENV/bin/pip install pydantic msgspec openai==2.8.0
    RECAP_SGLANG_PYTHON=ENV/bin/python pytest tests/test_adapters_sglang.py
"""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest

from captioner.engines.openai import body_of, payload
from captioner.engines.replica import CANARY
from captioner.types import Sampling
from tests.test_adapters import DRAWN, GREEDY, asked, request_of

PYTHON = os.environ.get("RECAP_SGLANG_PYTHON", "")
pytestmark = pytest.mark.skipif(
    not PYTHON, reason="RECAP_SGLANG_PYTHON names no interpreter with SGLang: see this file's first lines"
)

REQUESTS = [
    (request_of(b"one"), asked("sglang", GREEDY)),
    (request_of(b"one"), asked("sglang", DRAWN, stream=True)),
    (request_of(*[b"frame"] * 16, prompt="Tell it: 1, 2 … ü \u2028"), asked("sglang", DRAWN)),
    (request_of(prompt=""), asked("sglang", Sampling(max_tokens=1, temperature=1.0))),
    (CANARY, asked("sglang", CANARY.sampling)),
]


def test_sglang_reads_every_field_that_is_sent_as_it_was_meant() -> None:
    lines = b"\n".join(body_of(request, told) for request, told in REQUESTS)
    script = Path(__file__).parent / "sglang_schema.py"
    ran = subprocess.run([PYTHON, "-I", script], input=lines, capture_output=True, timeout=120)
    assert ran.returncode == 0, ran.stderr.decode()[-2000:]
    read = [json.loads(line) for line in ran.stdout.splitlines()]
    assert len(read) == len(REQUESTS)
    for each, (request, told) in zip(read, REQUESTS, strict=True):
        sent = payload(request, told)
        assert each["unknown"] == []
        assert {name: each["read"][name] for name in sent if name != "messages"} == {
            name: value for name, value in sent.items() if name != "messages"
        }
        parts = each["read"]["messages"][0]["content"]
        assert [part["type"] for part in parts] == [part["type"] for part in sent["messages"][0]["content"]]
        urls = [part["image_url"]["url"] for part in parts if part["type"] == "image_url"]
        assert urls == [part["image_url"]["url"] for part in sent["messages"][0]["content"][:-1]]
        assert parts[-1]["text"] == request.prompt
