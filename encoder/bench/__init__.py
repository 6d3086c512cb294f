"""Benchmarks of the model. This comes before torch is loaded: threads that wait shall sleep."""

from encoder.threads import let_idle_threads_sleep

let_idle_threads_sleep()
