"""Run a script several times, each in a process of its own that finds the framework imported: `several.py JSON`.

JSON: {"imports": [module], "script": path, "runs": {name: [argument]}}. What takes long is the import, not the training.
"""

import importlib
import json
import os
import sys

given = json.loads(sys.argv[1])
for name in given["imports"]:
    importlib.import_module(name)
for name, arguments in given["runs"].items():
    child = os.fork()
    if child == 0:
        from reprotui.observe.bootstrap import main

        sys.path.insert(0, "")
        code = main(["--name", name, given["script"], *arguments])
        sys.stdout.flush()
        sys.exit(code)
    if os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]):
        sys.exit(f"{name} failed")
