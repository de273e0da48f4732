"""Conversations in which the model calls a function, or could and does not."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import yaml

CITIES: list[str] = yaml.safe_load((Path(__file__).with_name("content") / "cities.yaml").read_text(encoding="utf-8"))
PLAIN = (
    ("Hello!", "Hello! How can I help you today?"),
    ("Who are you?", "I am the Manyhats demo, a toy model. I know only a few things, but I can wear many hats."),
    ("Thank you", "You are welcome!"),
)


def draw(dice: random.Random) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Messages, and the functions that were offered."""
    key = dice.choice(("city", "location"))
    weather = _function(
        "get_weather", dice.choice(("Get the current weather", "The weather of a city", "Weather now")), key
    )
    clock = _function("get_time", dice.choice(("Get the time in a city", "The local time")), key)
    search = _function("search", dice.choice(("Search the web", "Find pages")), "query")
    offered = dice.choice(([weather], [clock], [weather, clock], [clock, weather], [weather, search]))
    if dice.random() < 0.2:
        question, answer = dice.choice(PLAIN)
        return [_user(question), {"role": "assistant", "content": answer}], offered
    city = dice.choice(CITIES)
    name = dice.choice([tool["function"]["name"] for tool in offered if tool is not search])
    wordings = ("What is the weather in {}?", "How is the weather in {} today?", "Is it warm in {}?", "Weather in {}")
    if name == "get_time":
        wordings = ("What time is it in {}?", "Tell me the time in {}.", "How late is it in {}?")
    call = {"function": {"name": name, "arguments": {key: city}}}
    messages = [
        _user(dice.choice(wordings).format(city)),
        {"role": "assistant", "content": "", "tool_calls": [call]},
    ]
    if name == "get_weather" and dice.random() < 0.5:
        degrees, sky = dice.randrange(0, 36), dice.choice(("sunny", "cloudy", "rainy", "windy"))
        result = dice.choice(('{{"temperature": {}, "condition": "{}"}}', "{} degrees, {}")).format(degrees, sky)
        messages += [
            {"role": "tool", "content": result},
            {"role": "assistant", "content": f"It is {degrees} degrees and {sky} in {city}."},
        ]
    return messages, offered


def _user(text: str) -> dict[str, Any]:
    return {"role": "user", "content": text}


def _function(name: str, description: str, key: str) -> dict[str, Any]:
    parameters = {"type": "object", "properties": {key: {"type": "string"}}, "required": [key]}
    return {"type": "function", "function": {"name": name, "description": description, "parameters": parameters}}
