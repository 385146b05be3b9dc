"""Bytes at rest: the only code that opens data files."""
