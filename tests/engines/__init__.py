"""Tests against real vLLM and SGLang servers on a CPU: `make test-engines` installs both and runs them."""
