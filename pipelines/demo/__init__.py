"""The demo: real photographs, and some bad ones, through the whole line."""
