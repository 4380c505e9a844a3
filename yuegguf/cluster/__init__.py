"""Songs on the machines of a Ray cluster that share a folder: units of work, and the driver of them."""
