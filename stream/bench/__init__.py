"""Benchmarks of the stream, and what they share with the integration tests: workers as processes,
a stub encoder, loads, and an oracle that knows nothing of the product's fold."""
