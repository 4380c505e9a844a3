"""The request for a song: text and numbers, no files."""
