"""Sound files and signal processing."""
