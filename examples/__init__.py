"""Layers that ship with moegen, one file each."""
