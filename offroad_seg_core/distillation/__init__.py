"""Teach a small network what large ones know."""
