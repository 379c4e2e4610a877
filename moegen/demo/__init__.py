"""The main job on real text: compile GLaM's layer, run it, judge it, time it."""

from moegen.demo.story import Story, tell

__all__ = ["Story", "tell"]
