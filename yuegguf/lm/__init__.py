"""The language-model engine: the protocol and its llama.cpp implementation."""

import os

# Threads wait for each other hundreds of times a step. Spinning as long as GNU's OpenMP does by default, a
# thread whose partner is not running burns its whole share of a busy core: steps took 800 times as long.
# It reads this when llama.cpp is loaded; who has set it, or OMP_WAIT_POLICY, keeps their choice.
if "OMP_WAIT_POLICY" not in os.environ:
    os.environ.setdefault("GOMP_SPINCOUNT", "1000")
