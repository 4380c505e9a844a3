"""Functions that Python users call, as names of `yuegguf`: `songs` generates, `files` reads and writes."""
