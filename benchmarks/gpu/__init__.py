"""One run of all measurements that a GPU allows, within a given time."""
