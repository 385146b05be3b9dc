"""What docker/ says fits what the code does; hadolint and schema checks of the manifests are run by hand."""

from __future__ import annotations

import asyncio
import json
import os
import re
import stat
import tomllib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import tyro
import yaml

from captioner.engines.served import Remote
from captioner.presets import asking_for
from pipelines.metrics import REPLICA_COUNTERS, REPLICA_GAUGES
from pipelines.options import options_class
from pipelines.recap_datacomp import DATACOMP
from serving import metrics
from serving.commands import options_of
from serving.engine import TICK_SECONDS
from serving.keys import Key, add_key
from tests.scripted_engine import ScriptedEngine
from tests.serving.served import jpeg, served

ROOT = Path(__file__).parents[2]
DOCKER = ROOT / "docker"
MANIFESTS = sorted((DOCKER / "kubernetes").glob("*.yaml"))


def documents() -> Iterator[dict[str, Any]]:
    for path in MANIFESTS:
        yield from (each for each in yaml.safe_load_all(path.read_text()) if each)


def pods(found: Any) -> Iterator[dict[str, Any]]:
    """Every pod's spec, however deep."""
    if isinstance(found, dict):
        if "containers" in found:
            yield found
        for each in found.values():
            yield from pods(each)
    elif isinstance(found, list):
        for each in found:
            yield from pods(each)


def test_every_pod_runs_as_nobody_on_a_read_only_root_without_the_cluster_s_keys() -> None:
    found = [pod for document in documents() for pod in pods(document)]
    assert len(found) == 6
    for pod in found:
        assert pod["securityContext"]["runAsNonRoot"] is True and pod["automountServiceAccountToken"] is False
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        for container in pod["containers"]:
            locked = container["securityContext"]
            assert locked["readOnlyRootFilesystem"] is True and locked["allowPrivilegeEscalation"] is False
            assert locked["capabilities"] == {"drop": ["ALL"]} and "limits" in container["resources"]


def test_ray_asks_for_a_token_and_all_traffic_is_denied_but_for_what_is_listed() -> None:
    by_kind = {(each["kind"], each["metadata"]["name"]): each for each in documents()}
    assert by_kind["RayCluster", "recap"]["spec"]["authOptions"] == {"mode": "token", "secretName": "ray-token"}
    nothing = by_kind["NetworkPolicy", "nothing"]["spec"]
    assert nothing == {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}
    assert "169.254.0.0/16" in (DOCKER / "kubernetes/networkpolicy.yaml").read_text()


def secrets_of(found: Any) -> Iterator[str]:
    """The names of all secrets that a manifest wants, however deep."""
    if isinstance(found, dict):
        yield from (found[key]["name"] for key in ("secretKeyRef", "secretRef") if key in found)
        yield from (found[key] for key in ("secretName",) if key in found)
    for each in found.values() if isinstance(found, dict) else found if isinstance(found, list) else ():
        yield from secrets_of(each)


def test_every_secret_that_is_wanted_is_one_that_somebody_is_told_to_make() -> None:
    told = set(re.findall(r"create secret generic ([\w-]+) ", (DOCKER / "kubernetes/namespace.yaml").read_text()))
    assert {name for document in documents() for name in secrets_of(document)} == told
    text = (DOCKER / "compose.yaml").read_text()
    for name, secret in yaml.safe_load(text)["secrets"].items():
        default = secret["file"].partition(":-./")[2].removesuffix("}")
        assert f"docker/{default}" in text.partition("name: recap")[0], name


def test_no_job_says_what_kuberay_refuses_beside_a_cluster_selector() -> None:
    job = next(each for each in documents() if each["kind"] == "RayJob")["spec"]
    assert "clusterSelector" in job and not job.get("backoffLimit")
    assert not job.get("shutdownAfterJobFinishes") and job["submissionMode"] != "SidecarMode"


def annotations(found: Any) -> Iterator[dict[str, str]]:
    """What every pod tells Prometheus, however deep."""
    if isinstance(found, dict):
        if "annotations" in found:
            yield found["annotations"]
        for each in found.values():
            yield from annotations(each)
    elif isinstance(found, list):
        for each in found:
            yield from annotations(each)


def test_prometheus_is_told_of_and_may_read_every_port_of_metrics() -> None:
    policies = {each["metadata"]["name"]: each["spec"] for each in documents() if each["kind"] == "NetworkPolicy"}
    read = {
        name: [
            port["port"]
            for rule in policies[name]["ingress"]
            if any("monitoring" in str(peer) for peer in rule["from"])
            for port in rule["ports"]
        ]
        for name in ("service", "engine", "ray")
    }
    assert read == {"service": [9464], "engine": [8000], "ray": [8080]}
    told = {each["prometheus.io/port"] for document in documents() for each in annotations(document)}
    assert told == {str(port) for ports in read.values() for port in ports}


def test_compose_hardens_every_service_and_publishes_on_the_loopback_only() -> None:
    compose = yaml.safe_load((DOCKER / "compose.yaml").read_text())
    for name, service in compose["services"].items():
        assert service["read_only"] is True and service["cap_drop"] == ["ALL"], name
        assert all(port.startswith("127.0.0.1:") for port in service.get("ports", ())), name
    assert compose["networks"]["inside"] == {"internal": True}


def test_compose_mounts_the_folder_of_keys_and_builds_the_engine_on_the_service_s_own_image() -> None:
    text = (DOCKER / "compose.yaml").read_text()
    compose = yaml.safe_load(text)
    for name in ("service", "service-cpu"):
        service = compose["services"][name]
        keys = next(word for word in service["command"] if word.startswith("--keys="))
        folder = service["volumes"][0].removesuffix(":ro").rpartition(":")[2]
        assert keys == f"--keys={folder}/keys.json" and "secrets" not in service
    engine = (DOCKER / "engine.Dockerfile").read_text()
    base = compose["services"]["engine"]["build"]
    assert base["additional_contexts"] == {base["args"]["RECAP"]: "service:service"} and "FROM ${RECAP}" in engine
    assert "--profile gpu up" in text.partition("name: recap")[0]


def test_the_engine_of_compose_has_room_for_the_longest_clip_that_the_service_asks_it_about() -> None:
    compose = yaml.safe_load((DOCKER / "compose.yaml").read_text())["services"]
    words = dict(word.split("=", 1) for word in compose["engine"]["command"] if "=" in word)
    model = words["--model"].removeprefix("${MODEL:-").removesuffix("}")
    assert f"--model={words['--model']}" in compose["service"]["command"]
    asking = asking_for(Remote, model, kind="video")
    assert asking.frames is not None
    pair = asking.frames.pixels.max_pixels // asking.frames.pixels.multiple_of**2
    frames = asking.frames.max_frames // asking.frames.multiple_of * pair
    words_around = 300  # the template's, the prompt's, and two for each video that the frames go as
    assert frames + asking.ladder[-1].max_tokens + words_around <= int(words["--max-model-len"])


def test_the_store_of_compose_needs_no_capability_to_become_its_own_user() -> None:
    store = yaml.safe_load((DOCKER / "compose.yaml").read_text())["services"]["store"]
    assert store["cap_drop"] == ["ALL"] and store["user"] == "1000:1000"


def test_the_images_end_as_a_user_that_is_not_root() -> None:
    for name in ("Dockerfile", "engine.Dockerfile"):
        users = re.findall(r"^USER (.+)$", (DOCKER / name).read_text(), re.MULTILINE)
        assert users[-1] == "10001:10001"


def test_the_cpu_image_copies_every_package_of_the_project() -> None:
    with open(ROOT / "pyproject.toml", "rb") as file:
        named = tomllib.load(file)["tool"]["setuptools"]["packages"]["find"]["include"]
    copied = re.findall(r"^COPY (\w+) \1$", (DOCKER / "Dockerfile").read_text(), re.MULTILINE)
    assert {each.rstrip("*") for each in named} == set(copied)
    ignored = (DOCKER / "Dockerfile.dockerignore").read_text().splitlines()
    assert {f"!{each}" for each in copied} <= set(ignored)


def test_the_command_lines_of_containers_are_ones_that_the_program_takes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ENGINE_KEY", "x")
    keys = tmp_path / "keys.json"
    keys.write_text('{"keys": []}')
    compose = yaml.safe_load((DOCKER / "compose.yaml").read_text())["services"]
    deployed = next(each for each in documents() if each["metadata"]["name"] == "recap-service")
    words = [deployed["spec"]["template"]["spec"]["containers"][0]["args"]]
    words += [compose[name]["command"] for name in ("service", "service-cpu")]
    for line in words:
        assert line[0] == "serve"
        options_of([re.sub("^--keys=.*", f"--keys={keys}", word) for word in line[1:]])
    job = next(each for each in documents() if each["kind"] == "RayJob")["spec"]["entrypoint"].split()
    assert job[:3] == ["python", "-m", "pipelines.recap_datacomp"]
    tyro.cli(options_class(DATACOMP), args=job[3:])


def expressions() -> list[str]:
    """What all panels of all dashboards ask Prometheus."""
    panels = [
        panel
        for path in sorted((DOCKER / "grafana/dashboards").glob("*.json"))
        for panel in json.loads(path.read_text())["panels"]
    ]
    return [target["expr"] for panel in panels for target in panel["targets"]]


def test_dashboards_show_metrics_that_there_are() -> None:
    source = Path(metrics.__file__).read_text() + (ROOT / "pipelines/metrics.py").read_text()
    replicas = {f"recap_replica_{name}" for name in (*REPLICA_GAUGES, *REPLICA_COUNTERS)}
    assert set(metrics.REPLICA_GAUGES) == set(REPLICA_GAUGES) and set(metrics.REPLICA_COUNTERS) == set(REPLICA_COUNTERS)
    asked = {name for expression in expressions() for name in re.findall(r"\brecap_\w+", expression)}
    for name in asked:
        plain = re.sub("_(total|bucket|count|sum)$", "", name)
        assert plain in replicas or f'"{plain}"' in source, name
    assert len(asked) > 10


MATCHES = {
    "=": lambda there, wanted: there == wanted,
    "!=": lambda there, wanted: there != wanted,
    "=~": lambda there, wanted: re.fullmatch(wanted, there) is not None,
}


def selects(series: dict[str, str], name: str, matchers: str) -> bool:
    """Whether a selector of PromQL, `name{matchers}`, selects a series."""
    asked = re.findall(r'(\w+)(=~|!=|=)"([^"]*)"', matchers)
    return series[""] == name and all(MATCHES[how](series.get(label, ""), wanted) for label, how, wanted in asked)


async def exposed() -> list[dict[str, str]]:
    """The series of a service, the name of each under "", after a good picture and a broken one; none has failed."""
    async with ScriptedEngine() as engine:
        words = ("--engine", "openai", "--model", "tiny", "--preset", "qwen2-vl", "--endpoints", engine.url)
        async with served(*words, "--metrics-port", "0") as there:
            assert (await there.upload(jpeg())).status == 200 and (await there.upload(b"none")).status == 422
            await asyncio.sleep(2 * TICK_SECONDS)
            async with there.session.get(there.metrics) as response:
                lines = re.findall(r"^(\w+)(?:\{(.*)\})? [\d.e+-]+$", await response.text(), re.MULTILINE)
    found = [{"": name, **dict(re.findall(r'(\w+)="([^"]*)"', labels))} for name, labels in lines]
    return [each for each in found if each.get("route") != "/readyz"]


def test_each_panel_about_us_has_data_once_pictures_were_asked_for() -> None:
    series = asyncio.run(exposed())
    for expression in (each for each in expressions() if "recap_" in each):
        # A rate or an increase says nothing of a counter's first event where the counter begins with it, as Ray's do.
        assert "increase(" not in expression
        by = {name for names in re.findall(r"by \(([^)]*)\)", expression) for name in names.split(", ")}
        for name, matchers in re.findall(r"\b(recap_\w+)(?:\{([^}]*)\})?", expression):
            found = [each for each in series if selects(each, name, matchers)]
            starting = {"": name, "route": "/readyz", "status": "503", "reason": "none"}
            assert "5.." not in matchers or not selects(starting, name, matchers), "a probe is nobody's failure"
            assert found, expression
            assert all(by <= {*each, "job"} for each in found), expression


def test_a_key_that_is_added_leaves_the_file_readable_to_whom_it_was(tmp_path: Path) -> None:
    path, key = tmp_path / "keys.json", Key(name="first", tenant="t", sha256="0" * 64)
    add_key(path, key, days=1)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    path.chmod(0o640)
    groups = {*os.getgroups(), os.getgid(), *([10001] if os.geteuid() == 0 else [])}
    group = max(groups)
    os.chown(path, -1, group)
    add_key(path, replace(key, name="second"), days=1)
    assert (stat.S_IMODE(path.stat().st_mode), path.stat().st_gid) == (0o640, group)
