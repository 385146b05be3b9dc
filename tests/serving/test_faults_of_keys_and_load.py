"""Cases 78 and 88 to 94 of the list of faults: who may ask, how much, and what happens when there is too much."""

from __future__ import annotations

import asyncio
import json
from functools import partial
from pathlib import Path

import pytest

from captioner.engines.pool.settings import PoolSettings
from captioner.errors import Refused
from serving.keys import Key, add_key, hashed, read_keys, write_keys
from serving.problems import Problem
from serving.shares import Shares
from tests.scripted_engine import ScriptedEngine, caption, gated, hang
from tests.serving.served import FAKE, in_base64, jpeg, served
from tests.serving.test_captions import scripted


def keyring(folder: Path, **changes: object) -> tuple[Path, str]:
    path = folder / "keys.json"
    shares = {"a_minute": 0, "at_once": 0, **changes}
    return path, add_key(path, Key(name="alice", tenant="alice", sha256="0" * 64, **shares), days=1)  # type: ignore[arg-type]


def test_case_78_no_wrong_or_expired_key_is_a_401_and_a_key_in_the_url_never_works(tmp_path: Path) -> None:
    path, key = keyring(tmp_path)
    old = add_key(path, Key(name="old", tenant="old", sha256="0" * 64), days=0)
    keys = read_keys(path)
    write_keys(path, [keys[0], Key(name="old", tenant="old", sha256=keys[1].sha256, expires=1.0)])

    async def scene() -> None:
        async with served(*FAKE, "--keys", str(path)) as there:
            wrong = ["", "Bearer", "Bearer x", f"Basic {key}", f"Bearer {key[:-1]}", f"Bearer {key}x", f"Bearer {old}"]
            for given in wrong:
                found = await there.upload(jpeg(), Authorization=given)
                assert (found.status, found.reason) == (401, "unauthorized"), given
                assert found.headers["www-authenticate"].startswith("Bearer")
            for name in ("key", "api_key", "access_token", "token", "apikey", "Authorization"):
                found = await there.upload(jpeg(), path=f"/v1/captions?{name}={key}", Authorization=f"Bearer {key}")
                assert (found.status, found.reason) == (401, "unauthorized"), name
            assert (await there.upload(jpeg(), Authorization=f"Bearer {key}")).status == 200
            assert (await there.upload(jpeg(), Authorization=f"bearer {key}")).status == 200
            told = await there.get("/v1/engines", Authorization="Bearer " + "0" * 49)
            assert told.reason == "unauthorized"

    asyncio.run(scene())
    assert key not in path.read_text() and hashed(key) in path.read_text() and oct(path.stat().st_mode)[-3:] == "600"


def test_a_key_without_the_scope_is_a_403(tmp_path: Path) -> None:
    path, key = keyring(tmp_path, scopes=("run",))

    async def scene() -> None:
        async with served(*FAKE, "--keys", str(path), key=key) as there:
            found = await there.upload(jpeg())
            assert (found.status, found.reason) == (403, "forbidden")

    asyncio.run(scene())


def test_any_address_but_the_loopback_wants_keys() -> None:
    for host in ("0.0.0.0", "::", "192.168.1.5", "example.org"):
        with pytest.raises(Refused, match="--keys"):
            from serving.settings import Listening

            Listening(host=host)


def test_a_page_of_another_site_and_a_name_bound_to_our_address_are_refused_where_no_key_is_wanted() -> None:
    async def scene() -> None:
        async with served(*FAKE) as there:
            for headers in ({"Host": "evil.example"}, {"Origin": "https://evil.example"}, {"Origin": "null"}):
                found = await there.ask("GET", "/v1/engines", None, headers)
                assert (found.status, found.reason) == (403, "forbidden_origin"), headers
            own = await there.get("/v1/engines", Origin=there.url)
            assert own.status == 200

    asyncio.run(scene())


def test_case_88_over_its_rate_a_key_gets_429_and_another_key_goes_on_unharmed(tmp_path: Path) -> None:
    path, alice = keyring(tmp_path, a_minute=3)
    bob = add_key(path, Key(name="bob", tenant="bob", sha256="0" * 64, a_minute=3, at_once=2), days=1)

    async def scene() -> None:
        async with served(*FAKE, "--keys", str(path)) as there:
            of_alice = [await there.upload(jpeg(), Authorization=f"Bearer {alice}") for _ in range(5)]
            assert [each.status for each in of_alice] == [200, 200, 200, 429, 429]
            assert of_alice[3].reason == "rate_limited" and 1 <= int(of_alice[3].headers["retry-after"]) <= 60
            assert (await there.upload(jpeg(), Authorization=f"Bearer {bob}")).status == 200

    asyncio.run(scene())


def test_a_key_has_so_many_at_once_and_so_many_pixels_a_day() -> None:
    now = 1000.0
    shares = Shares(clock=lambda: now)
    key = Key(name="a", tenant="a", sha256="0" * 64, a_minute=0, at_once=1, megapixels_a_day=1)
    with shares.take(key), pytest.raises(Problem, match="too_many_at_once"), shares.take(key):
        raise AssertionError("a second one at once")
    with shares.booking(key, 1_000_000):
        pass
    with pytest.raises(Problem, match="pixels_used_up"), shares.take(key):
        raise AssertionError("over the day's pixels")
    now += 86_400
    with shares.take(key), shares.booking(key, 1) as booking:
        now += 86_400
        booking.correct(0)
    with shares.take(key), shares.booking(key, 1_000_000):  # yesterday's pixels are not given back to today
        pass
    with pytest.raises(Problem, match="pixels_used_up"), shares.take(key):
        raise AssertionError("over the day's pixels")


def test_pictures_that_come_at_once_do_not_slip_past_the_pixels_of_the_day(tmp_path: Path) -> None:
    path, key = keyring(tmp_path, megapixels_a_day=1)

    async def scene() -> None:
        async with served(*FAKE, "--fake.seconds", "0.3", "--keys", str(path), key=key) as there:
            found = await asyncio.gather(*(there.upload(jpeg(number)) for number in range(12)))
            refused = [each.reason for each in found if each.status != 200]
            assert refused == ["pixels_used_up"] * 8  # the fourth of 0.29 megapixels passes the limit

    asyncio.run(scene())


def test_tenants_that_wait_take_turns() -> None:
    from serving.admission import Admission

    async def scene() -> list[str]:
        admission, order = Admission(lambda: 1, queue=10), []
        deadline = asyncio.get_running_loop().time() + 60

        async def one(tenant: str) -> None:
            async with admission.enter(tenant, deadline):
                order.append(tenant)
                await asyncio.sleep(0)

        await asyncio.gather(*(one(tenant) for tenant in ["a", "a", "a", "a", "b", "c"]))
        assert admission.working == admission.waiting == 0
        return order

    assert asyncio.run(scene()) == ["a", "a", "b", "c", "a", "a"]


def test_case_89_a_full_queue_is_a_503_at_once_and_shows_in_readyz_but_not_in_livez() -> None:
    async def scene() -> None:
        gate = asyncio.Event()
        async with (
            ScriptedEngine(otherwise=gated(gate, caption())) as engine,
            served(
                *scripted(engine, "--pace.slots", "2", "--queue", "2", "--pace.decoders", "1", "--metrics-port", "0")
            ) as there,
        ):

            async def told(ready: str) -> bool:
                """Whether the metrics come to say so: they are looked at five times a second."""
                async with asyncio.timeout(10):
                    while True:
                        async with there.session.get(there.metrics) as response:
                            if f"recap_service_ready {ready}" in await response.text():
                                return True
                        await asyncio.sleep(0.05)

            room = there.server.service._room() + 2
            asks = [asyncio.create_task(there.upload(jpeg(n))) for n in range(room)]
            while not there.server.service.admission.full:
                await asyncio.sleep(0.01)
            found = await there.upload(jpeg(99))
            assert (found.status, found.reason) == (503, "overloaded") and int(found.headers["retry-after"]) >= 1
            assert (await there.get("/readyz")).status == 503 and (await there.get("/livez")).status == 200
            assert await told("0.0")
            gate.set()
            assert [each.status for each in await asyncio.gather(*asks)] == [200] * room
            assert len(engine.asked) == room and (await there.get("/readyz")).status == 200
            assert await told("1.0")

    asyncio.run(scene())


def test_a_deadline_that_the_queue_cannot_meet_is_refused_before_the_body_is_read() -> None:
    async def scene() -> None:
        async with served(*FAKE, "--pace.slots", "1", "--fake.seconds", "0.5", "--cache-entries", "0") as there:
            await there.upload(jpeg(1))  # now it knows how long one takes
            asks = [asyncio.create_task(there.upload(jpeg(n))) for n in range(2, 12)]
            await asyncio.sleep(0.2)
            found = await there.upload(jpeg(99), X_Deadline_Seconds="1")
            assert (found.status, found.reason) == (503, "overloaded") and int(found.headers["retry-after"]) >= 1
            for ask in asks:
                ask.cancel()

    asyncio.run(scene())


def test_case_90_a_dead_engine_is_a_503_within_a_second_and_one_that_is_back_is_found_within_ten() -> None:
    async def scene() -> None:
        async with ScriptedEngine() as engine, served(*scripted(engine)) as there:
            assert (await there.upload(jpeg(1))).status == 200
            await engine.stop()
            first = await there.upload(jpeg(2))  # it finds out
            assert (first.status, first.reason) == (503, "engine_unavailable")
            found = await there.upload(jpeg(3))
            assert found.reason == "engine_unavailable" and found.seconds < 1 and "retry-after" in found.headers
            assert (await there.get("/readyz")).status == 503
            await engine.start()
            async with asyncio.timeout(10):
                while (await there.get("/readyz")).status != 200:
                    await asyncio.sleep(0.05)
            assert (await there.upload(jpeg(4))).status == 200

    asyncio.run(scene())


def test_case_91_a_client_that_hangs_up_stops_the_engine_s_work_within_a_second() -> None:
    async def scene() -> None:
        async with ScriptedEngine(otherwise=hang()) as engine, served(*scripted(engine)) as there:
            ask = asyncio.create_task(there.upload(jpeg()))
            while not engine.asked:
                await asyncio.sleep(0.01)
            ask.cancel()
            async with asyncio.timeout(1):
                while not engine.hung_up:
                    await asyncio.sleep(0.01)
            assert there.server.service.admission.working == 0

    asyncio.run(scene())


def test_case_92_one_idempotency_key_is_one_engine_call_and_conflicts_with_another_body() -> None:
    async def scene() -> None:
        async with (
            ScriptedEngine(otherwise=caption(seconds=0.3)) as engine,
            served(*scripted(engine, "--cache-entries", "0")) as there,
        ):
            both = [there.upload(jpeg(), Idempotency_Key="k1"), there.post(in_base64(jpeg()), Idempotency_Key="k1")]
            one, two = await asyncio.gather(*both)
            later = await there.upload(jpeg(), Idempotency_Key="k1")
            assert one.json == two.json == later.json and len(engine.asked) == 1
            other = await there.upload(jpeg(7), Idempotency_Key="k1")
            assert (other.status, other.reason) == (422, "idempotency_conflict")
            for bad in ("", "x" * 201, "a b\tc"):
                assert (await there.upload(jpeg(), Idempotency_Key=bad)).reason == "bad_request"

    asyncio.run(scene())


def test_one_of_two_that_share_an_answer_may_leave_and_the_other_still_gets_it() -> None:
    async def scene() -> None:
        async with ScriptedEngine(otherwise=caption(seconds=0.5)) as engine, served(*scripted(engine)) as there:
            leaver, stayer = (asyncio.create_task(there.upload(jpeg())) for _ in range(2))
            while not engine.asked:
                await asyncio.sleep(0.01)
            leaver.cancel()
            assert (await stayer).status == 200 and len(engine.asked) == 1 and engine.hung_up == 0

    asyncio.run(scene())


def test_case_93_a_deadline_ends_the_engine_s_work_and_one_that_passes_in_the_queue_asks_no_engine() -> None:
    async def scene() -> None:
        async with (
            ScriptedEngine(otherwise=hang()) as engine,
            served(*scripted(engine, "--pace.slots", "1", "--pace.decoders", "1")) as there,
        ):
            room = there.server.service._room()
            asks = [asyncio.create_task(there.upload(jpeg(n), X_Deadline_Seconds="2.5")) for n in range(room)]
            while there.server.service.admission.working < room:
                await asyncio.sleep(0.01)
            waited = await there.upload(jpeg(50), X_Deadline_Seconds="1")
            assert (waited.status, waited.reason) == (504, "deadline_exceeded")
            assert "no engine was asked" in waited.json["detail"]
            worked = await asyncio.gather(*asks)
            assert {(each.status, each.reason) for each in worked} == {(504, "deadline_exceeded")}
            await asyncio.sleep(0.1)
            assert len(engine.asked) <= room and engine.in_flight == 0
            for bad in ("0", "-1", "0.9", "soon", "nan", "inf"):
                assert (await there.upload(jpeg(), X_Deadline_Seconds=bad)).reason == "bad_request"

    asyncio.run(scene())


def test_case_94_nothing_of_the_client_s_gets_into_the_log_as_it_is(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("DEBUG", logger="recap")

    async def scene() -> None:
        async with served(*FAKE) as there:
            head = '--b\r\nContent-Disposition: form-data; name="image"; filename="a\x1b[31m%0d%0aFORGED.jpg"\r\n\r\n'
            body = head.encode() + jpeg() + b"\r\n--b--\r\n"
            found = await there.ask("POST", "/v1/captions", body, {"Content-Type": "multipart/form-data; boundary=b"})
            assert found.status == 200
            await there.raw(b"GET /%0d%0aFORGED%1b[31m HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n")
            await there.raw(b"X" * 5000 + b" / HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n")
            await there.get("/v1/engines", X_Request_Id="FORGED", User_Agent="FORGED")

    asyncio.run(scene())
    lines = [record.getMessage() for record in caplog.records]
    assert any("/v1/captions" in line for line in lines) and max(map(len, lines)) < 300
    assert not any("\n" in line or "\r" in line or "\x1b" in line for line in lines)
    assert not any("a%" in line or ("FORGED" in line and "\\r\\n" not in line) for line in lines)


def test_what_breaks_on_our_side_is_a_500_that_says_nothing() -> None:
    async def scene() -> None:
        async with served(*FAKE, "--fake.buggy", "1") as there:
            found = await there.upload(jpeg())
            assert (found.status, found.reason) == (500, "internal_error")
            text = found.body.decode()
            assert not any(each in text for each in ("Traceback", "/", "0x7f", "Arithmetic", "told to break"))
            assert json.loads(text)["id"] == found.headers["x-request-id"]

    asyncio.run(scene())


def test_a_broken_answer_of_the_engine_is_a_502_without_its_words() -> None:
    from tests.scripted_engine import error

    async def scene() -> None:
        words = error(400, "secret /srv/model 0x7f001122")
        async with ScriptedEngine(otherwise=words) as engine, served(*scripted(engine)) as there:
            found = await there.upload(jpeg())
            assert (found.status, found.reason) == (502, "engine_refused")
            assert not any(each in found.body.decode() for each in ("secret", "0x7f", "root", str(engine.port)))

    asyncio.run(scene())


def test_one_of_two_engines_that_hangs_is_out_within_30_s_and_no_accepted_request_is_lost(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    usual = PoolSettings()
    assert usual.silent_seconds[1] + usual.canary_seconds < 30  # tests/test_pool_faults.py has it by these, in no time
    quick = partial(PoolSettings, silent_seconds=(0.5, 1.0), canary_seconds=1.0)
    monkeypatch.setattr("pipelines.models.PoolSettings", quick)

    async def scene() -> None:
        async with ScriptedEngine() as sound, ScriptedEngine() as sick:
            both = (*scripted(sound)[:-3], f"{sound.url},{sick.url}", "--metrics-port", "-1")
            async with served(*both) as there:
                first = await asyncio.gather(*(there.upload(jpeg(n)) for n in range(20)))
                assert {each.status for each in first} == {200} and sick.asked
                sick.otherwise = sick.canary = hang()
                sound.otherwise = caption(seconds=1.0)  # busy with one when the next comes, which goes to the other
                async with asyncio.timeout(60):
                    later = await asyncio.gather(*(there.upload(jpeg(n)) for n in range(100, 120)))
                    assert {each.status for each in later} == {200}
                    while "ejected" not in {
                        each["state"] for each in (await there.get("/v1/engines")).json["replicas"]
                    }:
                        await asyncio.gather(*(there.upload(jpeg(200), Cache_Control="no-cache") for _ in range(4)))

    asyncio.run(scene())


def test_a_frozen_engine_that_nobody_asks_is_found_by_a_canary_and_shows_in_readyz(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("serving.engine.QUIET_SECONDS", 0.2)
    monkeypatch.setattr("serving.engine.CANARY_SECONDS", 0.3)

    async def scene() -> None:
        async with ScriptedEngine() as engine, served(*scripted(engine)) as there:
            engine.canary = hang()
            async with asyncio.timeout(10):
                while (await there.get("/readyz")).status != 503:
                    await asyncio.sleep(0.05)
            assert (await there.get("/livez")).status == 200
            engine.canary = caption()
            async with asyncio.timeout(10):
                while (await there.get("/readyz")).status != 200:
                    await asyncio.sleep(0.05)

    asyncio.run(scene())
