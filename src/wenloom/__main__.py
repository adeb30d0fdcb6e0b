"""`python -m wenloom`."""

from wenloom.cli.app import main

main()
