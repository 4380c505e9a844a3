"""Model files: catalogue, lock, hub, offline kits, look-up."""
