"""How filters are written: text in, a tree of tokens out, which filter_language.py reads.

Grammar and positions are lark's: its LALR parser takes time in proportion to the text, without
recursion, whatever the text is. Words of the language are no names: the lexer does not look at what
the parser waits for.
"""

from functools import lru_cache

from lark import Lark, Token, Tree, UnexpectedToken

from protos.errors import InvalidInput

_PARSER = Lark(
    r"""
    ?start: either
    ?either: both (_OR both)*
    ?both: part (_AND part)*
    ?part: _NOT part -> negated
         | "(" either ")"
         | field -> is_set
         | field OP value -> compared
         | field _IN _values -> listed
         | field _NOT _IN _values -> unlisted
    _values: "[" value ("," value)* "]"
    field: NAME | QUOTED_NAME
    value: TEXT | NUMBER | TRUE | FALSE

    _OR: "or"i
    _AND: "and"i
    _NOT: "not"i
    _IN: "in"i
    TRUE: "true"i
    FALSE: "false"i
    OP: "==" | "!=" | "<=" | ">=" | "<" | ">"
    NAME: /[^\W\d]\w*/i
    QUOTED_NAME: /`[^`]+`/
    TEXT: /"(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*'/s
    NUMBER: /[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:e[+-]?[0-9]+)?(?!\w)/i
    %ignore /\s+/

    junk: JUNK  // all that is nothing else: so the parser refuses it, and says what it waits for
    JUNK.-1: /\w+|./s
    """,
    start=["start", "junk"],
    parser="lalr",
    lexer="basic",
)
_WORDS = {
    "NAME": "a field",
    "QUOTED_NAME": "a field",
    "TEXT": "a text in quotes",
    "NUMBER": "a number",
    "TRUE": "true",
    "FALSE": "false",
    "OP": "one of == != < <= > >=",
    "_OR": "OR",
    "_AND": "AND",
    "_NOT": "NOT",
    "_IN": "in",
    "LPAR": '"("',
    "RPAR": '")"',
    "LSQB": '"["',
    "RSQB": '"]"',
    "COMMA": '","',
    "$END": "the end",
}
_CLOSED_BY = {'"': "text", "'": "text", "`": "name"}
MAX_SHOWN = 40
"""Characters of a wrong text that a refusal repeats."""


@lru_cache(maxsize=256)  # a page asks for thousands of readers with the same text
def token_tree(text: str) -> Tree[Token]:
    """Parse a filter; the tree is shared, so read only. Raises InvalidInput that names the place
    and what is expected there."""
    try:
        return _PARSER.parse(text, start="start")
    except UnexpectedToken as error:
        raise InvalidInput(_refusal(error, text)) from error


def place(token: Token) -> str:
    """Return where it stands, for people."""
    assert token.start_pos is not None
    return f"at character {token.start_pos + 1}"


def _refusal(error: UnexpectedToken, text: str) -> str:
    token, expected = error.token, _expected(error)
    if token.type == "$END":
        return f"filter ends too early, after character {len(text)}: expected {expected}"
    found = f"found {token[:MAX_SHOWN]!r}"
    if token in _CLOSED_BY:
        found = f"the {_CLOSED_BY[token]} that begins here is empty or has no end"
    return f"filter does not parse {place(token)}: expected {expected}; {found}"


def _expected(error: UnexpectedToken) -> str:
    names = error.accepts or error.expected
    *most, last = dict.fromkeys(word for name, word in _WORDS.items() if name in names)
    return f"{', '.join(most)} or {last}" if most else last
