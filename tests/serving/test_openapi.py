"""schemathesis against the running service: no 5xx, and no answer that is not documented."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from serving.problems import PROBLEMS
from tests.serving.served import FAKE, served

# A schema cannot say which bytes are a picture, so that valid bodies may be refused.
CHECKS = "not_a_server_error,status_code_conformance,content_type_conformance,response_headers_conformance," \
         "response_schema_conformance,negative_data_rejection,unsupported_method"  # fmt: skip


def test_schemathesis_finds_no_5xx_and_no_undocumented_answer(tmp_path: Path) -> None:
    async def scene() -> None:
        async with served(*FAKE) as there:
            words = ("run", f"{there.url}/openapi.json", "--checks", CHECKS, "--max-examples", "6", "--seed", "7")
            quiet = ("--no-color", "--suppress-health-check", "all", "--report-dir", str(tmp_path))
            script = str(Path(sys.executable).parent / "schemathesis")
            process = await asyncio.create_subprocess_exec(
                script, *words, *quiet, cwd=tmp_path, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
            )
            said, _ = await asyncio.wait_for(process.communicate(), 120)
            assert process.returncode == 0, said.decode()[-4000:]

    asyncio.run(scene())


def test_every_documented_problem_is_in_the_table_with_its_status_and_an_example() -> None:
    async def scene() -> None:
        async with served(*FAKE) as there:
            document = (await there.get("/openapi.json")).json
        answers = document["paths"]["/v1/captions"]["post"]["responses"]
        named = {name: int(status) for status, answer in answers.items() if int(status) >= 400
                 for name in answer["content"]["application/problem+json"]["examples"]}  # fmt: skip
        assert all(PROBLEMS[name].status == status for name, status in named.items()) and len(named) > 20

    asyncio.run(scene())
