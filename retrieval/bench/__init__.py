"""Benchmarks of this package. They may speak pymilvus: what they compare with is Milvus alone."""
