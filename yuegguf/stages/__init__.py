"""The stages: each a function of its input array, an engine or codec, options and progress."""
