"""Captions that try a tokenizer: everyday ones, pieces that its rules speak of joined at random, and characters of all Unicode."""

from __future__ import annotations

import random


def pieces(text: str) -> list[str]:
    return text.split("|")


PIECES = pieces(
    "a|an|the|The|man|woman's|dogs'|isn't|can't|DON'T|it's|I'm|they'll|you've|cannot|gonna|lemme|'twas|'Tis|o'clock|"
    "rock'n'roll|c'mon|y'all|ma'am|'em|'til|'cause|'80s|1980's|Mr.|Ms|Dr.|St.|etc.|etc|Inc.|co. ltd|Jan.|U.S.|U.S.A.|a.m.|"
    "e.g.|A.|I.|vitamin C.|Ph.D.|No. 5|no. 5|fig. 2|vs.|Mass.|ILL.|[|]|(|)|{|}|<|>|<<|<b>|</b>|<img src=\"x\">|<!-- x -->|\"|"
    "'|''|`|``|\"quoted\"|'single'|\u201c|\u201d|\u2018|\u2019|\u00ab|\u00bb|\u201e|\u2026|...|. . .|..|......|--|---|-----|"
    "\u2013|\u2014|!|?!|??|,|;|:|*|**|#tag|###|@user|&|&amp;|&AMP;|&lt;|&quot;|&nbsp;|&mdash;|&eacute;|caf&eacute;|&#233;|"
    "AT&T|B&amp;B|S&P-500|US$5|$3.50|\u20ac5|\u00a35|5\u00a2|50%|1,000|3.14|-5|1/2|3 1/2|\u00bd|2\u00bd|10:30|5'10\"|"
    "12/25/2014|555-1234|(555) 123-4567|+1 555 123 4567|x2|m\u00b2|10\u00b0|www.example.com|http://a.b/c?d=e.|foo@bar.com|"
    "Example.com|photo.jpg|a.jpg,|co-op|mid-1990s|anti-war|non-U.S.|T-shirt|t-shirt.,|black/white|w/o|c++|C#|:)|:-(|;)|:D|"
    "^_^|(^_^)|<3|->|=|+|~|^|\\|\\/|_|a_b|na\u00efve|Z\u00fcrich|\u0130stanbul|\u03a9mega|"
    "\u041f\u0440\u0438\u0432\u0435\u0442|\u0645\u0631\u062d\u0628\u0627|\u0928\u092e\u0938\u094d\u0924\u0947|"
    "\u0e44\u0e17\u0e22|\u65e5\u672c\u8a9e|\u732b\u5750\u5728\u6c99\u53d1\u4e0a|\u4e00\u53ea\u72d7\u3002|\uff0c|\u3001|"
    "\u300a\u4e66\u300b|\u30ab\u30bf\u30ab\u30ca|\U0001f600|\U0001f44d\U0001f3fd|\u2122|\u00b1|\u00d7|\u00b5|\u2022|\u00b7|"
    "\u00bf|\u00a1|\u00a0|\u200b|\u3000|\u00ad|co\u00adop|\t|\uff21|\uff11\uff12|e\u0301|d'Artagnan|L'Or\u00e9al|n't|'S|"
    "\u2019re|don`t|Cap'n|O'Brien|cont'd.|ev'ry|Dunkin'|-LRB-|C.D.s|a.k.a.|ft.|sq.|ext. 5|pp. 3|ca. 1900|pty. ltd|Wm.|About|"
    "However|He|This|As"
) + ["|"]
LETTERS = list(
    "abcdefgABCDIUSnts0123456789 .,'\"-/&;:!?()[]{}<>@#$%*_=+~`^|\\\u2019\u2018\u201c\u201d\u2013\u2014\u2026\u00e9\u00ad"
    "\u4e2d\u6587\u3002\uff0c\u0301\u00bd\u20ac\U0001f600"
)
# All but the ends of lines, which shift what follows in pycocoevalcap, and halves of characters.
PLANE = [chr(code) for code in range(1, 0xFFFE) if code not in (*range(0xA, 0xE), 0x85, 0x2028, 0x2029, *range(0xD800, 0xE000))]
THINGS = pieces("man|woman|dog|cat|child|bicycle|street|table|red t-shirt|two people|players|beach|wave|surfboard|train station")
DOES = pieces(
    "rides|is holding|stands next to|isn't near|and another's friend watch|looks at|jumps over|, in front of|(behind)|with 2"
)
ARTICLES = ("a", "the", "A", "two")


def plain(draw: random.Random) -> str:
    count = draw.randint(1, 4)
    words = " ".join(f"{draw.choice(ARTICLES)} {draw.choice(THINGS)} {draw.choice(DOES)}" for _ in range(count))
    return f"{words} {draw.choice(THINGS)}{draw.choice(('.', '', ' .', '!', '...'))}"


def caption(draw: random.Random) -> str:
    kind = draw.random()
    if kind < 0.3:
        return plain(draw)
    if kind < 0.7:
        return "".join(draw.choice(PIECES) + draw.choice((" ", " ", " ", "", ",", ". ", ".")) for _ in range(draw.randint(1, 12)))
    if kind < 0.9:
        return "".join(draw.choices(LETTERS, k=draw.randint(1, 30)))
    return "".join(draw.choice(PLANE if draw.random() < 0.5 else LETTERS) for _ in range(draw.randint(1, 20)))


def captions(count: int, seed: int) -> list[str]:
    draw = random.Random(seed)
    return [caption(draw) for _ in range(count)]
