"""Checks Mermaid for common mistakes: the kind of diagram, arrows, brackets and quotes, and names without a declaration."""

import re

NODE = r'[A-Za-z]\w*(?:\[\("[^"]*"\)\]|\["[^"]*"\]|\("[^"]*"\)|\{"[^"]*"\}|\[[^\[\]"]*\])?'
ARROW = r'(?:-->|---|-\.->|==>)(?:\|"?[^|"]*"?\|)?'
FLOW = [
    r"(?:subgraph [\w]+(?:\[\"?[^\"\]]*\"?\])?|end|direction (?:LR|TB|RL|BT))",
    rf"{NODE}(?: & {NODE})*(?: {ARROW} {NODE}(?: & {NODE})*)*",
]
SEQUENCE = [
    r"(?:participant|actor) \w+(?: as .+)?",
    r"\w+(?:->>|-->>|-x|--x|-\)|--\))[+-]?\w+: .+",
    r"Note (?:over|left of|right of) \w+(?:,\w+)?: .+",
    r"(?:alt|opt|loop|else|par|and|critical|break) ?.*",
    r"(?:end|autonumber)",
]
STATE = [
    r'(?:\[\*\]|\w+) --> (?:\[\*\]|\w+)(?: ?: .+)?',
    r'state "[^"]+" as \w+',
    r"direction (?:LR|TB)",
]
KINDS = {"flowchart": FLOW, "sequenceDiagram": SEQUENCE, "stateDiagram-v2": STATE}


def problem_of(text):
    """What is wrong with a diagram; empty when nothing is found."""
    lines = [line.strip() for line in text.splitlines() if line.strip() and not line.strip().startswith("%%")]
    kind = lines[0].split()[0] if lines else ""
    if kind not in KINDS:
        return f"{kind!r} is not a kind of diagram; known are {', '.join(KINDS)}"
    if kind == "flowchart" and not re.fullmatch(r"flowchart (?:LR|TB|TD|RL|BT)", lines[0]):
        return f"{lines[0]!r} has no direction"
    opened = 0
    for line in lines[1:]:
        if not any(re.fullmatch(pattern, line) for pattern in KINDS[kind]):
            return f"cannot be read: {line!r}"
        opened += bool(re.match(r"(?:subgraph|alt|opt|loop|par|critical|break)\b", line)) - (line == "end")
        if opened < 0:
            return "an `end` too many"
    if opened:
        return "an `end` is missing"
    if kind == "sequenceDiagram":
        if semicolon := next((line for line in lines if ";" in line), None):
            return f"a semicolon ends a line of a sequence diagram: {semicolon!r}"
        declared = set(re.findall(r"^(?:participant|actor) (\w+)", "\n".join(lines), re.MULTILINE))
        named = set()
        for line in lines[1:]:
            if message := re.match(r"(\w+)(?:->>|-->>|-x|--x|-\)|--\))[+-]?(\w+):", line):
                named |= set(message.groups())
        if named - declared:
            return f"no participant {', '.join(sorted(named - declared))}"
    return ""
