"""Arithmetic before a launch: what a recipe needs of each device and host, how long a step takes, and what would help."""
