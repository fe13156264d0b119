"""Reads the parts of Markdown that the documentation tests need: headings, links, inline code and fenced blocks."""

import dataclasses
import re

FENCE = re.compile(r"^( *)```(\w*)\s*$")
COMMENT = re.compile(r"^ *<!-- ([a-z ]+): (.+) -->$")
HEADING = re.compile(r"^#{1,6} +(.+?) *#*$")
LINK = re.compile(r"!?\[[^\[\]]*\]\(([^()\s]+)\)")
CODE = re.compile(r"`([^`]+)`")


@dataclasses.dataclass
class Block:
    """A fenced block, and the comment `<!-- key: value -->` on the line above it."""

    line: int
    language: str
    text: str
    key: str = ""
    value: str = ""


class Document:
    def __init__(self, path, name, text=None):
        self.path, self.name = path, name
        self.blocks, self.prose = [], []
        fence, above, indent = None, None, ""
        for number, line in enumerate((path.read_text() if text is None else text).splitlines(), 1):
            if fence:
                if line == indent + "```":
                    self.blocks.append(fence)
                    fence = None
                else:
                    fence.text += line.removeprefix(indent) + "\n"
            elif opening := FENCE.match(line):
                key, value = above.groups() if above else ("", "")
                indent = opening[1]
                fence = Block(number, opening[2], "", key, value)
            else:
                self.prose.append((number, line))
            above = COMMENT.match(line)
        if fence:
            raise ValueError(f"{name}:{fence.line}: the block has no end")

    def anchors(self):
        """The anchors that GitHub gives to the headings."""
        found = set()
        for _, line in self.prose:
            if heading := HEADING.match(line):
                text = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading[1]).lower()
                slug = re.sub(r"[^\w\- ]", "", text).replace(" ", "-")
                name, count = slug, 0
                while name in found:
                    count += 1
                    name = f"{slug}-{count}"
                found.add(name)
        return found

    def links(self):
        """Each target of a link, with its line. A link may continue on the next line."""
        lines = [""] * (self.prose[-1][0] if self.prose else 0)
        for number, line in self.prose:
            # Inline code may look like a link; within the text of a link it is only a word.
            lines[number - 1] = CODE.sub("code", line)
        text = "\n".join(lines)
        for link in LINK.finditer(text):
            yield text.count("\n", 0, link.start()) + 1, link[1]

    def paths(self):
        """Each path of the repository in inline code, with its line."""
        for number, line in self.prose:
            for code in CODE.findall(line):
                if re.fullmatch(r"(src|tests|helm|proto|docs|\.ci)/[\w./-]*", code):
                    yield number, code
