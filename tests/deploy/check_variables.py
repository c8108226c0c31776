"""Evaluates the validations of a Terraform module's variables: FOLDER VALUES, the latter as JSON.

Prints the names of the variables whose values are refused, as JSON. A variable without a value has its
default. The conditions use a small part of Terraform's language, which this maps to Python.
"""

import base64
import ipaddress
import json
import math
import os
import re
import sys
from types import SimpleNamespace

import hcl2


def with_prefix(text):
    if "/" not in text:
        raise ValueError(text)
    return text


def cidrhost(text, number):
    return str(ipaddress.ip_network(with_prefix(text), strict=False)[number])


def cidrnetmask(text):
    # Terraform's own works for IPv4 only.
    return str(ipaddress.IPv4Network(with_prefix(text), strict=False).netmask)


def regex(pattern, text):
    found = re.search(pattern.replace("$", r"\Z"), text)
    if not found:
        raise ValueError(text)
    return found.group()


FUNCTIONS = {
    "alltrue": all,
    "base64encode": lambda text: base64.b64encode(text.encode()).decode(),
    "can": lambda *_: True,
    "cidrhost": cidrhost,
    "cidrnetmask": cidrnetmask,
    "contains": lambda values, value: value in values,
    "floor": math.floor,
    "length": len,
    "regex": regex,
    "split": lambda separator, text: text.split(separator),
    "try": lambda value, _: value,
    "true": True,
    "false": False,
}


def python(condition):
    text = condition.removeprefix("${").removesuffix("}")
    text = text.replace("&&", " and ").replace("||", " or ").replace("try(", "attempt(")
    return re.sub(r"\[for (\w+) in ([\w.]+) : ([^]]*)\]", r"[(\3) for \1 in \2]", text)


def holds(condition, values):
    names = {name: function for name, function in FUNCTIONS.items() if name != "try"}
    names |= {"attempt": FUNCTIONS["try"], "var": SimpleNamespace(**values)}
    try:
        return eval(python(condition), {"__builtins__": {}} | names) is True
    except (ValueError, IndexError, TypeError, AttributeError):
        # What fails is refused, too: `can` and `try` make false of it.
        return False


def unquoted(value):
    if isinstance(value, str):
        return value.removeprefix('"').removesuffix('"')
    return value


folder, said = sys.argv[1], json.loads(sys.argv[2])
with open(os.path.join(folder, "variables.tf"), encoding="utf-8") as file:
    variables = {
        name.strip('"'): variable
        for block in hcl2.load(file)["variable"]
        for name, variable in block.items()
    }
values = {name: unquoted(variable.get("default")) for name, variable in variables.items()} | said
refused = [
    name
    for name, variable in variables.items()
    for validation in variable.get("validation", [])
    if not holds(unquoted(validation["condition"]), values)
]
json.dump(sorted(set(refused)), sys.stdout)
