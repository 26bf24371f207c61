"""`python -m distmed …` is the same as `distmed …`."""

from distmed.cli import main

main()
