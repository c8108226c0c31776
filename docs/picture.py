"""Draws a terminal in which `make demo` ran: LOG SVG.

What it shows is what the run printed. Lines are left out, and none is added but the prompt.
"""

import re
import sys

from rich.console import Console
from rich.text import Text

WIDTH = 104
# The parts of which all lines are shown, and the most lines of the others.
WHOLE = ("add-ons", "appliance status, inside the VM", "what the second boot changed")
# Of a report, the tables that are long and say the same for each line.
LONG = ("IMAGE ", "CERTIFICATE ")
MOST = 5
# A line of a part that is not shown whole, if it matters to whoever watches.
TELLING = re.compile(r"^ *\d+ s  .*(Linux version|appliance: |appliance\[|Started (etcd|kube))")


def parts(lines):
    """The parts of the run: a heading, and the lines below it."""
    found = [("", [])]
    for line in lines:
        if line.startswith("== "):
            found.append((line, []))
        else:
            found[-1][1].append(line)
    return found[1:]


def shown(heading, lines):
    """The lines of a part that the picture shows."""
    lines = without_long_tables(lines)
    if heading.removeprefix("== ").startswith(WHOLE):
        return lines
    return [line for line in lines if TELLING.match(line)][:MOST]


def without_long_tables(lines):
    """The lines without empty ones, and without the tables of a report that are long."""
    kept, skipping = [], False
    for line in lines:
        skipping = line.startswith(LONG) or (skipping and bool(line.strip()))
        if line.strip() and not skipping:
            kept.append(line)
    return kept


def styled(line):
    """A line as a terminal would show it."""
    text = Text(line[:WIDTH])
    if line.startswith("== "):
        text.stylize("bold cyan")
    text.highlight_words(["healthy", "ok", "Ready", "Running"], "green")
    return text


def without_fonts(svg):
    """The picture without the fonts it would load from elsewhere."""
    svg = re.sub(r"@font-face \{.*?\}\s*", "", svg, flags=re.DOTALL)
    return re.sub(r"<!-- Generated .*?-->\s*", "", svg)


def main():
    log, picture = sys.argv[1:]
    with open(log, encoding="utf-8", errors="replace") as file:
        lines = [line.rstrip().expandtabs() for line in file]
    console = Console(record=True, width=WIDTH, file=open("/dev/null", "w"), force_terminal=True)
    console.print(Text("# make demo", style="bold green"))
    for heading, below in parts(lines):
        console.print(styled(heading))
        for line in shown(heading, below):
            console.print(styled(line), overflow="crop", no_wrap=True, crop=True)
    console.save_svg(picture, title="make demo", unique_id="demo")
    with open(picture, encoding="utf-8") as file:
        svg = without_fonts(file.read())
    assert "url(http" not in svg and "href" not in svg, "the picture loads something"
    with open(picture, "w", encoding="utf-8") as file:
        file.write(svg)


main()
