"""The model: items, codebook, light and LLM recommenders, training, evaluation, the gRPC worker."""

import os

# OpenMP reads it once, when torch is first imported, so it stands before any of that. By default a
# thread that waits for the other spins; on a machine that others use too, training then took ten
# times the processor time (docs/log.md).
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
