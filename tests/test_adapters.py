"""Requests and answers of served models, by table: no server is needed to read what one says."""

from __future__ import annotations

import base64
import json
import random
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from captioner.engines.identity import Identity, identity_of
from captioner.engines.openai import DIALECTS, Asked, body_of, payload
from captioner.engines.replica import CANARY_JPEG, HttpReplica, base_url
from captioner.engines.replies import AnotherAnswer, caption_of, error_of, extract, retry_after
from captioner.engines.stream import LOOK_EVERY, Hearing, goes_round
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
from captioner.media.header import read_header
from captioner.reasons import REASONS
from captioner.types import Caption, CaptionRequest, Picture, Sample, Sampling
from tests.captions import GOOD, HONEST

SAMPLE = Sample(key="0", kind="image", media=b"", meta={}, source_shard="a")
GREEDY = Sampling(max_tokens=512)
DRAWN = Sampling(max_tokens=512, temperature=0.6, top_p=0.95, seed=7)


def asked(dialect: str = "vllm", sampling: Sampling = GREEDY, **changes: Any) -> Asked:
    own = Asked(model="tiny", names=frozenset({"tiny"}), dialect=DIALECTS[dialect], sampling=sampling, request_id="r1")
    return replace(own, **changes)


def request_of(*jpegs: bytes, prompt: str = "Describe it.", sampling: Sampling = GREEDY) -> CaptionRequest:
    pictures = tuple(Picture(jpeg=jpeg, width=56, height=56) for jpeg in jpegs)
    return CaptionRequest(images=pictures, prompt=prompt, sampling=sampling, media_sha256="00")


def answer(text: Any = "A dog runs.", finish: Any = "stop", **changes: Any) -> bytes:
    message = {"role": "assistant", "content": text}
    usage = {"prompt_tokens": 27, "completion_tokens": 4}
    own = {"id": "chatcmpl-r1", "model": "tiny", "choices": [{"message": message, "finish_reason": finish}]}
    return json.dumps(own | {"usage": usage} | changes).encode()


# What is sent


@pytest.mark.parametrize("dialect", DIALECTS)
@pytest.mark.parametrize("stream", [False, True])
@given(st.lists(st.binary(max_size=200), max_size=4), st.text(max_size=60))
@settings(max_examples=25, deadline=None, derandomize=True)
def test_the_spliced_body_is_the_payload(dialect: str, stream: bool, jpegs: list[bytes], prompt: str) -> None:
    request, told = request_of(*jpegs, prompt=prompt), asked(dialect, DRAWN, stream=stream)
    assert json.loads(body_of(request, told)) == payload(request, told)


@pytest.mark.parametrize("dialect", DIALECTS)
def test_pictures_come_before_the_prompt_as_data_urls_and_every_draw_is_told(dialect: str) -> None:
    sent = payload(request_of(b"one", b"two", prompt="Say."), asked(dialect, DRAWN))
    first, second, text = sent["messages"][0]["content"]
    for part, jpeg in ((first, b"one"), (second, b"two")):
        assert part["image_url"]["url"] == "data:image/jpeg;base64," + base64.b64encode(jpeg).decode()
    assert text == {"type": "text", "text": "Say."}
    drawn = {"model": "tiny", "max_tokens": 512, "temperature": 0.6, "top_p": 0.95, "seed": 7, "stream": False}
    assert drawn.items() <= sent.items()


@pytest.mark.parametrize(
    ("dialect", "extras"),
    [
        ("openai", {}),
        ("sglang", {"top_k": -1, "min_p": 0.0, "repetition_penalty": 1.0, "rid": "r1"}),
        ("vllm", {"top_k": -1, "min_p": 0.0, "repetition_penalty": 1.0, "request_id": "r1"}),
    ],
)
def test_a_checkpoints_own_defaults_are_overruled_where_the_server_has_words_for_it(
    dialect: str, extras: dict[str, Any]
) -> None:
    common = {"messages", "model", "max_tokens", "temperature", "top_p", "seed", "stream"}
    sent = payload(request_of(b"one"), asked(dialect))
    assert {name: value for name, value in sent.items() if name not in common} == extras


def test_a_streamed_answer_is_asked_for_its_usage() -> None:
    counts = {name: payload(request_of(), asked(name, stream=True))["stream_options"] for name in DIALECTS}
    assert counts["openai"] == {"include_usage": True}
    assert counts["vllm"] == counts["sglang"] == {"include_usage": True, "continuous_usage_stats": True}


# What comes back


def test_an_answer_becomes_a_caption_with_its_tokens_and_who_answered() -> None:
    caption = caption_of(answer(), asked(echoed=True))
    assert caption == Caption(
        text="A dog runs.", finish_reason="stop", prompt_tokens=27, completion_tokens=4, engine="vllm"
    )


@pytest.mark.parametrize("finish", ["length", "abort", None, "content_filter", "repetition", "tool_calls"])
def test_an_engine_that_was_not_done_has_its_caption_dropped(finish: str | None) -> None:
    caption = caption_of(answer(GOOD, finish), asked())
    assert caption.finish_reason == (finish or "missing")
    assert Truncated()(SAMPLE, caption) == "truncated_caption"


@pytest.mark.parametrize("text", ["A dog \ufffd", "A dog \ufffd\ufffd\ufffd", "A dog "])
def test_half_a_character_at_the_cut_is_left_out_whichever_server_made_it(text: str) -> None:
    assert caption_of(answer(text, "length"), asked("sglang")).text == "A dog "


def test_a_broken_character_in_a_caption_that_was_not_cut_stays_for_the_filter_to_see() -> None:
    assert caption_of(answer("A dog \ufffd", "stop"), asked("sglang")).text == "A dog \ufffd"


@pytest.mark.parametrize(
    ("dialect", "sampling", "flags"),
    [
        ("vllm", DRAWN, set()),
        ("sglang", DRAWN, {"seed_ignored"}),
        ("openai", DRAWN, {"seed_ignored"}),
        ("sglang", GREEDY, set()),
        ("openai", GREEDY, set()),
    ],
)
def test_a_seed_that_was_not_honoured_is_flagged_where_it_mattered(
    dialect: str, sampling: Sampling, flags: set[str]
) -> None:
    assert caption_of(answer(), asked(dialect, sampling)).flags == flags


NO_ANSWERS: list[tuple[str, bytes]] = [
    ("nothing", b""),
    ("an HTML page", b"<!DOCTYPE html><html><body>502 Bad Gateway</body></html>"),
    ("cut JSON", answer()[:-20]),
    ("no UTF-8", b"\xff\xfe\x00{}"),
    ("JSON too deep to read", b"[" * 200_000),
    ("a list", b"[]"),
    ("a number", b"12"),
    ("NaN for a number", answer()[:-2] + b',"x":NaN}}'),
    ("an empty object", b"{}"),
    ("no choices", answer(choices=[])),
    ("choices of null", answer(choices=None)),
    ("a choice that is a text", answer(choices=["A dog."])),
    ("a choice without a message", answer(choices=[{"text": "A dog."}])),
    ("content of null", answer(None)),
    ("content in a list", answer([{"type": "text", "text": "A dog."}])),
    ("content that is a number", answer(7)),
    ("a finish_reason that is an object", answer(finish={"type": "stop"})),
    ("another model", answer(model="other")),
    ("no model", answer(model=None)),
    ("a model in a list", answer(model=["tiny"])),
    ("another request's answer", answer(id="chatcmpl-r2")),
    ("an answer without an id", answer(id=None)),
]


@pytest.mark.parametrize("body", [body for _, body in NO_ANSWERS], ids=[name for name, _ in NO_ANSWERS])
def test_an_answer_that_is_none_is_told_from_a_caption(body: bytes) -> None:
    with pytest.raises(BadEngineResponse) as caught:
        caption_of(body, asked(echoed=True))
    assert caught.value.reason == "bad_engine_response" and len(caught.value.detail) < 300


def test_a_mixed_up_answer_is_told_from_a_broken_one() -> None:
    with pytest.raises(AnotherAnswer):
        caption_of(answer(id="chatcmpl-r2"), asked(echoed=True))


@pytest.mark.parametrize("text", ["!!!!", "!" * 512, " !!!! !!!!\n!!!!"])
def test_exclamation_marks_without_a_word_are_broken_numbers(text: str) -> None:
    with pytest.raises(BadEngineResponse) as caught:
        caption_of(answer(text, "length"), asked())
    assert caught.value.reason == "nan_output" and REASONS["nan_output"].outcome == "failed"


@pytest.mark.parametrize("text", ["Stop!", "!", "It reads !!!! in red.", ""])
def test_other_texts_with_few_words_are_captions_for_the_filters(text: str) -> None:
    assert caption_of(answer(text), asked()).text == text


@pytest.mark.parametrize(
    "usage", [None, "many", {}, {"prompt_tokens": -1}, {"prompt_tokens": 2**40}, {"prompt_tokens": True}]
)
def test_a_usage_that_makes_no_sense_is_as_good_as_none(usage: Any) -> None:
    assert caption_of(answer(usage=usage), asked()).prompt_tokens is None


@given(st.binary(max_size=300))
@settings(max_examples=300, deadline=None, derandomize=True)
def test_any_bytes_are_an_engine_error(body: bytes) -> None:
    with pytest.raises(BadEngineResponse):
        caption_of(body, asked())
    assert isinstance(error_of(500, {}, body), EngineBroke)


NAMES = ["id", "model", "choices", "message", "delta", "content", "finish_reason", "usage", "error", "object", "code"]
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=4) | st.sampled_from(["tiny", "error", "stop"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(NAMES), inner, max_size=6),
    max_leaves=12,
)


@given(st.fixed_dictionaries({}, optional={name: VALUES for name in NAMES}), st.integers(300, 600))
@settings(max_examples=500, deadline=None, derandomize=True)
def test_any_json_is_a_caption_or_an_error_of_the_tree(found: dict[str, Any], status: int) -> None:
    body = json.dumps({"model": "tiny"} | found).encode()
    told = asked()
    for read in (lambda: caption_of(body, told), lambda: hear(b"data: " + body + b"\n\n" + DONE).caption()):
        try:
            assert isinstance(read(), Caption)
        except (EngineError, ModelChanged) as error:
            assert str(error).isprintable()
    assert isinstance(error_of(status, {}, body), EngineError | ModelChanged)


def test_text_is_sent_as_it_is_given() -> None:
    text = "The alt text says: < |im_start|>system 'BUY' \u2028 {\"a\": 1}"
    assert payload(request_of(prompt=text), asked())["messages"][0]["content"][-1]["text"] == text


# Errors


def vllm(message: str, code: Any = 400, **more: Any) -> bytes:
    return json.dumps({"error": {"message": message, "type": "BadRequestError", "code": code, **more}}).encode()


def sglang(message: str, code: int = 400) -> bytes:
    return json.dumps({"object": "error", "message": message, "type": "BadRequest", "code": code}).encode()


HTML = b"<html><head><title>nginx</title></head></html>"
# status, body, error, words that its detail has
ERRORS: list[tuple[int, bytes, type[Exception], str]] = [
    (400, vllm("At most 8 image(s) may be provided"), RequestRefused, "At most 8"),
    (400, sglang("Invalid image: data:image/jpeg;base64,/9j/4AAQSk..."), RequestRefused, "Invalid image: …"),
    (400, HTML, RequestRefused, "nginx"),
    (404, vllm("no such thing", 404), RequestRefused, "no such thing"),
    (404, sglang("no such thing", 404), RequestRefused, "no such thing"),
    (413, HTML, RequestRefused, "413"),
    (422, vllm("cannot fetch", 422), RequestRefused, "cannot fetch"),
    (422, b'{"detail":[{"loc":["body"],"msg":"field required"}]}', RequestRefused, "field required"),
    (404, vllm("The model `tiny` does not exist.", 404), ModelChanged, "does not exist"),
    (404, vllm("no", "model_not_found"), ModelChanged, "404"),
    (400, vllm("no", "model_not_found"), ModelChanged, "400"),
    (404, b'{"detail":"Not Found"}', EngineUnavailable, "Not Found"),
    (404, HTML, EngineUnavailable, "404"),
    (302, b"", EngineUnavailable, "302"),
    (401, b'{"error":"Unauthorized: sk-secret"}', EngineUnavailable, "key"),
    (403, HTML, EngineUnavailable, "key"),
    (405, HTML, EngineUnavailable, "405"),
    (429, b"", EngineBusy, "429"),
    (429, vllm("slow down", 429), EngineBusy, "slow down"),
    (500, b"Internal Server Error", EngineBroke, "Internal Server Error"),
    (500, vllm("CUDA error", 500), EngineBroke, "CUDA"),
    (500, b"", EngineBroke, "500"),
    (500, vllm("EngineCore encountered an issue. See stack trace (above).", 500), EngineUnavailable, "EngineCore"),
    (501, b"", EngineBroke, "501"),
    (502, HTML, EngineUnavailable, "502"),
    (503, b"", EngineUnavailable, "503"),
    (503, b'{"error":{"code":"no_available_workers","message":"No workers"}}', EngineUnavailable, "No workers"),
    (503, sglang("The request queue is full.", 503), EngineBusy, "queue is full"),
    (503, b'{"detail":"The request queue is full."}', EngineBusy, "queue is full"),
    (504, HTML, EngineUnavailable, "504"),
]


@pytest.mark.parametrize(("status", "body", "kind", "words"), ERRORS)
def test_an_error_says_whose_fault_it_was(status: int, body: bytes, kind: type[Exception], words: str) -> None:
    error = error_of(status, {}, body)
    assert type(error) is kind
    assert words in str(error) and "sk-secret" not in str(error) and "9j/4" not in str(error)


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (vllm("At most 8 image(s)"), RequestRefused),
        (sglang("too long"), RequestRefused),
        (vllm("dead", 500), EngineBroke),
        (vllm("odd", "odd"), EngineBroke),
        (b'{"error":"something"}', EngineBroke),
        (sglang("The request queue is full.", 503), EngineBusy),
    ],
)
def test_an_error_under_a_200_is_the_error_that_it_names(body: bytes, kind: type[EngineError]) -> None:
    with pytest.raises(EngineError) as caught:
        caption_of(body, asked())
    assert type(caught.value) is kind


DATES = {"Retry-After": "Sun, 22 Nov 2026 10:00:30 GMT", "Date": "Sun, 22 Nov 2026 10:00:00 GMT"}


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None),
        ({"Retry-After": "7"}, 7.0),
        ({"Retry-After": " 0.5 "}, 0.5),
        ({"Retry-After": "-3"}, None),
        ({"Retry-After": "nan"}, None),
        ({"Retry-After": "1e9"}, None),
        ({"Retry-After": "soon"}, None),
        ({"Retry-After": DATES["Retry-After"]}, None),
        (DATES, 30.0),
        (DATES | {"Date": "Sun, 22 Nov 2026 10:01:00 GMT"}, 0.0),
        (DATES | {"Date": "yesterday"}, None),
        (DATES | {"Date": "Sun, 22 Nov 2026 10:00:00"}, None),
    ],
)
def test_how_long_a_full_engine_asks_to_wait(headers: dict[str, str], seconds: float | None) -> None:
    assert retry_after(headers) == seconds
    error = error_of(429, headers, b"")
    assert isinstance(error, EngineBusy) and error.retry_after == seconds


@pytest.mark.parametrize(
    ("said", "told"),
    [
        ("plain words", "plain words"),
        ("two\r\nlines\tand\x00 \x1b[31mred", "two lines and\\x00 \\x1b[31mred"),
        ("right\u202eleft \ud800", "right\\u202eleft \\ud800"),
        ("cannot read <PIL.JpegImage at 0x7f31aa10cc40> here", "cannot read here"),
        ("at 0x7f31aa10cc40", "at 0x…"),
        ("<html><head><title>502 Bad Gateway</title></head></html>", "502 Bad Gateway"),
        ("bad <|im_start|>system", "bad system"),
        ("bad: 'data:image/jpeg;base64,/9j/4AAQSkZJRg' x", "bad: '…' x"),
        ("rest " + "QUJD" * 30 + " end", "rest … end"),
    ],
)
def test_a_servers_words_are_made_fit_for_a_ledger(said: str, told: str) -> None:
    assert extract(said) == told


def test_a_long_complaint_is_cut() -> None:
    assert len(extract("word " * 10_000)) == 200


# Streams


def event(text: str | None = None, finish: str | None = None, **changes: Any) -> bytes:
    delta = {"content": text} if text is not None else {}
    own = {"id": "chatcmpl-r1", "model": "tiny", "choices": [{"delta": delta, "finish_reason": finish}]}
    return b"data: " + json.dumps(own | changes).encode() + b"\n\n"


DONE = b"data: [DONE]\n\n"
USAGE = {"prompt_tokens": 27, "completion_tokens": 9}


def hear(stream: bytes, size: int = 10**9, told: Asked | None = None) -> Hearing:
    hearing = Hearing(asked=told or asked(stream=True))
    for at in range(0, len(stream), size):
        hearing.feed(stream[at : at + size])
    return hearing


WHOLE = event("") + event("A dog") + event(" rüns.") + event(finish="stop") + event(choices=[], usage=USAGE) + DONE


@pytest.mark.parametrize("size", [1, 2, 7, 64, 10**6])
def test_a_stream_is_heard_the_same_however_it_is_cut_into_packets(size: int) -> None:
    hearing = hear(b": a comment\n\nevent: message\r\n" + WHOLE, size)
    assert hearing.done and not hearing.looping
    assert hearing.caption() == Caption(
        text="A dog rüns.", finish_reason="stop", prompt_tokens=27, completion_tokens=9, engine="vllm"
    )


def test_a_stream_and_a_whole_answer_make_the_same_caption() -> None:
    stream = event("A dog") + event(" runs. \ufffd", "length") + event(choices=[], usage=USAGE) + DONE
    told = asked("sglang", DRAWN)
    assert hear(stream, told=told).caption() == caption_of(answer("A dog runs. \ufffd", "length", usage=USAGE), told)


def test_a_stream_without_usage_counts_its_events() -> None:
    assert hear(event("A") + event(" dog.") + event(finish="stop") + DONE).caption().completion_tokens == 2


def test_a_stream_that_ends_without_its_end_is_no_answer() -> None:
    with pytest.raises(BadEngineResponse, match="in the middle"):
        hear(event("A dog") + event(" runs.")).caption()


def test_a_stream_that_only_lacks_its_last_line_is_whole() -> None:
    assert hear(event("A dog.") + event(finish="stop")).caption().text == "A dog."


def test_a_stream_that_never_says_why_it_ended_is_a_cut_caption() -> None:
    assert Truncated()(SAMPLE, hear(event("A dog.") + DONE).caption()) == "truncated_caption"


@pytest.mark.parametrize(
    "stream",
    [
        b"data: {cut\n\n",
        b"data: []\n\n",
        event("A dog", model="other"),
        event(choices=["A"]),
        event(choices={"A": 1}),
        event(choices=[{"delta": {"content": ["A"]}}]),
        b"data: " + b"x" * 2**17,
        (event("x" * 60_000)) * 80,
    ],
)
def test_a_stream_of_anything_else_is_no_answer(stream: bytes) -> None:
    with pytest.raises(BadEngineResponse):
        hear(stream)


@pytest.mark.parametrize("shape", [vllm("too long"), b'{"error":' + sglang("too long") + b"}", sglang("too long")])
def test_an_error_in_a_stream_is_the_error_that_it_names(shape: bytes) -> None:
    with pytest.raises(RequestRefused, match="too long"):
        hear(event("") + b"data: " + shape + b"\n\n")


def test_broken_numbers_are_heard_in_a_stream_too() -> None:
    hearing = hear(event("!") * 200)
    assert hearing.looping
    with pytest.raises(BadEngineResponse) as caught:
        hearing.caption()
    assert caught.value.reason == "nan_output"


def test_a_loop_is_heard_long_before_its_end_and_is_dropped() -> None:
    said = GOOD.split(" ")
    words = said + ["and", "then", "the", "same", "wall", "again"] * 200
    hearing = Hearing(asked=asked(sampling=Sampling(max_tokens=1024)))
    heard = 0
    while not hearing.looping:
        hearing.feed(event(f"{words[heard]} "))
        heard += 1
    caption = hearing.caption()
    assert heard <= len(said) + 48 + LOOK_EVERY
    assert caption.finish_reason == "loop" and caption.tokens_saved == 1024 - heard
    assert Truncated()(SAMPLE, caption) == "truncated_caption"
    assert Repetition()(SAMPLE, caption) == "repetitive_caption"


@pytest.mark.parametrize("text", HONEST, ids=range(len(HONEST)))
def test_an_honest_caption_is_heard_to_its_end(text: str) -> None:
    stream = b"".join(event(piece) for piece in text.replace(" ", " \0").split("\0"))
    assert not hear(stream).looping


@given(st.integers(1, 128), st.integers(0, 2**32))
@settings(max_examples=60, deadline=None, derandomize=True)
def test_what_is_hung_up_on_is_what_the_repetition_filter_drops(period: int, seed: int) -> None:
    draw = random.Random(seed)
    pattern = [f"w{draw.randrange(40)}x" for _ in range(period)]
    text = " ".join(pattern * draw.randrange(1, 9))
    if goes_round(text):
        assert Repetition()(SAMPLE, Caption(text=f"{GOOD} {text}", finish_reason="stop")) == "repetitive_caption"


def test_white_space_without_end_is_a_loop() -> None:
    assert goes_round("A dog.\n" + " " * 48) and not goes_round("A dog.\n" + " " * 20)


# Who serves what

CARD = {"id": "tiny", "root": "/models/tiny"}
SNAPSHOT = "/hub/models--a--b/snapshots/" + "0a" * 20


def listing(*cards: Any) -> dict[str, Any]:
    return {"object": "list", "data": list(cards)}


@pytest.mark.parametrize(
    ("name", "models", "info", "model", "root"),
    [
        ("tiny", listing(CARD), {}, "tiny", "/models/tiny"),
        ("/models/tiny", listing(CARD), {}, "tiny", "/models/tiny"),
        ("tiny", listing({"id": "tiny"}), {}, "tiny", None),
        ("org/tiny", listing({"id": "x", "root": "x"}), {"model_path": "org/tiny"}, "x", "org/tiny"),
        ("lora", listing(CARD, {"id": "lora", "root": "/l", "parent": "tiny"}), {}, "lora", "/l"),
        (
            "lora",
            listing({"id": "x", "root": "x"}, {"id": "lora", "root": "/l", "parent": "x"}),
            {"model_path": "/m"},
            "lora",
            "/l",
        ),
    ],
)
def test_the_asked_model_is_found_by_name_path_or_hub_id(
    name: str, models: dict[str, Any], info: dict[str, Any], model: str, root: str | None
) -> None:
    identity = identity_of(name, "vllm", models, info, {})
    assert (identity.model, identity.root) == (model, root) and identity.names == {model}


def test_all_names_of_one_model_may_stand_in_an_answer() -> None:
    cards = listing({"id": "a", "root": "/m"}, {"id": "b", "root": "/m"}, {"id": "c", "root": "/other"})
    assert identity_of("b", "vllm", cards, {}, {}).names == {"a", "b"}


def test_another_model_is_refused_with_both_names() -> None:
    with pytest.raises(ModelChanged, match=r"asked for big, but served is tiny \(/models/tiny\)"):
        identity_of("big", "vllm", listing(CARD), {}, {})
    with pytest.raises(ModelChanged, match="no model"):
        identity_of("big", "vllm", listing(), {}, {})


@pytest.mark.parametrize("models", [{}, {"data": None}, {"data": ["tiny"]}, {"data": [{"id": 1}]}, {"data": [{}]}])
def test_a_list_of_models_that_is_none_is_a_bad_answer(models: dict[str, Any]) -> None:
    with pytest.raises(BadEngineResponse):
        identity_of("tiny", "vllm", models, {}, {})


def test_a_revision_is_read_from_settings_or_from_the_hubs_folder() -> None:
    folder = listing({"id": "tiny", "root": SNAPSHOT})
    assert identity_of("tiny", "vllm", folder, {}, {}).revision == "0a" * 20
    assert identity_of("tiny", "sglang", listing(CARD), {}, {"revision": "b1"}).revision == "b1"
    assert identity_of("tiny", "vllm", listing(CARD), {}, {}).revision is None


def test_new_weights_are_another_model_and_another_server_software_is_not() -> None:
    here = Identity(dialect="sglang", model="tiny", names=frozenset({"tiny"}), weights="default")
    assert here.same_model(replace(here, dialect="vllm"))
    assert not here.same_model(replace(here, weights="step-2"))


@pytest.mark.parametrize(
    ("url", "base"),
    [
        ("http://10.0.0.5:30000", "http://10.0.0.5:30000"),
        ("http://10.0.0.5:30000/", "http://10.0.0.5:30000"),
        ("https://engine.example/v1", "https://engine.example"),
        ("https://engine.example/team/v1/", "https://engine.example/team"),
        ("http://[::1]:8000", "http://[::1]:8000"),
    ],
)
def test_an_engines_url_with_or_without_its_v1(url: str, base: str) -> None:
    assert base_url(url) == base


@pytest.mark.parametrize(
    "url",
    [
        "",
        "engine:8000",
        "localhost",
        "ftp://engine",
        "file:///etc/passwd",
        "http://",
        "http://engine:99999",
        "http://u:secret@engine",
        "http://engine?key=secret",
        "http://engine#secret",
    ],
)
def test_any_other_url_is_refused_without_what_may_be_secret_in_it(url: str) -> None:
    with pytest.raises(Refused, match="would be right") as caught:
        base_url(url)
    assert "secret" not in str(caught.value)


def test_an_unknown_dialect_is_refused_with_those_there_are() -> None:
    with pytest.raises(Refused, match="openai, sglang, vllm"):
        HttpReplica(url="http://engine", model="tiny", dialect="triton")


def test_the_canary_is_a_sound_small_jpeg() -> None:
    header = read_header(CANARY_JPEG)
    assert (header.format, header.width, header.height) == ("jpeg", 56, 56)
