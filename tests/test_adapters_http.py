"""One replica against a scripted server: every fault of the line is an error that says whose it was."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from io import BytesIO
from typing import Any

import pytest
from aiohttp import web
from PIL import Image

from captioner.engines.replica import HttpReplica
from captioner.engines.served import Remote, Whose
from captioner.errors import (
    BadEngineResponse,
    EngineBroke,
    EngineBusy,
    EngineError,
    EngineUnavailable,
    ModelChanged,
    Refused,
    RequestRefused,
)
from captioner.filters.repetition import Repetition
from captioner.filters.truncated import Truncated
from captioner.media.decode import decode
from captioner.recipe import Asking as AskingRecipe
from captioner.request import request_for
from captioner.types import Caption, CaptionRequest, Picture, PixelBudget, Replica, Sample, Sampling
from tests.pictures import photo, stored
from tests.scripted_engine import (
    TEXT,
    Asking,
    Reply,
    ScriptedEngine,
    body,
    caption,
    cut,
    error,
    events,
    hang,
    huge,
    reset,
    trickle,
)

REQUEST = CaptionRequest(
    images=(Picture(jpeg=b"\xff\xd8picture", width=56, height=56),),
    prompt="Describe it.",
    sampling=Sampling(max_tokens=512),
    media_sha256="00",
)
SAMPLE = Sample(key="0", kind="image", media=b"", meta={}, source_shard="a")


@asynccontextmanager
async def served(
    *script: Reply, model: str = "tiny", stream: bool = False, engine: ScriptedEngine | None = None, **options: Any
) -> AsyncIterator[tuple[HttpReplica, ScriptedEngine]]:
    async with engine or ScriptedEngine() as server:
        server.then(*script)
        replica = HttpReplica(url=server.url, model=model, stream=stream, **options)
        try:
            yield replica, server
        finally:
            await replica.close()


def run(scenario: Callable[[], Awaitable[None]]) -> None:
    async def bounded() -> None:
        async with asyncio.timeout(60):
            await scenario()

    asyncio.run(bounded())


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not condition():
            await asyncio.sleep(0.01)


def test_a_replica_is_what_a_pool_takes() -> None:
    replica: Replica = HttpReplica(url="http://127.0.0.1:9/v1", model="tiny")
    assert replica.name == "http://127.0.0.1:9"


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("dialect", ["openai", "sglang", "vllm"])
def test_each_kind_of_server_is_found_out_proved_and_asked(dialect: str, stream: bool) -> None:
    async def scenario() -> None:
        async with served(engine=ScriptedEngine(dialect=dialect), stream=stream) as (replica, engine):
            await replica.prove()
            answer = await replica.ask(REQUEST)
            assert answer == Caption(
                text=TEXT,
                finish_reason="stop",
                prompt_tokens=27,
                completion_tokens=15,
                engine=dialect,
                replica=engine.url,
            )
            assert len(engine.proofs) == 1 and len(engine.asked) == 1
            assert engine.asked[0].body["stream"] is stream

    run(scenario)


def test_an_unproved_replica_asks_who_is_there_first() -> None:
    async def scenario() -> None:
        async with served(model="/models/tiny") as (replica, engine):
            assert (await replica.ask(REQUEST)).text == TEXT
            assert engine.asked[0].body["model"] == "tiny" and engine.listed == 1
            assert replica.identity is not None and replica.identity.root == "/models/tiny"

    run(scenario)


# Case 58


@pytest.mark.parametrize("stream", [False, True])
def test_a_refused_connection_is_nobodys_fault(stream: bool) -> None:
    async def scenario() -> None:
        async with served(stream=stream) as (replica, engine):
            await replica.prove()
            await engine.stop()
            with pytest.raises(EngineUnavailable, match="closed"):  # the idle connection
                await replica.ask(REQUEST)
            for ask in (lambda: replica.ask(REQUEST), replica.prove):
                with pytest.raises(EngineUnavailable, match="refused"):
                    await ask()
            await engine.start()
            await replica.prove()
            assert (await replica.ask(REQUEST)).text == TEXT

    run(scenario)


@pytest.mark.parametrize(
    "listing",
    [
        error(502),
        error(503),
        error(500),
        error(404),
        body(b"<html>starting</html>", kind="text/html"),
        body(b'{"data":'),
        body(b"", status=302, Location="http://127.0.0.1:1/"),
        reset(),
        huge(2**23),
    ],
)
def test_a_server_that_does_not_tell_its_models_is_not_there_yet(listing: Reply) -> None:
    async def scenario() -> None:
        async with served(engine=ScriptedEngine(listing=listing)) as (replica, engine):
            with pytest.raises(EngineUnavailable):
                await replica.prove()
            engine.listing = None
            await replica.prove()

    run(scenario)


# Case 59


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("slow", [hang(), trickle(), caption(seconds=600)])
def test_a_cancelled_question_closes_its_connection_so_that_the_server_stops(slow: Reply, stream: bool) -> None:
    async def scenario() -> None:
        async with served(slow, stream=stream) as (replica, engine):
            asking = asyncio.create_task(replica.ask(REQUEST))
            await until(lambda: engine.in_flight == 1)
            asking.cancel()
            with pytest.raises(asyncio.CancelledError):
                await asking
            await until(lambda: engine.hung_up == 1)
            assert (await replica.ask(REQUEST)).text == TEXT

    run(scenario)


def test_the_callers_deadline_counts_for_the_whole_answer() -> None:
    async def scenario() -> None:
        async with served(trickle(bytes_a_second=50)) as (replica, engine):
            await replica.prove()
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.3):
                    await replica.ask(REQUEST)
            await until(lambda: engine.hung_up == 1)

    run(scenario)


# Cases 60 to 65


FAULTS: list[tuple[str, Reply, type[EngineError], str]] = [
    ("busy", error(429, Retry_After="7"), EngineBusy, "engine_unavailable"),
    ("a full queue", error(503, "The request queue is full.", shape="sglang"), EngineBusy, "engine_unavailable"),
    ("overloaded", error(503), EngineUnavailable, "engine_unavailable"),
    ("a gateway", body(b"<html>502</html>", status=502), EngineUnavailable, "engine_unavailable"),
    ("broken", error(500), EngineBroke, "engine_error"),
    ("refused", error(400, "At most 8 image(s)"), RequestRefused, "engine_refused"),
    ("refused by SGLang", error(400, "bad", shape="sglang"), RequestRefused, "engine_refused"),
    ("a redirect", body(b"", status=307, Location="http://127.0.0.1:1/"), EngineUnavailable, "engine_unavailable"),
    ("dropped", reset(), EngineUnavailable, "engine_unavailable"),
    ("dropped in the body", cut(), EngineUnavailable, "engine_unavailable"),
    ("HTML", body(b"<html>hello</html>", kind="text/html"), BadEngineResponse, "bad_engine_response"),
    ("cut JSON", body(b'{"model":"tiny","choi'), BadEngineResponse, "bad_engine_response"),
    ("nothing", body(b""), BadEngineResponse, "bad_engine_response"),
    ("another schema", body(b'{"text":"A dog."}'), BadEngineResponse, "bad_engine_response"),
    ("a gibibyte", huge(2**30), BadEngineResponse, "bad_engine_response"),
    ("NaN", caption("!!!!!!!!"), BadEngineResponse, "nan_output"),
]
WHOLE_ONLY: list[tuple[str, Reply, type[EngineError], str]] = [
    ("no choices", caption(choices=[]), BadEngineResponse, "bad_engine_response"),
    ("no content", caption(None), BadEngineResponse, "bad_engine_response"),
    ("another model", caption(model="other"), BadEngineResponse, "bad_engine_response"),
]
STREAM_ONLY: list[tuple[str, Reply, type[EngineError], str]] = [
    ("a stream that stops", events(["A", " dog"], done=False), BadEngineResponse, "bad_engine_response"),
    ("a stream of another model", events(["A"], model="other"), BadEngineResponse, "bad_engine_response"),
]
EVERY_FAULT = [
    *((False, *fault) for fault in FAULTS + WHOLE_ONLY),
    *((True, *fault) for fault in FAULTS + STREAM_ONLY),
]


@pytest.mark.parametrize(("stream", "name", "reply", "kind", "reason"), EVERY_FAULT)
def test_a_fault_is_the_error_that_it_stands_for_and_the_next_question_is_answered(
    stream: bool, name: str, reply: Reply, kind: type[EngineError], reason: str
) -> None:
    async def scenario() -> None:
        async with served(reply, stream=stream) as (replica, _):
            await replica.prove()
            with pytest.raises(EngineError) as caught:
                await replica.ask(REQUEST)
            assert type(caught.value) is kind and caught.value.reason == reason
            assert caught.value.detail and "\n" not in caught.value.detail and "0x" not in caught.value.detail
            assert (await replica.ask(REQUEST)).text == TEXT
            if isinstance(caught.value, EngineBusy):
                assert caught.value.retry_after == (7.0 if name == "busy" else None)

    run(scenario)


def test_of_a_gibibyte_no_more_than_the_limit_is_read() -> None:
    async def scenario() -> None:
        async with served(huge(2**30)) as (replica, engine):
            with pytest.raises(BadEngineResponse, match="over 4194304 bytes"):
                await replica.ask(REQUEST)
            await until(lambda: engine.hung_up == 1)

    run(scenario)


@pytest.mark.parametrize("dialect", ["sglang", "vllm"])
def test_an_answer_to_another_request_is_told_where_the_server_repeats_ids(dialect: str) -> None:
    async def scenario() -> None:
        async with served(caption(id="chatcmpl-7"), engine=ScriptedEngine(dialect=dialect)) as (replica, _):
            await replica.prove()
            with pytest.raises(BadEngineResponse, match="another request"):
                await replica.ask(REQUEST)

    run(scenario)


def test_ids_are_not_relied_on_where_the_canarys_did_not_come_back() -> None:
    async def scenario() -> None:
        engine = ScriptedEngine(canary=caption(id="gateway-1"), otherwise=caption(id="gateway-2"))
        async with served(engine=engine) as (replica, _):
            await replica.prove()
            assert (await replica.ask(REQUEST)).text == TEXT

    run(scenario)


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("finish", ["length", "abort", "content_filter"])
def test_a_caption_that_was_cut_is_dropped(finish: str, stream: bool) -> None:
    async def scenario() -> None:
        async with served(caption("A red disc lies on a \ufffd", finish), stream=stream) as (replica, _):
            answer = await replica.ask(REQUEST)
            assert answer.finish_reason == finish
            assert Truncated()(SAMPLE, answer) == "truncated_caption"

    run(scenario)


# Case 66


def test_a_loop_is_hung_up_on_and_the_server_stops() -> None:
    async def scenario() -> None:
        loop = events([" round", " and"] * 5_000, seconds=0.0)
        async with served(loop, stream=True) as (replica, engine):
            answer = await replica.ask(REQUEST)
            await until(lambda: engine.hung_up == 1)
            assert answer.finish_reason == "loop" and answer.completion_tokens is not None
            assert answer.tokens_saved == 512 - answer.completion_tokens > 400
            assert engine.events_sent < 5_000
            assert Truncated()(SAMPLE, answer) == "truncated_caption"
            assert Repetition()(SAMPLE, answer) == "repetitive_caption"

    run(scenario)


def test_a_server_that_does_not_stream_is_read_whole() -> None:
    async def whole(engine: ScriptedEngine, request: web.Request, asking: Asking) -> web.StreamResponse:
        return web.json_response(engine.answer(asking, TEXT, "stop"))

    async def scenario() -> None:
        async with served(whole, stream=True) as (replica, _):
            assert (await replica.ask(REQUEST)).text == TEXT

    run(scenario)


@pytest.mark.parametrize("stream", [False, True])
def test_one_connection_serves_many_questions(stream: bool) -> None:
    async def scenario() -> None:
        async with served(stream=stream) as (replica, engine):
            await replica.prove()
            for _ in range(5):
                await replica.ask(REQUEST)
            assert len({each.peer for each in engine.proofs + engine.asked}) == 1

    run(scenario)


# Case 70


@pytest.mark.parametrize("dialect", ["openai", "sglang", "vllm"])
def test_another_model_than_the_asked_one_is_refused_with_both_names(dialect: str) -> None:
    async def scenario() -> None:
        engine = ScriptedEngine(model="other", root="/models/other", dialect=dialect)
        async with served(engine=engine) as (replica, _):
            for ask in (replica.prove, lambda: replica.ask(REQUEST)):
                with pytest.raises(ModelChanged, match="asked for tiny, but served is other"):
                    await ask()
            assert not engine.asked

    run(scenario)


@pytest.mark.parametrize("dialect", ["openai", "sglang", "vllm"])
def test_a_server_restarted_with_another_model_while_nothing_was_in_flight_is_found_out(dialect: str) -> None:
    async def scenario() -> None:
        # SGLang takes any name for a model and repeats it, so that the answer itself looks right.
        engine = ScriptedEngine(dialect=dialect, otherwise=caption(model="tiny"))
        async with served(engine=engine, recognised_seconds=0.0) as (replica, _):
            await replica.prove()
            await replica.ask(REQUEST)
            await engine.stop()
            engine.model, engine.root = "other", "/models/other"
            await engine.start()
            with pytest.raises(ModelChanged, match="asked for tiny, but served is other"):
                await replica.ask(REQUEST)

    run(scenario)


HUB_COMMIT = "c0ffee" + "0" * 34


@pytest.mark.parametrize(
    ("one", "other", "fits"),
    [
        ({"root": "Qwen/Qwen2-VL-2B-Instruct"}, {"root": "Qwen/Qwen2-VL-7B-Instruct"}, False),
        ({"root": f"/hub/snapshots/{HUB_COMMIT}"}, {"root": f"/hub/snapshots/{'d' * 40}"}, False),
        ({"root": f"/hub/snapshots/{HUB_COMMIT}"}, {"root": f"/elsewhere/snapshots/{HUB_COMMIT}"}, True),
        ({"root": "/models/tiny"}, {"root": "Qwen/Qwen2-VL-2B-Instruct"}, True),
        ({"dialect": "sglang", "weights": "v1"}, {"dialect": "sglang", "weights": "v2"}, False),
    ],
)
def test_replicas_of_one_pool_that_serve_different_models_under_one_name_are_found_out(
    one: dict[str, str], other: dict[str, str], fits: bool
) -> None:
    async def scenario() -> None:
        async with ScriptedEngine(**one) as first, ScriptedEngine(**other) as second:
            engine, whose = Remote(), Whose(model="tiny")
            replicas = [engine.replica(each.url, whose) for each in (first, second)]
            await replicas[0].prove()
            if fits:
                await replicas[1].prove()
            else:
                with pytest.raises(ModelChanged, match=f"{first.url} serves .*, and {second.url}"):
                    await replicas[1].prove()
            for each in replicas:
                await each.close()

    run(scenario)


def test_a_caption_says_the_revision_that_its_server_told() -> None:
    async def scenario() -> None:
        async with served(engine=ScriptedEngine(root=f"/hub/snapshots/{HUB_COMMIT}")) as (replica, _):
            assert (await replica.ask(REQUEST)).revision == HUB_COMMIT

    run(scenario)


def test_weights_that_were_replaced_while_it_ran_are_another_model() -> None:
    async def scenario() -> None:
        engine = ScriptedEngine(dialect="sglang")
        async with served(engine=engine) as (replica, _):
            await replica.prove()
            engine.weights = "step-2"
            with pytest.raises(ModelChanged, match=r"weights default.*weights step-2"):
                await replica.prove()

    run(scenario)


def test_a_model_that_the_server_does_not_know_any_more_ends_the_run() -> None:
    async def scenario() -> None:
        async with served(error(404, "The model `tiny` does not exist.")) as (replica, _):
            await replica.prove()
            with pytest.raises(ModelChanged, match="does not exist"):
                await replica.ask(REQUEST)

    run(scenario)


def test_another_revision_is_refused_and_an_untold_one_is_not() -> None:
    async def scenario() -> None:
        for told, asked in (("a1", "a1"), (None, "a1"), ("a1", None)):
            async with served(engine=ScriptedEngine(dialect="sglang", revision=told), revision=asked) as (replica, _):
                await replica.prove()
        async with served(engine=ScriptedEngine(dialect="sglang", revision="b2"), revision="a1") as (replica, _):
            with pytest.raises(ModelChanged, match=r"asked for revision a1.*b2"):
                await replica.prove()

    run(scenario)


# Proofs


@pytest.mark.parametrize(
    ("canary", "kind"),
    [
        (error(500), EngineUnavailable),
        (error(503), EngineUnavailable),
        (caption("!!!!!!!!", "length"), EngineUnavailable),
        (body(b"<html>hello</html>"), EngineUnavailable),
        (reset(), EngineUnavailable),
        (error(400, "tiny is not a multimodal model"), Refused),
        (error(404, "The model `tiny` does not exist."), ModelChanged),
    ],
)
def test_a_canary_that_is_not_answered_proves_nothing(canary: Reply, kind: type[Exception]) -> None:
    async def scenario() -> None:
        async with served(engine=ScriptedEngine(canary=canary)) as (replica, engine):
            with pytest.raises(kind) as caught:
                await replica.prove()
            assert type(caught.value) is kind and engine.proofs

    run(scenario)


@pytest.mark.parametrize("canary", [error(429), caption("", "stop"), caption("A red disc on", "length")])
def test_a_full_server_and_one_that_says_anything_are_sound(canary: Reply) -> None:
    async def scenario() -> None:
        async with served(engine=ScriptedEngine(canary=canary)) as (replica, _):
            await replica.prove()

    run(scenario)


def test_a_key_comes_from_the_environment_and_is_shown_nowhere(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ENGINE_KEY", "sk-very-secret")

    async def scenario() -> None:
        async with served(error(401, "no: sk-very-secret"), key_variable="ENGINE_KEY") as (replica, engine):
            await replica.prove()
            with pytest.raises(EngineUnavailable) as caught:
                await replica.ask(REQUEST)
            assert engine.asked[0].headers["Authorization"] == "Bearer sk-very-secret"
            assert "secret" not in repr(replica) + repr(caught.value) + repr(replica.identity)

    run(scenario)


@pytest.mark.parametrize("value", ["", "  ", "sk\nX-Evil: 1", "schlüssel"])
def test_a_key_that_cannot_be_sent_is_refused_unseen(value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ENGINE_KEY", value)

    async def scenario() -> None:
        async with served(key_variable="ENGINE_KEY") as (replica, _):
            with pytest.raises(Refused, match="ENGINE_KEY holds no key"):
                await replica.prove()

    run(scenario)


def test_a_wrong_key_is_refused_at_the_proof(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ENGINE_KEY", "sk-wrong")

    async def scenario() -> None:
        async with served(engine=ScriptedEngine(listing=error(401)), key_variable="ENGINE_KEY") as (replica, _):
            with pytest.raises(Refused, match=r"\$ENGINE_KEY"):
                await replica.prove()

    run(scenario)


# What an engine sees


@pytest.mark.parametrize("stream", [False, True])
def test_an_engine_sees_no_url_no_metadata_and_no_original_bytes(stream: bool) -> None:
    exif = Image.Exif()
    exif[0x010E] = "taken at http://home.example by Jane"
    media = stored(photo(), "JPEG", exif=exif.tobytes(), comment=b"a comment of Jane's")
    sample = Sample(
        key="jane/1",
        kind="image",
        media=media,
        meta={"url": "http://home.example/1.jpg", "caption": "Jane's garden", "sidecar": {"exif": "Jane"}},
        source_shard="jane.tar",
    )
    budget = PixelBudget(max_pixels=200_000, multiple_of=28)
    way = AskingRecipe(prompt_id="p", prompt="Describe it.", budget=budget, ladder=(Sampling(max_tokens=64),))
    request = request_for(sample, decode(media, budget, 10**7), way)

    async def scenario() -> None:
        async with served(stream=stream) as (replica, engine):
            await replica.ask(request)
            (asked,) = engine.asked
            [picture] = [part for part in asked.body["messages"][0]["content"] if part["type"] == "image_url"]
            prefix, _, encoded = picture["image_url"]["url"].partition(",")
            seen = base64.b64decode(encoded)
            assert prefix == "data:image/jpeg;base64" and seen == request.images[0].jpeg
            assert b"Exif" not in seen and media[2:200] not in seen
            with Image.open(BytesIO(seen)) as shown:
                assert not shown.getexif() and "comment" not in shown.info
            # Outside the picture: only the prompt, the sampling and the model.
            outside = json.dumps(asked.body).replace(encoded, "") + json.dumps(dict(asked.headers))
            assert "http" not in outside.replace(engine.url, "") and "ane" not in outside and "sha" not in outside

    run(scenario)


def test_pictures_of_a_video_go_in_one_request_in_order() -> None:
    frames = tuple(Picture(jpeg=bytes([n]) * 9, width=56, height=56) for n in range(16))
    request = CaptionRequest(images=frames, prompt="Tell it.", sampling=REQUEST.sampling, media_sha256="00")

    async def scenario() -> None:
        async with served() as (replica, engine):
            await replica.ask(request)
            content = engine.asked[0].body["messages"][0]["content"]
            sent = [base64.b64decode(part["image_url"]["url"].split(",")[1]) for part in content[:-1]]
            assert sent == [frame.jpeg for frame in frames] and content[-1]["text"] == "Tell it."

    run(scenario)
