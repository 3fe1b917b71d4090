"""``platelight farm ray``: one command's frames over a Ray cluster."""
