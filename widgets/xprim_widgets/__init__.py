"""The windows: core values and events come in, live panels in a notebook go out.

Each view is one Python file beside one ESM and CSS pair. The core never imports this package: views hang
themselves on core values from outside, through the entry point group `xprim_nb.views`.
"""

__all__: list[str] = []
