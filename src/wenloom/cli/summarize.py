"""`wenloom summarize`."""

from wenloom.cli.answers import command_of

summarize = command_of("summarization", "summarize", "Summarize a text, or each line of a file.")
