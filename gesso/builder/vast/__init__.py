"""Vast.ai: API client, offers, templates and instances."""
