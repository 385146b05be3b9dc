"""`python -m pipelines` is `recap`."""

from __future__ import annotations

from pipelines.cli import recap

if __name__ == "__main__":
    raise SystemExit(recap())
