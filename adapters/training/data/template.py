"""The base's chat template and tokenizer, used the way that serving uses them (vLLM's `renderers/hf.py`)."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from adapters.training.data.messages import Message
from adapters.training.data.tools import Tool
from adapters.training.errors import DataInvalid, JobInvalid

# the token between texts, by the names that the common families give it; else the token that ends a turn is taken
_ENDS_OF_TEXT = ("<|endoftext|>", "<|end_of_text|>", "<｜end▁of▁sentence｜>", "</s>", "<eos>")


class Template:
    """Conversations to strings, strings to tokens."""

    def __init__(self, base: Path) -> None:
        from transformers import AutoTokenizer

        self._tokenizer: Any = AutoTokenizer.from_pretrained(base, local_files_only=True)
        added = self._tokenizer.get_added_vocab()
        decoder = getattr(self._tokenizer, "added_tokens_decoder", {})
        special = {number for number, token in decoder.items() if token.special}
        eos = self._tokenizer.eos_token_id
        ends = _ends_of_generation(base) or ([] if eos is None else [eos])
        if not ends:
            raise JobInvalid(f"the base in {base.name!r} names no token that ends an answer (eos_token)", param="model")
        self.stop: int = eos if eos in ends else ends[0]
        self.end_of_text: int = next((added[name] for name in _ENDS_OF_TEXT if name in added), self.stop)
        self._controls = {*special, *ends, self.stop}
        self._knows_developer = False
        self._takes_parts: bool | None = None

    def render(self, messages: Sequence[Message], tools: Sequence[Tool], *, line: int, asks: bool = False) -> str:
        """The string that serving would make. asks: with the generation prompt. Raises DataInvalid: not_rendered."""
        source = self._source(tools)
        served = [_served(message, self._are_parts_taken(source)) for message in messages]
        if not ('"developer"' in source or "'developer'" in source):
            served = _one_system(served)
        try:
            return str(
                self._tokenizer.apply_chat_template(
                    served,
                    tools=[_served_tool(tool) for tool in tools] or None,
                    tokenize=False,
                    add_generation_prompt=asks,
                )
            )
        except Exception as error:  # noqa: BLE001  # templates raise whatever they like to say what they do not take
            raise DataInvalid(
                "not_rendered", line, f"the base's chat template refuses the conversation: {str(error)[:200]}"
            ) from None

    def split(self, text: str) -> list[int]:
        """A rendered string in tokens: the template has written every special token itself."""
        return list(self._tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"])

    def document(self, text: str) -> list[int]:
        """A plain text in tokens, as serving reads a prompt without a template; without a token at its end."""
        tokens = list(self._tokenizer(text, verbose=False)["input_ids"])
        return tokens[:-1] if tokens and tokens[-1] in self._controls else tokens

    def ended(self, answer: list[int]) -> list[int]:
        """A turn up to the token that ends it, without the white space that the template writes behind it."""
        for i in range(len(answer) - 1, -1, -1):
            if answer[i] in self._controls:
                return answer[: i + 1]
            if self._tokenizer.decode(answer[i : i + 1]).strip():
                return answer
        return answer

    def length(self, text: str, *, n_tokens: int) -> int:
        """About how many characters the first tokens of a text are; all, where there are no more tokens."""
        tokens = self.split(text)
        return len(text) if len(tokens) <= n_tokens else len(self._tokenizer.decode(tokens[:n_tokens]))

    def is_ended(self, answer: Sequence[int]) -> bool:
        """Whether a turn's last token ends it."""
        return bool(answer) and answer[-1] in self._controls

    def _source(self, tools: Sequence[Tool]) -> str:
        try:
            return str(self._tokenizer.get_chat_template(tools=list(tools) or None))
        except ValueError:
            raise JobInvalid(
                "the base has no chat template; conversations cannot be trained on it, only continued_pretraining",
                param="method",
            ) from None

    def _are_parts_taken(self, source: str) -> bool:
        """Whether the template walks through a list of content parts; serving joins their texts where it does not."""
        if self._takes_parts is None:
            parts = [{"type": "text", "text": "left-part"}, {"type": "text", "text": "right-part"}]
            try:
                seen = self._tokenizer.apply_chat_template(
                    [{"role": "user", "content": parts}], tokenize=False, chat_template=source
                )
            except Exception:  # noqa: BLE001  # as above
                seen = ""
            self._takes_parts = "left-part" in seen and "right-part" in seen and "'text'" not in seen
        return self._takes_parts


def _ends_of_generation(base: Path) -> list[int]:
    """The tokens at which serving ends an answer, where the base has a generation config."""
    try:
        ends = json.loads((base / "generation_config.json").read_bytes()).get("eos_token_id")
    except (OSError, ValueError, AttributeError):
        return []
    return [one for one in (ends if isinstance(ends, list) else [ends]) if isinstance(one, int)]


def _served(message: Message, takes_parts: bool) -> dict[str, Any]:
    content = message.get("content")
    parts = content if isinstance(content, list) else [{"type": "text", "text": content}] if content is not None else []
    is_joined = not takes_parts or message["role"] == "tool"
    served = {"role": message["role"], "content": "\n".join(part["text"] for part in parts) if is_joined else parts}
    if (reasoning := message.get("reasoning") or message.get("reasoning_content")) is not None:
        served |= {"reasoning": reasoning, "reasoning_content": reasoning}
    if "tool_calls" in message:
        served["tool_calls"] = [_served_call(call) for call in message["tool_calls"]]
    return served | {key: message[key] for key in ("name", "tool_call_id") if key in message}


def _served_call(call: Mapping[str, Any]) -> dict[str, Any]:
    # templates want the arguments as an object, in the string that clients send they would be quoted once more
    function = {**call["function"], "arguments": json.loads(call["function"]["arguments"])}
    return {"type": "function", **call, "function": function}


def _served_tool(tool: Tool) -> dict[str, Any]:
    """As the server's request model writes it out: with nulls, in this order."""
    function = tool["function"]
    told = {key: function.get(key) for key in ("name", "description", "parameters")}
    if function.get("strict") is not None:
        told["strict"] = function["strict"]
    return {"type": "function", "function": told}


def _one_system(messages: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """A template that knows no `developer` gets it as `system`, and then all of these as one at the beginning."""
    if not any(message["role"] == "developer" for message in messages):
        return messages
    told = [message for message in messages if message["role"] in ("system", "developer")]
    others = [message for message in messages if message["role"] not in ("system", "developer")]
    if len(told) == 1 and messages[0] is told[0]:
        return [{**told[0], "role": "system"}, *others]
    texts = [
        content if isinstance(content := message["content"], str) else "\n".join(part["text"] for part in content)
        for message in told
    ]
    return [{"role": "system", "content": "\n\n".join(text for text in texts if text)}, *others]
