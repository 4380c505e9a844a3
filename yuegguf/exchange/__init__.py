"""Songs of other tools in and out, archives, and pictures."""
