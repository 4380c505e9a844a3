"""The song folder: its files, its state, what it goes on from."""
