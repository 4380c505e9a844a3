"""The loops that people would run instead of ours, at the same shapes on the same machine."""
