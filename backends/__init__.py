"""Backends: one folder a target family, and what they share."""
