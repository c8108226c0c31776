"""Reads a browser's record of its network: prints what pages asked for, and ends with 1 if that is anything."""

import json
import sys

# The browser's own requests, for its updates, name no page.
OWN = (None, "not an origin")

with open(sys.argv[1]) as file:
    events = json.load(file)["events"]
asked = set()
for event in events:
    parameters = event.get("params", {})
    is_of_page = parameters.get("initiator") not in OWN
    if is_of_page and parameters.get("url", "").startswith(("http:", "https:", "ws:", "wss:")):
        asked.add(parameters["url"])
print("\n".join(sorted(asked)), end="\n" if asked else "")
sys.exit(bool(asked))
