"""Invented names, numbers and other values that facts are made of, in both languages."""

from __future__ import annotations

import random
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from .styles import Language

HELD_OUT = 12  # one stem in so many is kept from training


@dataclass(frozen=True, kw_only=True)
class Name:
    """One value, said in both languages."""

    en: str
    pt: str

    def said(self, language: Language) -> str:
        return self.en if language == "en" else self.pt


class Names:
    """Draws values by kind. Those for measuring have stems that no training row has.

    names = Names(held_out=False)
    names.draw("person", dice)  # Name(en="Marta Olskin", pt="Marta Olskin")
    """

    def __init__(self, *, held_out: bool) -> None:
        self._held_out = held_out
        raw: dict[str, Any] = yaml.safe_load(Path(__file__).with_name("content").joinpath("words.yaml").read_text())
        self._starts, self._middles, self._ends = (raw.pop(part).split() for part in ("starts", "middles", "ends"))
        self._first = raw.pop("first").split(", ")
        self._lists = {kind: [_pair(entry) for entry in entries] for kind, entries in raw.items()}
        self._made: dict[str, Callable[[random.Random], Name]] = {
            "person": self._person, "place": self._place, "company": self._company, "product": self._place,
            "event": self._place, "setting": self._setting, "term": self._term, "time": self._time,
            "price": self._price, "count": _count, "year": _year, "phone": _phone, "email": self._email,
            "room": _room, "date": self._date, "duration": self._duration, "weight": _weight, "rule": self._rule,
            "action": self._action, "command": self._command, "path": self._path, "goal": self._goal,
            "meaning": self._meaning, "title": self._title,
        }  # fmt: skip

    def draw(self, kind: str, dice: random.Random) -> Name:
        """A value of a kind of `facts.yaml`: a made one, or a word of `words.yaml`."""
        if kind in self._made:
            return self._made[kind](dice)
        return self._word(kind, dice)

    def stem(self, dice: random.Random) -> str:
        """An invented word with a capital: held out or trained on by its checksum."""
        while True:
            length = dice.choice((1, 2, 2, 2, 3))
            parts = [dice.choice(self._starts) + dice.choice(self._middles) for _ in range(length)]
            ending = dice.choice(self._ends) if length == 1 or dice.random() < 0.6 else ""
            word = ("".join(parts) + ending).capitalize()
            if (zlib.crc32(word.encode()) % HELD_OUT == 0) == self._held_out:
                return word

    def _word(self, kind: str, dice: random.Random) -> Name:
        return dice.choice(self._lists[kind])

    def _person(self, dice: random.Random) -> Name:
        kind = dice.random()
        if kind < 0.1:
            return _same(f"{dice.choice(('Dr.', 'Ms', 'Mr'))} {self.stem(dice)}")
        if kind < 0.35:
            return _same(f"{self.stem(dice)} {self.stem(dice)}")
        return _same(f"{dice.choice(self._first)} {self.stem(dice)}")

    def _place(self, dice: random.Random) -> Name:
        return _same(self.stem(dice))

    def _company(self, dice: random.Random) -> Name:
        kind = dice.random()
        if kind < 0.4:
            return _same(self.stem(dice))
        if kind < 0.6:
            return _same(f"{self.stem(dice)} {self.stem(dice)}")
        return _same(f"{self.stem(dice)} {dice.choice(('Foods', 'Works', 'Sons', 'Lab', 'Group', 'House', 'Air'))}")

    def _setting(self, dice: random.Random) -> Name:
        words = [self.stem(dice) for _ in range(dice.choice((1, 2)))]
        words += [dice.choice(self._lists["thing"]).en] if dice.random() < 0.5 else []
        return _same("_".join(words).upper())

    def _term(self, dice: random.Random) -> Name:
        return _same(self.stem(dice).lower())

    def _time(self, dice: random.Random) -> Name:
        if dice.random() < 0.5:
            hour = self._word("hour", dice)
            return Name(en=f"{hour.en} o'clock", pt=f"{hour.pt} horas")
        hours, minutes = dice.randrange(6, 24), dice.choice(("00", "15", "30", "45"))
        return Name(en=f"{hours}:{minutes}", pt=f"{hours}h{minutes}")

    def _price(self, dice: random.Random) -> Name:
        amount = dice.choice((str(dice.randrange(2, 100)), str(dice.randrange(100, 2000))))
        name, nome = dice.choice((("euros", "euros"), ("dollars", "dólares"), ("reais", "reais"), ("pounds", "libras")))
        return Name(en=f"{amount} {name}", pt=f"{amount} {nome}")

    def _date(self, dice: random.Random) -> Name:
        day, month = dice.randrange(1, 29), self._word("month", dice)
        return Name(en=dice.choice((f"{day} {month.en}", f"{month.en} {day}")), pt=f"{day} de {month.pt}")

    def _duration(self, dice: random.Random) -> Name:
        unit = self._word("unit", dice)
        if dice.random() < 0.5:
            amount = str(dice.randrange(2, 90))
            return Name(en=f"{amount} {unit.en}", pt=f"{amount} {unit.pt}")
        number = self._word("number", dice)
        return Name(en=f"{number.en} {unit.en}", pt=f"{number.pt} {unit.pt}")

    def _email(self, dice: random.Random) -> Name:
        return _same(f"{self.stem(dice).lower()}@{self.stem(dice).lower()}.example")

    def _rule(self, dice: random.Random) -> Name:
        return _joined(self._word("deed", dice), self._word("deed_object", dice))

    def _action(self, dice: random.Random) -> Name:
        return _joined(self._word("verb", dice), self._word("object", dice))

    def _command(self, dice: random.Random) -> Name:
        words = [self.stem(dice).lower(), self._word("thing", dice).en, self._word("verb", dice).en]
        return _same(" ".join(words[dice.randrange(2) :]) + dice.choice(("", "", f" --{self.stem(dice).lower()}")))

    def _path(self, dice: random.Random) -> Name:
        return _same(f"/v{dice.randrange(1, 4)}/{self._word('thing', dice).en}/{self.stem(dice).lower()}")

    def _goal(self, dice: random.Random) -> Name:
        return _joined(self._word("goal", dice), self._word("thing", dice))

    def _meaning(self, dice: random.Random) -> Name:
        return _joined(
            self._word("object", dice),
            dice.choice((Name(en="for", pt="para"), Name(en="with", pt="com"), Name(en="full of", pt="cheia de"))),
            self._word(dice.choice(("thing", "goods")), dice),
        )

    def _title(self, dice: random.Random) -> Name:
        word = self._word("title", dice)
        stem = f"{self.stem(dice).lower()}-" if dice.random() < 0.4 else ""
        ending = dice.choice((".md", ".md", ".md", ".pdf", ".txt", ".docx"))
        return Name(en=f"{stem}{word.en}{ending}", pt=f"{stem}{word.pt}{ending}")


def _pair(entry: str) -> Name:
    en, _, pt = entry.partition(":")
    return Name(en=en, pt=pt)


def _same(text: str) -> Name:
    return Name(en=text, pt=text)


def _joined(*parts: Name) -> Name:
    return Name(en=" ".join(part.en for part in parts), pt=" ".join(part.pt for part in parts))


def _count(dice: random.Random) -> Name:
    return _same(str(dice.choice((dice.randrange(2, 30), dice.randrange(30, 500), dice.randrange(500, 9000)))))


def _year(dice: random.Random) -> Name:
    return _same(str(dice.randrange(1800, 2026)))


def _phone(dice: random.Random) -> Name:
    digits = "".join(dice.choice("0123456789") for _ in range(8))
    return _same(dice.choice((digits[:4], digits[:3], f"{digits[:4]}-{digits[4:]}", f"{digits[:3]} {digits[3:6]}")))


def _room(dice: random.Random) -> Name:
    number = dice.choice((str(dice.randrange(1, 900)), f"{dice.choice('ABCDEFGH')}{dice.randrange(1, 60)}"))
    return Name(en=f"room {number}", pt=f"sala {number}")


def _weight(dice: random.Random) -> Name:
    unit, unidade = dice.choice((("kilos", "quilos"), ("grams", "gramas"), ("tons", "toneladas")))
    amount = dice.randrange(2, 400)
    return Name(en=f"{amount} {unit}", pt=f"{amount} {unidade}")
