"""The language-model engine: the protocol and its llama.cpp implementation."""

import os

# With GNU OpenMP's default spin count, a thread waiting for a descheduled one spins for its whole time slice
# (504 ms instead of 0.6 ms a step). Read when llama.cpp is loaded; a value that the user has set is kept.
if "OMP_WAIT_POLICY" not in os.environ:
    os.environ.setdefault("GOMP_SPINCOUNT", "1000")
