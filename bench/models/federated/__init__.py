"""Collaborative learning: the protocol and the server."""
