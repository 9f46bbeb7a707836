"""THE DOOR FOR TERMINALS: words on a command line come in; tables, JSON documents and exit codes go out.

    models, main      the commands `xprim-models` and `xprim`, and `models_group` for other tools; `cache` and `ai` too
      └─▶ verbs       one function a command: parse, ask the manager, answer
            ├─▶ session     one call: settings, flags, warnings, the loop
            ├─▶ progress    how far a pull is
            └─▶ documents, words   the answer for programs, the answer for people
    boundary          flags anywhere on the line; every failure becomes a sentence and an exit code
    lab               JupyterLab on the first notebook

Only the public API of the package is used.

Source: seeds/002 §CLI Command Interface; spec 1 §CLI; spec 4 §Faces.
"""
