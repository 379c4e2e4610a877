"""Text told as its tokens come."""

import inspect

from glam.data.document import Document
from glam.data.subwords import train_tokenizer
from glam.data.tokenizer import ByteTokenizer
from glam.generate.text import Continuation, prompt_of, text_of, visible

TEXT = "na\N{LATIN SMALL LETTER I WITH DIAERESIS}ve \N{EURO SIGN} \N{BUG} end"


def test_bytes_come_as_whole_characters():
    tokenizer = ByteTokenizer()
    told = Continuation(tokenizer, prompt_of(tokenizer, "x"))
    parts = [told.add(token) for token in tokenizer.encode(TEXT)]
    assert "".join(parts) == TEXT
    assert all("\N{REPLACEMENT CHARACTER}" not in part for part in parts)
    assert told.close() == ""


def test_half_a_character_is_told_at_the_end():
    tokenizer = ByteTokenizer()
    told = Continuation(tokenizer, prompt_of(tokenizer, "x"))
    euro = tokenizer.encode("\N{EURO SIGN}")
    assert told.add(euro[0]) == ""
    assert told.add(euro[1]) == ""
    assert told.close() == "\N{REPLACEMENT CHARACTER}"


def test_subwords_keep_the_space_at_the_seam():
    text = inspect.getsource(inspect)[:40_000]
    tokenizer = train_tokenizer([Document(text, "inspect")], 400)
    prompt = prompt_of(tokenizer, "def get(object")
    tokens = tokenizer.encode(", name, return self.value")
    assert len(tokens) < len(", name, return self.value")
    told = Continuation(tokenizer, prompt)
    assert (
        "".join([*map(told.add, tokens), told.close()]) == ", name, return self.value"
    )
    assert text_of(tokenizer, prompt, tokens) == ", name, return self.value"


def test_a_terminal_is_not_steered():
    assert visible("a\x1b[2J\tb\r\n\x9bc\N{EURO SIGN}") == (
        "a\ufffd[2J\tb\ufffd\n\ufffdc\N{EURO SIGN}"
    )
