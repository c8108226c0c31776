// The search, and pictures. Everything is here: no server, no network.
"use strict";

(() => {
    // A run of Chinese has no blanks between its words.
    const HAN = /[\u2e80-\u9fff\uf900-\ufaff]+/g;
    const MOST = 40;
    const AROUND = 60;

    // Letters of any width and case are the same. The text keeps its length, so that places in it can be marked.
    function plain(text) {
        const alike = (letter) => letter.normalize("NFKC").toLowerCase();
        return Array.from(text, (letter) => (alike(letter).length === letter.length ? alike(letter) : letter)).join("");
    }

    // What a query asks for. Text in Chinese is also searched by its pairs of characters, so that what lies apart on a
    // page is found, too.
    function terms(query) {
        const text = plain(query);
        const words = text.replace(HAN, " ").split(/\s+/).filter(Boolean).map((word) => ({ whole: word, pairs: [] }));
        const runs = (text.match(HAN) || []).map((run) => ({
            whole: run,
            pairs: Array.from({ length: Math.max(run.length - 1, 0) }, (_, at) => run.slice(at, at + 2)),
        }));
        return words.concat(runs);
    }

    function count(text, part) {
        let found = 0;
        for (let at = text.indexOf(part); at >= 0 && found < 5; at = text.indexOf(part, at + part.length)) {
            found += 1;
        }
        return found;
    }

    // How well a section answers a term; 0 if it does not.
    function weight(section, term) {
        const of = (part) => 10 * count(section.title, part) + 6 * count(section.heading, part) + count(section.text, part);
        const whole = of(term.whole);
        if (whole > 0 || term.pairs.length < 2) {
            return 4 * whole;
        }
        const weights = term.pairs.map(of);
        const there = weights.filter((one) => one > 0).length;
        return there * 3 < term.pairs.length * 2 ? 0 : weights.reduce((sum, one) => sum + Math.min(one, 6), 0) / term.pairs.length;
    }

    const sections = (window.searchIndex || []).map(([address, title, heading, text]) => ({
        address,
        shown: { title, heading, text },
        title: plain(title),
        heading: plain(heading),
        text: plain(text),
    }));

    function search(asked) {
        const found = [];
        for (const section of sections) {
            const weights = asked.map((term) => weight(section, term));
            if (weights.every((one) => one > 0)) {
                found.push({ section, weight: weights.reduce((sum, one) => sum + one, 0) });
            }
        }
        return found.sort((a, b) => b.weight - a.weight).slice(0, MOST).map((one) => one.section);
    }

    // Text with the parts marked that were searched.
    function marked(text, parts) {
        const lower = plain(text);
        const first = parts.map((part) => lower.indexOf(part)).filter((at) => at >= 0);
        const start = Math.max(0, Math.min(...(first.length ? first : [0])) - AROUND);
        const end = Math.min(text.length, start + 4 * AROUND);
        const isMarked = new Array(end - start).fill(false);
        for (const part of parts) {
            for (let at = lower.indexOf(part, start); at >= 0 && at < end; at = lower.indexOf(part, at + 1)) {
                isMarked.fill(true, at - start, at - start + part.length);
            }
        }
        const line = document.createElement("p");
        if (start > 0) line.append("…");
        for (let at = start, to; at < end; at = to) {
            for (to = at + 1; to < end && isMarked[to - start] === isMarked[at - start]; to += 1);
            const mark = document.createElement("mark");
            mark.textContent = text.slice(at, to);
            line.append(isMarked[at - start] ? mark : mark.textContent);
        }
        if (end < text.length) line.append("…");
        return line;
    }

    const form = document.getElementById("search");
    const input = form.querySelector("input");
    const panel = document.createElement("div");
    panel.id = "found";
    panel.hidden = true;
    panel.setAttribute("aria-live", "polite");
    document.body.append(panel);

    function show() {
        const asked = terms(input.value);
        panel.hidden = asked.length === 0;
        if (panel.hidden) return;
        const found = search(asked);
        const parts = asked.flatMap((term) => [term.whole, ...term.pairs]).filter((part) => part.length > 0);
        const list = document.createElement("ol");
        for (const section of found) {
            const link = document.createElement("a");
            link.href = section.address;
            const { title, heading, text } = section.shown;
            link.textContent = title === heading ? title : `${title} › ${heading}`;
            const item = document.createElement("li");
            item.append(link, marked(text, parts));
            list.append(item);
        }
        panel.replaceChildren(found.length ? list : form.dataset.nothing);
        panel.scrollTop = 0;
    }

    input.addEventListener("input", (event) => {
        // Not while a Chinese word is composed.
        if (!event.isComposing) show();
    });
    input.addEventListener("compositionend", show);
    form.addEventListener("submit", (event) => {
        event.preventDefault();
        const first = panel.querySelector("a");
        if (first) first.click();
    });
    panel.addEventListener("click", (event) => {
        if (event.target.closest("a")) panel.hidden = true;
    });
    document.addEventListener("keydown", (event) => {
        const isText = event.target.closest && event.target.closest("input, textarea");
        if (event.key === "Escape") {
            panel.hidden = true;
            input.blur();
        } else if (event.key === "/" && !isText) {
            event.preventDefault();
            input.focus();
        }
        // mdBook turns pages with the arrows.
        if (isText) event.stopImmediatePropagation();
    }, true);

    // A link can carry what is searched: join.html?q=token
    const asked = new URLSearchParams(location.search).get("q");
    if (asked) {
        input.value = asked;
        show();
    }

    if (window.mermaid) {
        for (const code of document.querySelectorAll("code.language-mermaid")) {
            const picture = document.createElement("pre");
            picture.className = "mermaid";
            picture.textContent = code.textContent;
            code.parentElement.replaceWith(picture);
        }
        const isDark = ["coal", "navy", "ayu"].some((theme) => document.documentElement.classList.contains(theme));
        window.mermaid.initialize({ startOnLoad: false, securityLevel: "strict", theme: isDark ? "dark" : "default" });
        window.mermaid.run();
    }
})();
