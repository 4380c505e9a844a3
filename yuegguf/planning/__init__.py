"""Planning: memory and speed of this machine, and the settings of a song that follow from them."""
