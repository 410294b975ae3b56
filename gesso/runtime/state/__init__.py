"""The state of an instance: decided from plain facts, and shown."""
