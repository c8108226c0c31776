"""Draws a terminal that was recorded, as a picture that plays: RECORDING TITLE ROWS SVG.

RECORDING is a directory with a file for each command, what it showed, and when, as `script` writes them. What the picture
shows is what the terminal showed, and nothing is added but the prompts. Pauses are shortened. It has ROWS rows at most; what
is longer scrolls.

A picture without animation, for whoever wants no motion, is the last screen.
"""

import itertools
import re
import sys
from html import escape
from pathlib import Path

import pyte

# The columns of the terminal, and how many lines a recording can have.
COLUMNS, LINES = 100, 500
# The size of a character, and of what is around the screen, in pixels.
WIDTH, HEIGHT, SIZE = 8.4, 18, 14
EDGE, HEAD = 14, 38
# How long the picture shows a command before its output, how long the output comes at most, and how long it shows the
# last screen, in seconds.
TYPED, PLAYED, LAST = 1.0, 12.0, 6.0
# How long output stays before the next command: this long, and this much longer for each line, but not longer than that.
READ, LINE, MOST = 1.5, 0.3, 6.0
# What a picture would show for a shorter time is not shown: nobody sees it.
AT_ONCE = 0.15
# No pause is longer, in the time of the recording.
PAUSE = 1.2
# The colours of docs/demo.svg.
COLOURS = {
    "default": "#c5c8c6",
    "black": "#4b4e55",
    "red": "#cc555a",
    "green": "#98a84b",
    "brown": "#d0b344",
    "blue": "#608ab1",
    "magenta": "#98729f",
    "cyan": "#68a0b3",
    "white": "#c5c8c6",
    "brightblack": "#9a9b99",
}


def commands(recording):
    """The commands of a recording, each with its output: pauses in seconds, and bytes."""
    count = len(list(recording.glob("*.command")))
    for number in range(count):
        of = {kind: recording / f"{number}.{kind}" for kind in ("command", "output", "times")}
        # The first line is script's own.
        output = of["output"].read_bytes().split(b"\n", 1)[1]
        at, pieces = 0, []
        for line in of["times"].read_text().splitlines():
            pause, length = line.split()
            pieces.append((float(pause), output[at : at + int(length)]))
            at += int(length)
        yield of["command"].read_text(), pieces


def screens(recording):
    """What the terminal shows, and how long: rows, seconds. The rows above, which scrolled away, are among them."""
    screen = pyte.Screen(COLUMNS, LINES)
    stream = pyte.ByteStream(screen)
    for command, pieces in commands(recording):
        stream.feed(b"\x1b[1;32m# " + command.encode() + b"\x1b[0m\r\n")
        yield rows(screen), TYPED
        pieces = [(min(pause, PAUSE), piece) for pause, piece in pieces]
        faster = max(1.0, sum(pause for pause, _ in pieces) / PLAYED)
        began, passed = screen.cursor.y, 0.0
        for index, (_, piece) in enumerate(pieces):
            stream.feed(piece)
            is_last = index + 1 == len(pieces)
            read = min(READ + LINE * (screen.cursor.y - began), MOST)
            passed += read if is_last else pieces[index + 1][0] / faster
            if passed >= AT_ONCE or is_last:
                yield rows(screen), passed
                passed = 0.0
        if screen.cursor.x:
            stream.feed(b"\r\n")
    assert screen.cursor.y < LINES - 1, "the recording has too many lines"


def rows(screen):
    """The rows of a screen, each as runs of characters that look alike: column, text, colour, whether it is bold."""
    found = []
    for line in range(LINES):
        if line not in screen.buffer:
            found.append(())
            continue
        cells = [screen.buffer[line][column] for column in range(COLUMNS)]
        runs, column = [], 0
        for (colour, bold), group in itertools.groupby(cells, lambda cell: (cell.fg, cell.bold)):
            text = "".join(cell.data for cell in group)
            if text.strip():
                runs.append((column + len(text) - len(text.lstrip()), text.strip(), colour, bold))
            column += len(text)
        found.append(tuple(runs))
    return found


def used(screen):
    """How many rows of a screen are used."""
    return max((line + 1 for line, runs in enumerate(screen) if runs), default=0)


def intervals(shown, most):
    """When each row is there: line, runs, from, to. Also when how many rows have scrolled away, and the time of all."""
    found, there, scrolled, now = [], {}, [(0.0, 0)], 0.0
    for screen, seconds in shown:
        for line, runs in enumerate(screen):
            before = there.get(line, ((), 0.0))
            if before[0] != runs:
                found.append((line, *before, now))
                there[line] = (runs, now)
        above = max(used(screen) - most, scrolled[-1][1])
        if above > scrolled[-1][1]:
            scrolled.append((now, above))
        now += seconds
    now += LAST
    found += [(line, *before, now) for line, before in there.items()]
    # Rows without text, and rows that nobody had time to see.
    found = [one for one in found if one[1] and one[3] - one[2] > 0.01]
    return found, scrolled, now


def drawn(runs, y):
    """The text of a row."""
    parts = []
    for column, text, colour, bold in runs:
        kind = ("b " if bold else "") + (colour if colour in COLOURS else "default")
        x, length = EDGE + column * WIDTH, len(text) * WIDTH
        parts.append(f'<text class="{kind}" x="{x:g}" y="{y:g}" textLength="{length:.5g}">{escape(text, quote=False)}</text>')
    return "".join(parts)


def played(number, begin, end, total):
    """The style of a group of rows that is there for a part of the time."""
    first, last = (f"{100 * time / total:.2f}%" for time in (begin, end))
    steps = f"0%{{visibility:hidden}}{first}{{visibility:visible}}" if begin else "0%{visibility:visible}"
    if end < total:
        steps += f"{last}{{visibility:hidden}}"
    hidden = "visibility:hidden;" if end < total else ""
    return f"@keyframes t{number}{{{steps}}}#t{number}{{{hidden}animation:t{number} {total:.1f}s step-end infinite}}"


def scrolling(scrolled, total):
    """The style of all rows, which scroll."""
    steps = "".join(f"{100 * time / total:.2f}%{{transform:translateY({-above * HEIGHT}px)}}" for time, above in scrolled)
    last = f"transform:translateY({-scrolled[-1][1] * HEIGHT}px)"
    return f"@keyframes all{{{steps}}}#all{{{last};animation:all {total:.1f}s step-end infinite}}"


def picture(title, most, shown):
    """The picture as a text."""
    found, scrolled, total = intervals(shown, most)
    rows_used = min(most, 1 + max(line for line, *_ in found))
    width, height = EDGE * 2 + COLUMNS * WIDTH, HEAD + rows_used * HEIGHT + EDGE
    groups = {}
    for line, runs, begin, end in found:
        groups.setdefault((begin, end), []).append(drawn(runs, (line + 0.75) * HEIGHT))
    style, body = [], []
    for number, ((begin, end), texts) in enumerate(sorted(groups.items())):
        if begin or end < total:
            style.append(played(number, begin, end, total))
        body.append(f'<g id="t{number}">{"".join(texts)}</g>')
    if len(scrolled) > 1:
        style.append(scrolling(scrolled, total))
    colours = "".join(f".{name}{{fill:{colour}}}" for name, colour in COLOURS.items())
    return f"""<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:g} {height:g}" width="{width:g}" height="{height:g}" \
role="img" aria-label="{escape(title)}">
<style>
text{{font:{SIZE}px "DejaVu Sans Mono",Menlo,Consolas,monospace;white-space:pre}}
.b{{font-weight:bold}}.title{{font-family:sans-serif;text-anchor:middle}}{colours}
{chr(10).join(style)}
@media (prefers-reduced-motion:reduce){{g{{animation:none!important}}}}
</style>
<rect x="0.5" y="0.5" width="{width - 1:g}" height="{height - 1:g}" rx="8" fill="#292929" stroke="#777"/>
<circle cx="20" cy="18" r="6" fill="#ff5f57"/><circle cx="40" cy="18" r="6" fill="#febc2e"/>\
<circle cx="60" cy="18" r="6" fill="#28c840"/>
<text class="default title" x="{width / 2:g}" y="23">{escape(title)}</text>
<svg y="{HEAD}" width="{width:g}" height="{rows_used * HEIGHT}"><g id="all">
{chr(10).join(body)}
</g></svg>
</svg>
"""


def main():
    recording, title, most, file = sys.argv[1:]
    svg = picture(title, int(most), screens(Path(recording)))
    assert not re.search(r"url\(|href|@import", svg), "the picture loads something"
    assert len(svg) < 150_000, f"the picture has {len(svg)} bytes"
    Path(file).write_text(svg, encoding="utf-8")


main()
