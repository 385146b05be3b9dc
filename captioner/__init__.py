"""What a caption is: screen a sample, ask an engine, filter the answer. No Ray, no tar, no web."""
