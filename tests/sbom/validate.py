"""Validates a CycloneDX document on standard input strictly against the published schema."""

import sys

from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

problem = JsonStrictValidator(SchemaVersion.V1_5).validate_str(sys.stdin.read())
if problem is not None:
    sys.exit(f"{problem.data.json_path}: {problem.data.message}")
