"""A run as its folder tells of it while it goes on: outcomes, rates, engines, and the latest pictures."""

from __future__ import annotations
