"""Heal instances over SSH, with a bundle where gesso is not installed."""
