"""Whether what is installed is right, and how it is mended.

Comes in: an installed model, and what was recorded of it. Goes out: a `ValidationReport` that locates damage to files
and chunks, a plan to mend it, and a receipt that says what mending took.

Source: spec 2 §Validation, §Repair, §Status.
"""
