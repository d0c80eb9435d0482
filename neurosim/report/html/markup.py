"""Small pieces of HTML: escaped text, tables that can be copied and sorted, bars."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape
from typing import Any


class Html(str):
    """Text that is markup already; every other text is escaped where it is put in."""

    __slots__ = ()


def text(value: Any) -> str:
    """``value`` as markup."""
    return value if isinstance(value, Html) else escape(str(value))


def tag(name: str, *inside: Any, **attributes: Any) -> Html:
    """An element; ``class_`` and ``for_`` lose their underscore, other underscores become dashes, None leaves an attribute out."""
    listed = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{escape(str(value))}"'
        for key, value in attributes.items()
        if value is not None and value is not False
    )
    return Html(f"<{name}{listed}>{''.join(text(part) for part in inside)}</{name}>")


def join(parts: Iterable[Any]) -> Html:
    """Parts one after the other."""
    return Html("".join(text(part) for part in parts))


def table(
    head: Sequence[str], rows: Iterable[Sequence[Any]], *, caption: str, numbers: Sequence[int] = (), row_attributes: Sequence[dict[str, Any]] = ()
) -> Html:
    """A table with a button that copies it; ``numbers``: columns set to the right. A cell may be (shown, sorted by)."""
    listed = list(rows)
    cells = []
    for k, row in enumerate(listed):
        made = []
        for column, cell in enumerate(row):
            shown, key = cell if isinstance(cell, tuple) else (cell, None)
            made.append(tag("td", shown, class_="number" if column in numbers else None, data_key=key))
        cells.append(tag("tr", *made, **(row_attributes[k] if row_attributes else {})))
    heads = [
        tag("th", tag("button", h, type="button", class_="sort"), scope="col", class_="number" if k in numbers else None) for k, h in enumerate(head)
    ]
    copy = tag("button", "copy", type="button", class_="copy", aria_label=f"copy the table {caption}")
    body = tag("table", tag("caption", caption, " ", copy), tag("thead", tag("tr", *heads)), tag("tbody", *cells))
    return tag("div", body, class_="scroll")


def bars(rows: Iterable[tuple[str, Sequence[tuple[str, float, str]], str]], *, label: str) -> Html:
    """Stacked horizontal bars on one linear scale: (name, parts (class, value, words), what stands behind the bar)."""
    listed = list(rows)
    most = max((sum(value for _, value, _ in parts) for _, parts, _ in listed), default=0.0) or 1.0
    made = []
    for name, parts, behind in listed:
        segments = [
            tag("span", class_=f"part {kind}", style=f"width:{100 * value / most:.3f}%", title=words, tabindex="0", role="img", aria_label=words)
            for kind, value, words in parts
            if value > 0
        ]
        made.append(
            tag("div", tag("span", name, class_="name"), tag("span", *segments, class_="bar"), tag("span", behind, class_="behind"), class_="row")
        )
    return tag("div", *made, class_="bars", role="group", aria_label=label)


def key(items: Iterable[tuple[str, str]]) -> Html:
    """Legend: (class, words)."""
    return tag("p", *(tag("span", tag("i", class_=f"part {kind}"), f" {words} ") for kind, words in items), class_="key")
