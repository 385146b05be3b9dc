"""The line and where it runs; the only home of Ray."""
