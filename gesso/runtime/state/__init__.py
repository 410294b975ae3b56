"""The state of an instance: derived from plain facts, and displayed."""
