"""Settings of all tests."""

from hypothesis import HealthCheck, settings

# Timings never decide a test: this machine is shared.
settings.register_profile("freshet", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("freshet")
