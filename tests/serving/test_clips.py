"""One clip in, one caption out, by the same rules as a run over clips."""

from __future__ import annotations

import asyncio
import json
from base64 import b64decode, b64encode
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import tyro

from captioner.errors import Refused
from captioner.media.clip_format import clip_header, kind_of
from pipelines.options import UPLOADS, options_class, recipe_from
from pipelines.recap_clips import CLIPS
from serving.answers import CAPTION_EXAMPLE, CLIP_BODY_EXAMPLE, CLIP_EXAMPLE, CaptionAnswer
from serving.keys import Key, add_key
from serving.server import server_of
from serving.settings import Bounds, Fetching
from serving.uploads import recipes_of
from tests.bad_clips import BAD_CLIPS
from tests.clips import plain
from tests.pictures import photo, stored
from tests.scripted_engine import ScriptedEngine
from tests.serving.served import FAKE, Answered, Served, dashed, jpeg, parsed, served
from tests.serving.test_captions import scripted


async def send(there: Served, clip: bytes, field: str = "video", **headers: str) -> Answered:
    form = aiohttp.FormData()
    form.add_field(field, clip, filename="clip.mp4", content_type="video/mp4")
    return await there.ask("POST", "/v1/captions", form, dashed(headers))


def in_json(clip: bytes, field: str = "video") -> dict[str, Any]:
    return {field: {"base64": b64encode(clip).decode()}}


def test_a_clip_is_the_same_by_form_and_json_named_as_what_it_is_or_found_by_its_first_bytes() -> None:
    async def scene() -> None:
        async with served(*FAKE) as there:
            first = await send(there, plain())
            again = [await send(there, plain(), "image"), await there.post(in_json(plain())),
                     await there.post(in_json(plain(), "image"))]  # fmt: skip
            said = await there.post({"video": {"base64": "data:video/mp4;base64," + b64encode(plain()).decode()}})
            assert first.json["cached"] is False and first.json["prompt_id"] == "describe-video-1"
            for each in (*again, said):  # the same bytes, asked in the same way: one answer
                assert each.status == 200 and each.json["cached"] is True
                assert each.json["frame_times"] == first.json["frame_times"] == [0.0, 1.0, 2.0, 2.0]
            picture = (await there.upload(jpeg())).json
            assert picture["frame_times"] is None and picture["duration"] is None
            assert (await send(there, plain(2))).json["cached"] is False

    asyncio.run(scene())


def test_the_engine_gets_the_frames_that_a_run_would_send_and_the_words_for_videos() -> None:
    async def scene() -> None:
        async with ScriptedEngine() as engine, served(*scripted(engine, "--frames.most", "2")) as there:
            found = await send(there, plain())
            assert found.status == 200 and found.json["frame_times"] == [0.0, 2.0]
            assert found.json["signals"]["flag.capped"] == 1.0
            assert b"data:video/jpeg;base64," in engine.asked[0].raw and "video" in engine.asked[0].prompt
            assert plain()[:60] not in b64decode(engine.asked[0].raw.partition(b"base64,")[2][:4000])
            worded = await there.post(in_json(plain()) | {"prompt": "Name the colours.", "max_tokens": 77})
            assert worded.json["prompt_id"].startswith("request-")
            assert (engine.asked[1].prompt, engine.asked[1].body["max_tokens"]) == ("Name the colours.", 77)
            assert (await there.get("/v1/engines")).json["clips"]["max_frames"] == 2

    asyncio.run(scene())


def test_bad_clips_are_422_with_the_reasons_that_their_rows_would_have() -> None:
    async def scene() -> None:
        async with served(*FAKE) as there:
            for name in ("cut before its index", "no moov", "sound only", "ProRes", "HLS playlist", "a page"):
                bad = BAD_CLIPS[name]
                found = await send(there, bad.make())
                assert found.status == 422 and found.reason in bad.expected.reasons, (name, found.json)

    asyncio.run(scene())


def test_a_small_clip_is_screened_by_the_size_of_its_frames_and_a_picture_is_no_clip() -> None:
    async def scene() -> None:
        async with served(*FAKE, "--clips.resolution.more-than", "200") as there:
            small = await send(there, plain())
            assert (small.status, small.reason) == (422, "below_min_resolution")
            assert (small.json["width"], small.json["height"], small.json["duration"]) == (320, 192, 3.0)
            assert (await send(there, jpeg())).reason == "undecodable_video"
            assert (await there.upload(jpeg())).status == 200

    asyncio.run(scene())


def test_a_gif_is_no_transport_stream_though_both_have_a_g_where_packets_begin() -> None:
    gif = bytearray(stored(photo(300, 300), "GIF"))
    gif[188] = gif[376] = ord("G")
    assert clip_header(bytes(gif)).format == "ts" and kind_of(bytes(gif)) == "image"
    kinds = [kind_of(each) for each in (plain(container="mpegts"), plain(container="avi"), jpeg(), b"", b"%PDF-1.7 ")]
    assert kinds == ["video", "video", "image", "image", "image"]


def test_an_openai_client_may_send_a_clip_where_it_sends_pictures() -> None:
    async def scene() -> None:
        async with served(*FAKE) as there:
            url = "data:video/mp4;base64," + b64encode(plain()).decode()
            parts = [{"type": "image_url", "image_url": {"url": url}}]
            body = {"model": "any", "messages": [{"role": "user", "content": parts}]}
            found = await there.post(body, "/v1/chat/completions")
            assert found.status == 200, found.body
            said = (await send(there, plain())).json
            assert found.json["choices"][0]["message"]["content"] == said["caption"] and said["cached"] is True

    asyncio.run(scene())


def test_an_engine_that_is_asked_about_pictures_alone_says_so() -> None:
    async def scene() -> None:
        async with (
            ScriptedEngine() as engine,
            served(*scripted(engine)[:-2], "--metrics-port", "-1", "--external", "alt-text") as there,
        ):
            for found in (await send(there, plain()), await send(there, plain(), "image")):
                assert (found.status, found.reason) == (422, "clip_not_taken")
            assert (await there.upload(jpeg())).status == 200 and len(engine.asked) == 1
            assert (await there.get("/v1/engines")).json["clips"] is None
            page = await there.get("/")
            assert page.status == 200 and b"<h1>Caption a picture</h1>" in page.body

    asyncio.run(scene())


def test_a_request_has_a_picture_or_a_clip_and_not_both() -> None:
    async def scene() -> None:
        async with served(*FAKE) as there:
            both = in_json(plain()) | in_json(jpeg(), "image")
            wrong: list[dict[str, Any]] = [both, {}, {"video": {}}, {"video": {"base64": "x"}}]
            for body in wrong:
                found = await there.post(body)
                assert (found.status, found.reason) == (422, "bad_request_body") and "video" in found.json["detail"]
            form = aiohttp.FormData()
            form.add_field("image", jpeg(), filename="a")
            form.add_field("video", plain(), filename="b")
            assert (await there.ask("POST", "/v1/captions", form, {})).reason == "bad_request_body"

    asyncio.run(scene())


def test_one_idempotency_key_holds_for_a_clip_and_conflicts_with_another() -> None:
    async def scene() -> None:
        async with ScriptedEngine() as engine, served(*scripted(engine, "--cache-entries", "0")) as there:
            same = [await send(there, plain(), Idempotency_Key="k") for _ in range(2)]
            assert same[0].json["id"] == same[1].json["id"] and len(engine.asked) == 1
            assert (await send(there, plain(2), Idempotency_Key="k")).reason == "idempotency_conflict"

    asyncio.run(scene())


def test_the_pixels_of_a_clip_s_frames_count_and_clips_at_once_do_not_slip_past_the_day_s(tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    key = Key(name="a", tenant="a", sha256="0" * 64, a_minute=0, at_once=0, megapixels_a_day=1)
    secret = add_key(path, key, 1)

    async def scene() -> None:
        async with served(*FAKE, "--fake.seconds", "0.3", "--keys", str(path), key=secret) as there:
            taken = there.server.service.shares._taken
            await send(there, plain())
            assert taken["a"].pixels == 3 * 320 * 192
            assert (await send(there, plain()[:5000])).reason == "bad_container"
            most = there.server.service.clips.asking.frames  # type: ignore[union-attr]
            assert taken["a"].pixels == 3 * 320 * 192 + most.max_frames * most.pixels.max_pixels  # type: ignore[union-attr]
            taken["a"].pixels = 0
            found = await asyncio.gather(*(send(there, plain(seconds)) for seconds in (2, 4)))
            assert sorted(each.status for each in found) == [200, 429]

    asyncio.run(scene())


def test_a_clip_that_ends_without_an_answer_costs_the_pixels_that_were_looked_at_and_no_more(tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    key = Key(name="a", tenant="a", sha256="0" * 64, a_minute=0, at_once=0, megapixels_a_day=1000)
    secret = add_key(path, key, 1)

    async def scene() -> None:
        slow = ("--fake.seconds", "30", "--pace.decoders", "1", "--cache-entries", "0")
        async with served(
            *FAKE, *slow, "--clips.resolution.more-than", "200", "--keys", str(path), key=secret
        ) as there:
            service, large = there.server.service, plain(width=416, height=256)
            booked = service.shares._taken
            assert (await send(there, plain())).reason == "below_min_resolution"
            assert booked["a"].pixels == 3 * 320 * 192
            booked["a"].pixels = 0
            asked = asyncio.create_task(send(there, large))
            async with asyncio.timeout(20):
                while not service.engine.use().asked:  # type: ignore[union-attr]
                    await asyncio.sleep(0.01)
            next(iter(service._timeouts)).reschedule(asyncio.get_running_loop().time())
            assert (await asked).reason == "deadline_exceeded" and booked["a"].pixels == 3 * 416 * 256
            booked["a"].pixels = 0
            with service.holding(service.bounds.held_mib * 2**20 - len(large) - 3000):
                assert (await send(there, large)).reason == "overloaded"
            assert booked["a"].pixels == 3 * 416 * 256
            booked["a"].pixels = 0
            async with service.decoders._turns:
                assert (await send(there, large, X_Deadline_Seconds="1")).reason == "deadline_exceeded"
            assert booked["a"].pixels == 0

    asyncio.run(scene())


def test_a_clip_s_frames_are_held_bytes_until_it_is_answered() -> None:
    async def scene() -> None:
        words = ("--fake.seconds", "0.5", "--held-mib", "1", "--body-mib", "1")
        async with served(*FAKE, *words) as there:
            asked = asyncio.create_task(send(there, plain()))
            async with asyncio.timeout(10):
                while there.server.service._held <= len(plain()) + 2000:
                    await asyncio.sleep(0.01)
            assert (await asked).status == 200
            assert there.server.service._held == 0

    asyncio.run(scene())


def test_the_examples_of_the_document_are_a_real_clip_and_a_real_answer() -> None:
    async def scene() -> None:
        async with served(*FAKE) as there:
            found = await there.post(CLIP_BODY_EXAMPLE)
            assert found.status == 200 and found.json["duration"] == 3.0
            for example in (CAPTION_EXAMPLE, CLIP_EXAMPLE):
                assert set(example) == set(found.json) == set(CaptionAnswer.model_fields)

    asyncio.run(scene())


def asked(**changes: Any) -> Any:
    """The options of the fake engine, some of them changed."""
    return replace(parsed(*FAKE), **changes)


def test_parts_of_pictures_and_of_clips_are_left_out_by_their_names() -> None:
    where = replace(asked().where, without=("pixels", "container", "aspect"))
    recipes = recipes_of(asked(where=where))
    assert [each.name for each in recipes["image"].screens] == ["format", "bytes", "resolution"]
    assert [each.name for each in recipes["video"].screens] == ["bytes", "resolution"]
    with pytest.raises(Refused, match="cannot leave out 'lenght'; there is"):
        recipes_of(asked(where=replace(where, without=("lenght",))))


def test_clips_are_judged_by_the_recipe_of_a_run_over_a_folder_of_clips() -> None:
    words = ["--input", "in", "--output", "out", "--engine", "fake"]
    run = recipe_from(CLIPS, tyro.cli(options_class(CLIPS), args=words))
    assert recipes_of(asked())["video"] == replace(run, source=UPLOADS)


def test_a_reader_of_clips_that_is_not_there_is_refused_at_the_start() -> None:
    with pytest.raises(Refused, match="there is pyav"):
        recipes_of(asked(frames=replace(asked().frames, reader="vlc")))


def test_fewer_held_bytes_than_one_request_may_have_are_refused_with_what_would_be_right() -> None:
    with pytest.raises(Refused, match="every chunked body would be refused: --held-mib 24 or more"):
        Bounds(held_mib=8)
    with pytest.raises(Refused, match="48 or more would be right"):
        server_of(asked(bounds=Bounds(held_mib=24), fetching=Fetching(allow_urls=True)))


def test_a_chunked_body_is_taken_where_all_requests_may_hold_no_more_than_one() -> None:
    async def scene() -> None:
        async def pieces() -> AsyncIterator[bytes]:
            yield json.dumps(in_json(plain())).encode()

        async with served(*FAKE, "--held-mib", "1", "--body-mib", "1") as there:
            found = await there.ask("POST", "/v1/captions", pieces(), {"Content-Type": "application/json"})
            assert found.status == 200 and found.json["duration"] == 3.0

    asyncio.run(scene())
