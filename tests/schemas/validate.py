"""Validates JSON documents: one line of standard input each, {"name": …, "schema": …, "document": …}."""

import json
import sys

from jsonschema import Draft202012Validator

failed = False
for line in sys.stdin:
    case = json.loads(line)
    Draft202012Validator.check_schema(case["schema"])
    for error in Draft202012Validator(case["schema"]).iter_errors(case["document"]):
        failed = True
        print(f"{case['name']}: {error.json_path}: {error.message}")
sys.exit(failed)
