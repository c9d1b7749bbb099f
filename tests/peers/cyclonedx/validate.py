"""Judges a CycloneDX document by the JSON schema of the version it names, strictly: validate.py FILE."""

import json
import sys

from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

with open(sys.argv[1], encoding="utf-8") as file:
    text = file.read()
named = json.loads(text).get("specVersion")
try:
    # The schema itself admits any text as specVersion.
    version = SchemaVersion.from_version(named)
except (ValueError, AttributeError, TypeError):
    sys.exit(f"no version of CycloneDX: {named!r}")
error = JsonStrictValidator(version).validate_str(text)
if error is not None:
    sys.exit(f"not CycloneDX {named}: {str(error)[:2000]}")
print(f"CycloneDX {named}: valid")
