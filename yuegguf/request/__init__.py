"""What a song is asked to be: text and numbers, no files."""
