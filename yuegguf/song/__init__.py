"""The song folder: its files, its state, and the work that a resume continues."""
