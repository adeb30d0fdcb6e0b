"""Models over HTTP, through the OpenAI API."""
