"""THE DOOR FOR NOTEBOOKS: `%xprim …` and `%%generate …` come in, values with a table or a bar as their face go out.

    extension    what `%load_ext` adds to a shell and `%unload_ext` takes away again; light
      ├─▶ parsing       one line, as argparse reads it; a mistake is one line back
      ├─▶ completion    Tab: commands, options, models; asks no network
      ├─▶ cards         errors of ours as a short card, the traceback one click away
      ├─▶ faces         how core values look in a cell
      │     └─▶ facts       what each of them has to tell, with cache_facts and upkeep_facts; loaded with the first
      │           └─▶ sheets      how that is laid out, harmlessly; wording: in the notebook's own words
      ├─▶ views         windows on core values, found by entry point; loaded with the first that is shown
      └─▶ commands      what each command does, with cache_commands; loaded with the first one
            ├─▶ tables      lists that show as tables, with cache_tables
            ├─▶ ai_commands what is awake, and `ai_generate`, the cell that a model answers; tables and faces of their own
            ├─▶ waiting     `--wait`: a panel or a line that follows a pull
            └─▶ doctor      what all of this stands on, with doctor_kernel, doctor_machine and doctor_registry

Source: spec 3 §Magics; spec 4 §Faces.
"""

from __future__ import annotations

from xprim_nb.magics.extension import load, unload

__all__ = ["load", "unload"]
