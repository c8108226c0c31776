"""Builds the site of the documentation in both languages: site.py MDBOOK MERMAID OUTPUT.

MDBOOK is the program, MERMAID the script that draws pictures in a browser. OUTPUT gets a directory for each language
and `index.html`. It is replaced as a whole. Everything that a page loads is in OUTPUT, so it works without a network and
without a server.
"""

import html
import json
import os
import posixpath
import re
import shutil
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

HERE = Path(__file__).resolve().parent
PROJECT = HERE.parent.parent

# For each language: its directory, its name, the directory of its pages and its README in the project, and the words of
# the search.
LANGUAGES = {
    "en": {
        "name": "English",
        "pages": "docs",
        "readme": "README.md",
        "search": "Search",
        "nothing": "Nothing found.",
    },
    "zh-CN": {
        "name": "简体中文",
        "pages": "docs/zh-CN",
        "readme": "README.zh-CN.md",
        "search": "搜索",
        "nothing": "没有找到。",
    },
}
# Pages that are in English only, by their names in the site. The Chinese site leads to the English one.
ENGLISH_ONLY = {
    "CONTRIBUTING": "CONTRIBUTING.md",
    "CHANGELOG": "CHANGELOG.md",
    "SECURITY": "SECURITY.md",
    "bench": "bench/README.md",
    "peers": "bench/peers.md",
}
# The README of each language.
START = "index"
LINK = re.compile(r"(\]\()([^)\s]+)(\))")


def main():
    if len(sys.argv) != 4:
        sys.exit("usage: site.py MDBOOK MERMAID OUTPUT")
    mdbook, mermaid, output = sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3])
    made = output.with_name(output.name + ".making")
    shutil.rmtree(made, ignore_errors=True)
    for language in LANGUAGES:
        book(language, made, mdbook, mermaid)
    shutil.copy(HERE / "index.html", made)
    problems = check(made)
    if problems:
        sys.exit("error: the site is not whole:\n" + "\n".join(problems))
    shutil.rmtree(output, ignore_errors=True)
    made.rename(output)


def topics():
    """The names of the pages of docs/, in the order of the table in README.md."""
    text = (PROJECT / "README.md").read_text()
    ordered = list(dict.fromkeys(re.findall(r"^\| \[[^]]+\]\(docs/([a-z0-9-]+)\.md\)", text, re.M)))
    there = {path.stem for path in (PROJECT / "docs").glob("*.md")}
    if there != set(ordered):
        differing = ", ".join(sorted(there ^ set(ordered)))
        sys.exit(f"error: the table of topics in README.md is not what docs/ has: {differing}")
    return ordered


def book(language, made, mdbook, mermaid):
    """Builds the site of one language."""
    sources = made.with_name(made.name + ".sources") / language
    shutil.rmtree(sources, ignore_errors=True)
    sources.mkdir(parents=True)
    summary = []
    pages = {START: LANGUAGES[language]["readme"]}
    pages |= {name: f"{LANGUAGES[language]['pages']}/{name}.md" for name in topics()}
    if language == "en":
        pages |= ENGLISH_ONLY
    for name, path in pages.items():
        text = (PROJECT / path).read_text()
        (sources / f"{name}.md").write_text(moved(text, path, language, sources))
        title = re.search(r"^# (.+)$", text, re.M).group(1)
        summary.append(f"- [{title}]({name}.md)")
    (sources / "SUMMARY.md").write_text("# Summary\n\n" + "\n".join(summary) + "\n")
    (sources / "book.toml").write_text(settings(language))
    for file in ("site.css", "site.js"):
        shutil.copy(HERE / file, sources)
    destination = (made / language).resolve()
    subprocess.run([mdbook, "build", "--dest-dir", str(destination), str(sources)], check=True)
    (destination / "book.toml").unlink(missing_ok=True)
    finish(language, destination, mermaid)
    shutil.rmtree(sources.parent)


def moved(text, path, language, sources):
    """The page with links as they are in the site, where all pages of a language are in one directory."""

    def link(match):
        target, _, anchor = match.group(2).partition("#")
        if "://" in target or target.startswith("mailto:") or not target:
            return match.group(0)
        file = posixpath.normpath(posixpath.join(posixpath.dirname(path), target))
        anchor = f"#{anchor}" if anchor else ""
        return match.group(1) + there(file, language, sources) + anchor + match.group(3)

    # Not in blocks of code and not in code in lines.
    parts = re.split(r"(^```.*?^```|^    .*?$|`[^`\n]+`)", text, flags=re.M | re.S)
    parts[::2] = [LINK.sub(link, part) for part in parts[::2]]
    return "".join(parts)


def there(file, language, sources):
    """Where a file of the project is in the site, seen from the pages of a language."""
    for other, about in LANGUAGES.items():
        if file == about["readme"]:
            name = START
        elif posixpath.dirname(file) == about["pages"] and file.endswith(".md"):
            name = posixpath.basename(file).removesuffix(".md")
        else:
            continue
        return f"{name}.md" if other == language else f"../{other}/{name}.html"
    for name, page in ENGLISH_ONLY.items():
        if file == page:
            return f"{name}.md" if language == "en" else f"../en/{name}.html"
    source = PROJECT / file
    if not source.is_file():
        sys.exit(f"error: a link leads to {file}, which is no file")
    copy = sources / posixpath.relpath(file, "docs") if file.startswith("docs/") else sources / "files" / file
    copy.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(source, copy)
    return copy.relative_to(sources).as_posix()


def settings(language):
    """The settings of mdBook."""
    return f"""
[book]
title = "appliance"
language = "{language}"
src = "."

[output.html]
additional-css = ["site.css"]
additional-js = ["site.js"]
no-section-label = true
input-404 = ""
hash-files = false

[output.html.print]
enable = false

[output.html.playground]
copyable = true
runnable = false
"""


def finish(language, destination, mermaid):
    """Adds the link to the other language, the search and the pictures to each page."""
    other = next(name for name in LANGUAGES if name != language)
    about = LANGUAGES[language]
    sections, has_pictures = [], False
    for page in sorted(destination.glob("*.html")):
        # The list of pages, for browsers without scripts.
        if page.name == "toc.html":
            continue
        text = page.read_text()
        # Chapters without a translation lead to the start.
        is_english_only = page.stem in ENGLISH_ONLY
        counterpart = f"{START}.html" if is_english_only else page.name
        added = (
            f'<form id="search" role="search" data-nothing="{about["nothing"]}">'
            f'<input type="search" name="q" autocomplete="off" placeholder="{about["search"]}"'
            f' aria-label="{about["search"]}"></form>'
            f'<a id="language" href="../{other}/{counterpart}" hreflang="{other}" lang="{other}">'
            f'{LANGUAGES[other]["name"]}</a>'
        )
        text = once(text, '<div class="right-buttons">', '<div class="right-buttons">' + added, page)
        scripts = '<script src="search-index.js"></script>'
        if 'class="language-mermaid"' in text:
            has_pictures = True
            scripts += '<script src="mermaid.min.js"></script>'
        first = re.search(r'<script src="site[^"]*\.js"></script>', text).group(0)
        text = once(text, first, scripts + first, page)
        page.write_text(text)
        sections += Sections.of(page.name, text)
    index = json.dumps(sections, ensure_ascii=False, separators=(",", ":"))
    # A page that is opened from a disk may load a script, but no data.
    (destination / "search-index.js").write_text(f"window.searchIndex={index};\n")
    if has_pictures:
        shutil.copy(mermaid, destination / "mermaid.min.js")


def once(text, old, new, page):
    """Replaces text that must be in the page once: another mdBook may write something else."""
    if text.count(old) != 1:
        sys.exit(f"error: {page.name} has {text.count(old)} times {old}")
    return text.replace(old, new)


class Sections(HTMLParser):
    """The sections of a page, each with its heading and its text, for the search."""

    HEADINGS = ("h1", "h2", "h3", "h4")

    def __init__(self):
        super().__init__()
        self.found, self.depth, self.in_heading = [], 0, False

    @staticmethod
    def of(page, text):
        parser = Sections()
        parser.feed(text)
        title = parser.found[0]["heading"] if parser.found else page
        sections = []
        for one in parser.found:
            words = " ".join(one["text"].split())
            sections.append([f"{page}#{one['id']}", " ".join(title.split()), " ".join(one["heading"].split()), words])
        return sections

    def handle_starttag(self, tag, attributes):
        attributes = dict(attributes)
        if tag == "main":
            self.depth = 1
        if not self.depth:
            return
        if tag in self.HEADINGS:
            self.in_heading = True
            self.found.append({"id": attributes.get("id", ""), "heading": "", "text": ""})
        elif tag in ("p", "li", "td", "th", "pre", "br", "tr") and self.found:
            self.found[-1]["text"] += " "

    def handle_endtag(self, tag):
        if tag == "main":
            self.depth = 0
        if tag in self.HEADINGS:
            self.in_heading = False

    def handle_data(self, data):
        if self.depth and self.found:
            self.found[-1]["heading" if self.in_heading else "text"] += data


class Links(HTMLParser):
    """What a page loads and leads to, and the places that others can lead to."""

    def __init__(self):
        super().__init__()
        self.loads, self.leads, self.ids = [], [], set()

    def handle_starttag(self, tag, attributes):
        for name, value in attributes:
            if name == "id":
                self.ids.add(value)
            elif tag == "a" and name == "href":
                self.leads.append(value)
            elif name in ("src", "srcset", "data", "poster") or (tag in ("link", "use", "image") and name.endswith("href")):
                self.loads.append(value)
            elif name == "style":
                self.loads += addresses(value)


def addresses(css):
    """What a style sheet loads."""
    found = re.findall(r"url\(\s*['\"]?([^'\")]+)|@import\s+['\"]([^'\"]+)", css)
    return [one or other for one, other in found]


def check(made):
    """What is not in the site, or is loaded from outside: a line for each."""
    problems, pages = [], {}
    for page in sorted(made.rglob("*.html")):
        pages[page] = Links()
        pages[page].feed(page.read_text())
        styles = re.findall(r"<style[^>]*>(.*?)</style>", page.read_text(), re.S)
        pages[page].loads += [one for style in styles for one in addresses(style)]
    for page, links in pages.items():
        problems += [f"{page}: {problem}" for problem in problems_of(page, links, pages)]
    for style in [*made.rglob("*.css"), *made.rglob("*.svg")]:
        for address in addresses(style.read_text()):
            if not is_within(style, address):
                problems.append(f"{style} loads {address}")
    for language in LANGUAGES:
        for other in LANGUAGES:
            names = {page.name for page in (made / language).glob("*.html")}
            others = {page.name for page in (made / other).glob("*.html")}
            only = {f"{name}.html" for name in ENGLISH_ONLY}
            problems += [f"{made / other} lacks {name}" for name in names - others - only]
    return problems


def problems_of(page, links, pages):
    """What is wrong with the links of a page."""
    for address in links.loads:
        if not is_within(page, address):
            yield f"loads {address}"
    for address in links.leads:
        path, _, anchor = address.partition("#")
        if re.match(r"[a-z]+:", path):
            continue
        target = (page.parent / path).resolve() if path else page.resolve()
        if not target.is_file():
            yield f"leads to {address}, which is not there"
        elif anchor and target.suffix == ".html":
            known = next(links for other, links in pages.items() if other.resolve() == target)
            if html.unescape(anchor) not in known.ids:
                yield f"leads to {address}: there is no such section"


def is_within(file, address):
    """Whether an address is a file beside this one, or data within it."""
    if address.startswith(("data:", "#")):
        return True
    path = re.split(r"[?#]", address)[0]
    return not re.match(r"([a-z]+:|//)", address) and os.path.isfile(file.parent / path)


if __name__ == "__main__":
    main()
