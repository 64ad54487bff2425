"""Text that outsiders wrote, cleaned for terminals, pages and alerts.

A client's `site`, a class name, another server's error text may hold line breaks that forge a line of a log, escape sequences
that a terminal obeys, marks that turn the direction of writing, or Markdown and HTML that a page or a chat program follows.
"""

import re
import unicodedata

_ESCAPES = re.compile(
    r"(?:\x1b\[|\x9b)[0-?]*[ -/]*[@-~]"  # CSI: colours, cursor
    r"|(?:\x1b[\]PX^_]|[\x90\x98\x9d-\x9f])[^\x07\x1b\x9c]*(?:\x07|\x1b\\|\x9c)?"  # OSC and the like: title, links, clipboard
    r"|\x1b[ -/]*[0-~]?"
)
"""ECMA-48, as terminals read it."""
_UNSEEN = ("Cc", "Cf", "Cs", "Co", "Cn")
"""Unicode categories of what nobody reads: controls, marks of direction and width, halves, private use, unassigned."""
_MARKUP = "<>[]{}`*|\\#@&$~^"
"""What Markdown, HTML, chat programs and formulas make links, pictures, mentions and code of."""
_LOOK_ALIKE = str.maketrans({char: chr(ord(char) + 0xFEE0) for char in _MARKUP})
"""ASCII -> its fullwidth form, which means nothing to any program."""
_ADDRESS = re.compile(r"(?P<scheme>:)(?=//)|(?<=\bwww)(?P<dot>\.)", re.IGNORECASE)
"""Where a bare address begins, of which many programs make a link."""


def one_line(text: object, longest: int | None = None) -> str:
    """`text` as one line of readable characters, at most `longest` of them; what is left out at the end becomes `...`."""
    plain = _ESCAPES.sub("", str(text))
    spaced = "".join(" " if char.isspace() else char for char in plain)
    visible = "".join(char for char in spaced if char == " " or unicodedata.category(char) not in _UNSEEN)
    line = re.sub(r" {2,}", " ", visible).strip()
    return line if longest is None or len(line) <= longest else f"{line[: longest - 3].rstrip()}..."


def clean(text: object, longest: int = 120) -> str:
    """As `one_line`, and without markup: fit for a terminal, a log, an alert, Markdown, HTML and a label.

    Markup becomes its fullwidth look-alikes, so that a reader still sees what was written. Two texts may become the same one:
    for showing, never for telling apart.
    """
    shown = one_line(text, longest).translate(_LOOK_ALIKE)
    shown = _ADDRESS.sub(lambda match: chr(ord(match[0]) + 0xFEE0), shown)
    return shown or ("(unreadable)" if str(text) else "")
