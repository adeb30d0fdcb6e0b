"""`python -m wordloom`."""

from wordloom.cli.app import main

main()
