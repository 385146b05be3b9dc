"""Pictures as bytes in, pictures we bounded out: headers, the decode rule, the limited decoder processes."""
