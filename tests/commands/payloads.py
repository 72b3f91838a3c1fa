"""Texts that try to drive a terminal, forge lines, hide, or be taken for markup."""

from __future__ import annotations

ESC, BEL, ST, CSI8, OSC8, DCS8 = "\x1b", "\x07", "\x1b\\", "\x9b", "\x9d", "\x90"

_SEQUENCES = [
    *(f"{ESC}]{n};owned{end}" for n in (0, 1, 2, 4, 7, 9, 10, 11, 50, 52, 777, 1337) for end in (BEL, ST)),
    f"{ESC}]8;;http://evil.example{ST}click{ESC}]8;;{ST}",
    f"{ESC}]52;c;cm0gLXJmIC8={BEL}",
    *(f"{ESC}[{code}" for code in ("2J", "H", "6n", "c", ">c", "5i", "?1049h", "?25l", "?1000h")),
    *(f"{ESC}[{code}" for code in ("31m", "0m", "8m", "38;2;1;2;3m", "1000000A", "999;999H", "3J")),
    *(f"{ESC}[{code}" for code in ("?2004h", "21t", "20t", "18t", "8;1;1t", "s", "u", "4h", "!p")),
    *(f"{ESC}{code}" for code in ("c", "D", "E", "M", "7", "8", "=", ">", "(0", ")B", "#8", "N", "O")),
    f"{ESC}P+q544e{ST}",
    f"{ESC}Pq#0;2;0;0;0{ST}",
    f"{ESC}_Gf=24;AAAA{ST}",
    f"{ESC}^privacy{ST}",
    f"{ESC}Xstring{ST}",
    *(f"{CSI8}{code}" for code in ("2J", "6n", "31m", "H", "?1049h")),
    f"{OSC8}0;owned{BEL}",
    f"{OSC8}52;c;AAAA\x9c",
    f"{DCS8}+q544e\x9c",
    "\x9f_G\x9c",
    "\x98string\x9c",
    "\x85next line",
    "\x84index",
    "\x8dreverse",
]  # fmt: skip
_CONTROLS = [f"a{chr(n)}b" for n in (*range(32), 127, *range(128, 160)) if chr(n) not in "\n\t"]
_LINES = ["a\nERROR forged", "a\r\nforged", "over\rwritten", "a\vb", "a\fb", "a\u2028b", "a\u2029b"]
_UNSEEN = [
    *(f"a{chr(n)}b" for n in (*range(0x200B, 0x2010), *range(0x202A, 0x202F))),
    *(f"a{chr(n)}b" for n in range(0x2060, 0x2070)),
    *(f"a{chr(n)}b" for n in (0xAD, 0x34F, 0x61C, 0x115F, 0x180E, 0x3164, 0xFEFF, 0xFFA0)),
    *(f"a{chr(n)}b" for n in (0xFFF9, 0xFFFA, 0xFFFB, 0xFFFE, 0xFFFF, 0xE0001, 0xE0041, 0xE007F)),
    "user\u202egnp.exe",
    "\u2066isolate\u2069",
    "admin\u200b",
    "\ufeffbom",
    "lone \ud800 surrogate",
    "lone \udfff surrogate",
]
_MARKUP = [
    *("[/]", "[red]x[/red]", "[link=http://evil.example]x[/link]", "[bold", "\\[red]", "[[]]"),
    *(":skull:", ":warning:", "**bold**", "`code`", "<script>alert(1)</script>", "{0}", "{name}"),
    *("%s%n", "%(name)s", "${HOME}", "$(id)", "`id`", "a\\", "\\", "\\x1b[31m", "\\u001b[31m"),
    *("'; DROP TABLE users; --", '"quoted"', "tab\tbed", "", " ", "-", "--json", "-rf"),
    *("a" * 1000, "é", "日本語", "👩‍👩‍👧", "مرحبا", "e\u0301", "Z̸̢͝a̶l̷g̸o̵", "\u0000"),
    "x" * 1_000_000,
    f"{'y' * 5000}{ESC}[2J{'y' * 5000}",
]
PAYLOADS = tuple(dict.fromkeys([*_SEQUENCES, *_CONTROLS, *_LINES, *_UNSEEN, *_MARKUP]))
