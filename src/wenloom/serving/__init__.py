"""Models over HTTP, in the words of the OpenAI API."""
