"""`yuegguf serve`: an HTTP API, a page, and a queue of songs that survives restarts."""
