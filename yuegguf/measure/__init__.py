"""How long a song will take, how fast this machine is, how good a quantisation."""
