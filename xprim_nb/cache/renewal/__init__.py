"""An installed version is brought up to date without losing what somebody did to it, and put back when that was wrong.

Comes in: a reference and an `UpdateStrategy`. Goes out: a printable plan, then the new version in place, with the
user's files in it and the old version beside as a backup, renamed and not copied.

Source: spec 2 §Refresh; seeds/000 §3 (`UpdateStrategy`).
"""
