"""The version, read by the build too, and the name before the present one."""

__version__ = "0.2.0"

FORMER_NAME = "wordloom"
"""Files made under it still open; nothing is written under it."""
