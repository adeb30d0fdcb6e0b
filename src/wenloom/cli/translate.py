"""`wenloom translate`."""

from wenloom.cli.answers import command_of

translate = command_of("translation", "translate", "Translate a text, or a file line by line.")
