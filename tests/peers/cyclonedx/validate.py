"""Judges a CycloneDX 1.6 document by the published JSON schema, strictly: validate.py FILE."""

import sys

from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

with open(sys.argv[1], encoding="utf-8") as file:
    error = JsonStrictValidator(SchemaVersion.V1_6).validate_str(file.read())
if error is not None:
    sys.exit(f"not CycloneDX 1.6: {str(error)[:2000]}")
print("CycloneDX 1.6: valid")
