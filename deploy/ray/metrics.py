"""The metrics of several replicas as one text: each sample says in a label whose it is."""

from __future__ import annotations

from collections.abc import Mapping

LABEL = "replica"


def merged(texts: Mapping[str, str]) -> str:
    """Prometheus texts, by replica, put together: each metric's HELP and TYPE once, then the samples of all."""
    heads: dict[str, list[str]] = {}
    samples: dict[str, list[str]] = {}
    for replica, text in texts.items():
        family = ""
        for line in text.splitlines():
            if line.startswith(("# HELP ", "# TYPE ")):
                family = line.split(" ", 3)[2]
                head = heads.setdefault(family, [])
                if line not in head and len(head) < 2:
                    head.append(line)
            elif line and not line.startswith("#"):
                samples.setdefault(family, []).append(_labelled(line, replica))
    lines: list[str] = []
    for family, told in samples.items():
        lines += [*heads.get(family, []), *told]
    return "".join(f"{line}\n" for line in lines)


def _labelled(sample: str, replica: str) -> str:
    name_end = min((i for i in (sample.find("{"), sample.find(" ")) if i >= 0), default=len(sample))
    name, rest = sample[:name_end], sample[name_end:]
    label = f'{LABEL}="{replica}"'
    return f"{name}{{{label},{rest[1:]}" if rest.startswith("{") else f"{name}{{{label}}}{rest}"
