"""The server: OpenAI's HTTP API over engines, and the page that speaks it."""
