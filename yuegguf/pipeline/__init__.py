"""From a request to the files of a song: checks, engines, phases, takes, continuations."""
