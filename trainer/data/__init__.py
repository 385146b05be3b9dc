"""What a model reads: samples of corpora, in an order that any number of workers and ranks shares, packed into rows."""
