"""What this machine can hold, and how fast it is."""
