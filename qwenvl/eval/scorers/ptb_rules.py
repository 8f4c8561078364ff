"""Which strings are tokens of English text by the Penn Treebank's conventions, as Stanford's PTBTokenizer 3.4.1 takes them, the one
inside pycocoevalcap: a description of its language for `lexer.py`.

Behaviour read in src/edu/stanford/nlp/process/PTBLexer.flex, stanfordnlp/CoreNLP @ v3.4.1; written anew. What only changes tokens
that caption scores leave out (sentence ends, kinds of quotes and dashes) is left out here.
"""

from __future__ import annotations

import unicodedata

from qwenvl.eval.scorers.lexer import Rule, Test, class_test


def _any(words: str) -> str:
    return f"({'|'.join(words.split())})"


def _ranges(table: str) -> str:
    """'0041-005A 00B5' -> the inside of a class."""
    return "".join("-".join(chr(int(end, 16)) for end in entry.split("-")) for entry in table.split())


# Letters and digits that Unicode has had since 7.0, and that the tokenizer, generated with Java 7's tables, does not know.
_NEWER = class_test(
    _ranges(
        "037F 0528-052F 0560 0588 05EF 0860-086A 0870-0887 0889-088E 08A1 08AD-08C9 0978 0980 09FC 0AF9 0C34 0C5A 0C5D 0C80 0CDD "
        "0D04 0D54-0D56 0D5F 0DE6-0DEF 0E86 0E89 0E8C 0E8E-0E93 0E98 0EA0 0EA8-0EA9 0EAC 13F5 13F8-13FD 16F1-16F8 170D 171F 1878 "
        "191D-191E 19B0-19C0 19C8-19C9 1B4C 1C80-1C88 1C90-1CBA 1CBD-1CBF 1CF2-1CF3 1CFA 2C2F 2C5F 312E-312F 31BB-31BF 4DB6-4DBF "
        "9FCD-9FFF A698-A69D A78F A794-A79F A7AB-A7DF A7F1-A7F7 A8FD-A8FE A9E0-A9FE AA7E-AA7F AB30-AB6F AB70-ABBF"
    )
)
# What it takes for letters besides: the soft hyphen, modifiers, marks and signs that combine.
_ALSO_LETTERS = class_test(
    _ranges(
        "00AD 0237-024F 02C2-02C5 02D2-02DF 02E5-037D 0384-0385 03CF 03F6 03FC-03FF 0483-0487 04CF 04F6-04FF 0510-0525 055A-055F "
        "0591-05BD 05BF 05C1-05C2 05C4-05C5 05C7 0615-061A 063B-063F 064B-065E 0670 06D6-06EF 06FA-06FF 070F 0711 0730-077F "
        "07A6-07B1 07CA-07F5 07FA 0900-0903 093C 093E-094E 0951-0955 0962-0963 0981-0983 09BC-09C4 09C7-09C8 09CB-09CD 09D7 "
        "09E2-09E3 0A01-0A03 0A3C 0A3E-0A4F 0A81-0A83 0ABC-0ACF 0B82 0BBE-0BC2 0BC6-0BC8 0BCA-0BCD 0C01-0C03 0C3E-0C56 0D3E-0D44 "
        "0D46-0D48 0E30-0E3A 0E47-0E4E 0EB1-0EBC 0EC8-0ECD"
    )
)


def _is(kind: str) -> Test:
    """Of a category of Unicode. Beyond U+FFFF the tokenizer sees halves of characters, which are of none."""
    return lambda char: unicodedata.category(char).startswith(kind) and char <= "\uffff" and not _NEWER(char)


KINDS: dict[str, Test] = {
    "letter": _is("L"),
    "digit": _is("Nd"),
    "mark": _ALSO_LETTERS,
    "any": lambda char: True,
    "symbol": class_test(
        "+%&~\\^|\\\\"
        + _ranges(
            "00A6-00A9 00AC 00AE-00BA 00D7 00F7 0387 05BE 05C0 05C3 05C6 05F3-05F4 0600-0603 0606-060A 060C 0614 061B 061E 066A "
            "066D 0703-070D 07F6-07F8 0964-0965 0E4F 1FBD 2016-2017 2020-2023 2030-2038 203B 203E-2042 2044 207A-207F 208A-208E "
            "2100-214F 2190-2BFF 3012 30FB FF01-FF0F FF1A-FF20 FF3B-FF40 FF5B-FF65"
        )
    ),
}  # fmt: skip

PARTS = {
    "space": "[ \t\u00a0\u2000-\u200a\u3000]",
    "newline": "(\r\n|[\r\n\u2028\u2029\u000b\u000c\u0085])",
    "blank": "({space}|{newline})",
    "numeral": "({digit}|[\u07c0-\u07c9])",
    "char": "({letter}|{mark}|&[aeiouAEIOU](acute|grave|uml);)",  # with entities for accented letters
    "apostrophe": "(['\u0092\u2019]|&apos;)",
    "tick": "({apostrophe}|[`\u0091\u2018\u201b])",  # what else may stand for it within a word
    "word": "{char}({char}|{numeral})*([.!?]{char}({char}|{numeral})*)*",
    "ending": "{apostrophe}([msdMSD]|re|ve|ll)",  # 's, 'm, 'd, 're, 've, 'll
    "negation": "n{tick}t",
    "name": "[A-Za-z][A-Za-z0-9_:.\\-]*",
    "attribute": "[ ]+({name}|{name}[ ]*=[ ]*('[^']*'|\"[^\"]*\"))",
    "tag": "<([!?][A-Za-z\\-][^>\r\n]*|{name}({attribute})*[ ]*/?|/{name})[ ]*>",
    "acronym": "([A-Za-z](\\.[A-Za-z])*|{of_states})",
    "long_acronym": "([A-Za-z](\\.[A-Za-z])+|{of_states})",
    "of_states": "((Canada|Sino|Korean|EU|Japan|non)-U\\.S|U\\.S\\.-(U\\.K|U\\.S\\.S\\.R))",
    "plain": "({letter}|{digit})",
    "elided": "([dDoOlL]{tick}{plain})?{plain}+",  # d'Artagnan, o'clock
    "compound": "{elided}([-_\u058a\u2010\u2011]{elided})*",
    "hyphenated": "[A-Za-z0-9][A-Za-z0-9.,\u00ad]*(-([A-Za-z0-9\u00ad]+|{long_acronym}\\.))+",
    "slashed": "[A-Za-z0-9]+(-[A-Za-z]+){0,2}",
    "count": "({numeral}+|{numeral}*([.:,\u00ad\u066b\u066c]{numeral}+)+)",
    "four": "{numeral}{1,4}",
    "extension": _any(
        "bat bmp c class cgi cpp dll doc docx exe gif gz h htm html jar java jpeg jpg mov mp3 pdf php pl png ppt ps py sql tar txt "
        "wav x xml zip"
    ),
    "stretch": "[^ \t\n\f\r\"<>|(){}]",  # of an address
    "last": "[^ \t\n\f\r\"<>|.!?(){},\\-]",  # its last character
    "host": "[^ \t\n\f\r\"<>|.!?(){},]",
    "mail": "[^ \t\n\f\r\"<>|(){}\u00a0]",
    "mail_label": "[^ \t\n\f\r\"<>|(){}.\u00a0]",
    # Abbreviations that a capital after them ends a sentence, that it does not, and such as only stand before numbers. A letter in
    # brackets must be a capital: in lower case the word is a common one.
    "ends_maybe": _any(
        "Jan Feb Mar Apr Jun Jul Aug Sept? Oct Nov Dec Mon Tues? Wed Thu(rs)? Fri "
        "Ala Ariz [A]z [A]rk Calif Colo Conn Ct Dak [D]el Fla Ga [I]ll Ind Kans? Ky [L]a [M]ass Md Mich Minn [M]iss Mo Mont Neb "
        "Nev Okla [O]re [P]a Penn Tenn [T]ex Va Vt [W]ash Wisc? Wyo "
        "Inc Cos? Corp Pp?t[ye]s? Ltd Plc Rt Bancorp Bhd Assn Univ Intl Sys tel est ext sq "
        "Jr Sr Bros (Ed|Ph)\\.D Blvd Rd Esq etc al seq Bldg"
    ),
    "goes_on": _any(
        "Mr Mrs Ms [M]iss Drs? Profs? Sens? Reps? Attys? Lt Col Gen Messrs Govs? Adm Rev Maj Sgt Cpl Pvt Capt Ste? Ave Pres Lieut "
        "Hon Brig Co?mdr Pfc Spc Supts? Det Mt Ft Adj Adv Asst Assoc Ens Insp Mlle Mme Msgr Sfc "
        "vs Alex Wm Jos Cie a\\.k\\.a cf TREAS Ph {acronym} Invt Elec Natl M[ft]g Dept"
    ),
    "before_number": _any("ca figs? prop nos? art bldg pp op"),
    "opener": _any(
        "[A]bout [A]ccording [A]dditionally [A]fter [A]n [A] [A]s [A]t [B]ut [E]arlier [H]e [H]er [H]ere [H]owever [I]f [I]n [I]t "
        "[L]ast [M]any [M]ore [M]r\\. [M]s\\. [N]ow [O]nce [O]ne [O]ther [O]ur [S]he [S]ince [S]o [S]ome [S]uch [T]hat [T]he "
        "[T]heir [T]hen [T]here [T]hese [T]hey [T]his [W]e [W]hen [W]hile [W]hat [Y]et [Y]ou {tag}"
    ),
    "side": "[\\^x=~<>]",
    "eye": "[\\-\\^x=~<>']",
}  # fmt: skip

RULES: list[tuple[str, Rule]] = [
    ("keep", Rule("c\\+\\+|(c|f)#")),
    ("back 3", Rule("cannot|'twas")),
    ("back 2", Rule("'tis|gonna|gotta|lemme|gimme|wanna")),
    ("spaced", Rule("{tag}")),
    ("drop", Rule("&(MD|mdash|ndash);|[\u0096\u0097\u2013-\u2015]")),
    ("ampersand", Rule("&amp;")),
    ("keep", Rule("&(HT|TL|UR|LR|QC|QL|QR|odq|cdq|#[0-9]+);")),
    ("soft", Rule("{word}", "{ending}")),
    ("soft", Rule("[A-Za-z\u00ad]*[A-MO-Za-mo-z]\u00ad*", "{negation}")),
    ("soft", Rule("{word}")),
    ("keep", Rule(
        "{apostrophe}n{apostrophe}?|[lLdDjJ]{apostrophe}|(Dunkin|somethin|ol){apostrophe}|{apostrophe}em|"
        "[A-HJ-XZn]{tick}{letter}{letter}+|{apostrophe}[2-9]0s|{apostrophe}till?|{letter}+[aeiouyAEIOUY]{tick}[aeiouA-Z]{letter}*|"
        "{apostrophe}cause|cont'd\\.?|'twas|nor'easter|c'mon|e'er|s'mores|ev'ry|li'l|nat'l|O{tick}o"
    )),
    ("keep", Rule("y{apostrophe}", "{letter}")),
    ("keep", Rule("https?://{stretch}+{last}")),
    ("keep", Rule(
        "(www\\.({host}+\\.)+[a-zA-Z]{2,4}|([^ \t\n\f\r\"`'<>|!?(){},-_$.]+\\.)+(com|net|org|edu))"
        "(/[^ \t\n\f\r\"<>|()]+{last})?"
    )),
    ("keep", Rule("(&lt;|<)?[a-zA-Z0-9]{mail}*@({mail_label}+\\.)*{mail_label}+(&gt;|>)?")),
    ("keep", Rule("@[a-zA-Z_][a-zA-Z_0-9]*|#{char}+")),
    ("quotes", Rule("{ending}|{negation}", "[^A-Za-z]")),
    ("keep", Rule("{numeral}{1,2}[\\-/]{numeral}{1,2}[\\-/]{numeral}{2,4}")),
    ("soft", Rule("[\\-+]?{count}")),
    ("keep", Rule("[\u207a\u207b\u208a\u208b]?([\u2070\u00b9\u00b2\u00b3\u2074-\u2079]+|[\u2080-\u2089]+)")),
    ("spaced", Rule("({four}[\\- \u00a0])?{four}(\\\\?/|\u2044){four}")),
    ("fraction", Rule("[\u00bc-\u00be\u2153-\u215e]")),
    ("ampersand", Rule(
        "-(RRB|LRB|RCB|LCB|RSB|LSB)-|C\\.D\\.s|pro-|anti-|S(&|&amp;)P-500|S(&|&amp;)Ls|Cap{apostrophe}n|c{apostrophe}est"
    )),
    ("keep", Rule("{slashed}(\\\\?/{slashed}){1,2}|[A-Z]*\\$|#")),
    ("currency", Rule("[\u0080\u00a2-\u00a5\u060b\u0e3f\u20a0\u20a4\u20ac\uffe0\uffe1\uffe5\uffe6]")),
    ("acronym", Rule("{acronym}\\.", "{blank}+{opener}{blank}")),
    ("keep", Rule("{before_number}\\.", "{blank}?{digit}")),
    ("keep", Rule("(pt[eyEY]|co)\\.", "{space}(ltd|lim)")),
    ("keep", Rule("{ends_maybe}\\.", "{any}{any}")),
    ("again", Rule("{ends_maybe}\\.")),
    ("keep", Rule("{goes_on}\\.")),
    ("keep", Rule("{goes_on}", "{space}")),
    ("keep", Rule("{acronym}|{apostrophe}[0-9][0-9]", "{blank}")),
    ("keep", Rule("({char}|{numeral})+(\\.({char}|{numeral})+)*\\.{extension}", "({blank}|[.?!,])")),
    ("soft", Rule("{word}\\.", "[,;:\u3001]")),
    ("phone", Rule(
        "(\\([0-9]{2,3}\\)[ \u00a0]?|(\\+\\+?)?([0-9]{2,4}[\\- \u00a0])?[0-9]{2,4}[\\- \u00a0])[0-9]{3,4}[\\- \u00a0]?[0-9]{3,5}|"
        "((\\+\\+?)?[0-9]{2,4}\\.)?[0-9]{2,4}\\.[0-9]{3,4}\\.[0-9]{3,5}"
    )),
    ("drop", Rule("\"|&quot;|\x7f")),
    ("less", Rule("<|&lt;")),
    ("greater", Rule(">|&gt;")),
    ("brackets", Rule("[<>]?[:;=][\\-o*']?[()DPdpO\\\\{@|\\[\\]]", "[^A-Za-z0-9]")),
    ("brackets", Rule(
        "{side}\\.\\[\\^x=[^<]*<>\\]|{eye}_{eye}|\\({eye}[_.]?{eye}\\)|\\({side}-[\\^x=~<>'`]\\)"
    )),
    ("brackets", Rule("[(){}\\[\\]]")),
    ("dashes", Rule("-+")),
    ("drop", Rule("\\.{3,5}|(\\.[ \u00a0]){2,4}\\.|[\u0085\u2026]")),
    ("keep", Rule("@+|#+|_+|\\*+|(\\\\\\*){1,3}|[,;:\u3001]|[?!]+|[.¡¿\u037e\u0589\u061f\u06d4\u0700-\u0702\u07fa\u3002]|=|/")),
    ("soft", Rule("{hyphenated}\\.", "[,;:\u3001]")),
    ("soft", Rule("{hyphenated}")),
    ("keep", Rule("{compound}\\.", "[,;:\u3001]")),
    ("keep", Rule("{compound}")),
    ("ampersand", Rule("[A-Z]+((\\+|&|&amp;)[A-Z]+)+\\.", "[,;:\u3001]")),
    ("ampersand", Rule("[A-Z]+((\\+|&|&amp;)[A-Z]+)+")),
    ("drop", Rule("'", "[A-Za-z][^ \t\n\r\u00a0]")),
    ("quotes", Rule(
        "{ending}|{negation}|{apostrophe}|''|"
        "[`\u2018\u2019\u201a-\u201f\u0091-\u0094\u2039\u203a\u00ab\u00bb]{1,2}"
    )),
    ("keep", Rule("<<|>>|{symbol}")),
    ("drop", Rule("\x00|{space}+|[\u200b\u200e\u200f\ufeff]|{newline}|&nbsp;|{any}")),
]  # fmt: skip
"""(what becomes of the token, rule): see `ptb.py`."""
