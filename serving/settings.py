"""What `recap serve` may be told: where it listens, whom it answers, and how much of it one request may have."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from pathlib import Path

from captioner.errors import Refused


@dataclass(frozen=True, slots=True, kw_only=True)
class Listening:
    """Where the service listens and who may ask."""

    host: str = "127.0.0.1"
    """The address to listen on. Any but the loopback wants --keys."""
    port: int = 8000
    """The port; 0 for one that is free."""
    metrics_host: str = "127.0.0.1"
    """The address of the metrics, for Prometheus."""
    metrics_port: int = 9464
    """The port of the metrics; 0 for one that is free, -1 for none."""
    keys: str = ""
    """A file of hashed API keys: `recap serve keys add FILE NAME` writes one. Default: none, on the loopback only."""
    names: str = ""
    """More host names that requests may be addressed to, comma between them, where no keys are configured."""
    run: str = ""
    """A run's folder or URL: then /run shows it live. Without --endpoints the engines that it keeps are asked too."""
    drain_seconds: float = 25.0
    """After SIGTERM: so long may what was accepted take. It is stopped with 504 after that."""
    leave_seconds: float = 0.0
    """After SIGTERM: so long is new work still taken while /readyz says 503, for a balancer to look away."""

    def __post_init__(self) -> None:
        if not 0 <= self.port <= 65_535 or not -1 <= self.metrics_port <= 65_535:
            raise Refused("--port 0 to 65535 would be right, and --metrics-port -1 to 65535")
        if not 0 <= self.drain_seconds + self.leave_seconds <= 28:
            raise Refused("--drain-seconds and --leave-seconds of 0 to 28 together would be right: it ends within 30 s")
        if not self.keys and not is_loopback(self.host):
            raise Refused(
                f"--host {self.host} is not the loopback: anybody who reaches it could use the engine. "
                "Give --keys FILE (`recap serve keys add FILE NAME` makes one), or --host 127.0.0.1"
            )
        if self.keys and not Path(self.keys).expanduser().is_file():
            raise Refused(f"--keys {self.keys} is not there; `recap serve keys add {self.keys} NAME` makes one")

    @property
    def key_file(self) -> Path | None:
        return Path(self.keys).expanduser() if self.keys else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounds:
    """How much of the service one request, and all of them, may have."""

    body_mib: int = 24
    """Bytes of one request at most; a picture or clip in base64 takes a third more than its file."""
    header_seconds: float = 10.0
    """Until a request's headers are there."""
    body_seconds: float = 14.0
    """Until its body is there, and a second more for each 64 KiB that came."""
    deadline_seconds: float = 60.0
    """Until its answer; a request may ask for less by X-Deadline-Seconds."""
    queue: int = 64
    """Requests that may wait behind those that the engine has."""
    held_mib: int = 512
    """Bytes of bodies, pictures, clips and their frames that all requests hold at most."""
    connections: int = 4096
    """Connections at most; beyond them the one that has been silent longest is closed."""
    cache_entries: int = 1024
    """Answers kept for the same picture, asked again by the same tenant; 0 for none."""
    cache_seconds: float = 3600.0
    """How long an answer is kept, and an Idempotency-Key known."""

    def __post_init__(self) -> None:
        whole = (self.body_mib, self.held_mib, self.connections)
        if min(whole) < 1 or min(self.header_seconds, self.body_seconds, self.deadline_seconds) <= 0:
            raise Refused("bounds: bytes, connections and seconds above 0 would be right")
        if self.held_mib < self.body_mib:  # a body that does not tell its length counts as the largest one
            raise Refused(
                f"--held-mib {self.held_mib} is less than --body-mib {self.body_mib}, and every chunked body would be "
                f"refused: --held-mib {self.body_mib} or more would be right, or a smaller --body-mib"
            )
        if self.queue < 0 or self.cache_entries < 0 or self.cache_seconds < 0:
            raise Refused("bounds: --queue, --cache-entries and --cache-seconds of 0 or more would be right")

    @property
    def body_bytes(self) -> int:
        return self.body_mib * 2**20


@dataclass(frozen=True, slots=True, kw_only=True)
class Fetching:
    """Pictures by URL; off unless it is allowed here."""

    allow_urls: bool = False
    """Fetch the URLs that requests name. With keys, theirs also wants the scope `fetch`."""
    url_hosts: str = ""
    """Only from these hosts, comma between them. Default: any public one."""
    url_http: bool = False
    """Also by plain http, on port 80."""
    url_networks: str = ""
    """Networks that are not public and still allowed, such as 10.1.0.0/16, comma between them: your own pictures."""
    url_ports: str = ""
    """More ports than 443 and, with --url-http, 80."""
    url_seconds: float = 10.0
    """Until the whole picture is there, redirects included."""

    def __post_init__(self) -> None:
        try:
            _ = self.networks, self.ports
        except ValueError as error:
            raise Refused(f"--url-networks and --url-ports: {error}") from error
        if self.url_seconds <= 0:
            raise Refused("--url-seconds above 0 would be right")

    @property
    def networks(self) -> tuple[ipaddress.IPv4Network | ipaddress.IPv6Network, ...]:
        return tuple(ipaddress.ip_network(each.strip()) for each in self.url_networks.split(",") if each.strip())

    @property
    def ports(self) -> frozenset[int]:
        return frozenset(int(each) for each in self.url_ports.split(",") if each.strip())

    @property
    def hosts(self) -> frozenset[str]:
        return frozenset(each.strip().lower() for each in self.url_hosts.split(",") if each.strip())


def is_loopback(host: str) -> bool:
    """Whether an address to listen on can only be reached from this machine."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
