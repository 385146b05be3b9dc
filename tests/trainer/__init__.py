"""Tests of the trainer; those that need torch are skipped, and say so, where the `train` extra is not installed."""
