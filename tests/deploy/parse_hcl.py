"""Parses a Terraform module: FOLDER. Prints each of its files as JSON, by its name."""

import json
import os
import sys

import hcl2

folder = sys.argv[1]
parsed = {}
for name in sorted(os.listdir(folder)):
    if name.endswith(".tf"):
        with open(os.path.join(folder, name), encoding="utf-8") as file:
            parsed[name] = hcl2.load(file)
json.dump(parsed, sys.stdout)
