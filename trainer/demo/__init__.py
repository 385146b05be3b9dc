"""The trainer's demo: every stage, one after another, on a CPU, with a language model made on the spot."""
