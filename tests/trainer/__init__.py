"""Tests of the trainer; those that need torch are skipped, and say so, where the `training` extra is not installed."""
