"""The words of the practice problems, and beside each phrase the code that does what it says."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise
from random import Random
from typing import Any, TypeAlias

Table: TypeAlias = Mapping[tuple[str, str], tuple[tuple[str, ...], ...]]
"""(what goes in, what comes out): rows of (slug, phrase, code) and what a ``{k}`` may stand for."""


@dataclass(frozen=True, slots=True)
class Clause:
    """One part of a problem: its source, a step or its fold.

    Attributes:
        slug: its part of the function's name.
        phrase: its words.
        code: an expression over ``values``, the list so far; of a source, over its parameter.
        takes: the kind of ``values`` (numbers, strings, characters); of a source, its parameter.
        gives: the kind of the values afterwards; of a fold, the annotation of what is returned.
    """

    slug: str
    phrase: str
    code: str
    takes: str
    gives: str


Group: TypeAlias = tuple[Clause, ...]
"""Clauses that differ in one number or letter only."""


def _numbers(rng: Random) -> list[int]:
    return rng.choices(range(-9, 31), k=rng.randint(4, 8))


_VOCABULARY = [
    "apple", "Berlin", "kayak", "noon", "x42", "sky", "Mississippi", "tree", "ox", "echo", "Rust",
    "banana", "R2D2", "eye", "umbrella", "Zoo", "level", "go", "night", "Oslo", "igloo", "ten10",
    "pepper", "Ada", "queue", "radar", "river", "GNU", "stats", "a",
]  # fmt: skip


def _words(rng: Random) -> list[str]:
    return rng.choices(_VOCABULARY, k=rng.randint(3, 6))


PARAMETERS: Mapping[str, tuple[str, Callable[[Random], Any], Any]] = {
    "numbers": ("list[int]", _numbers, []),
    "grid": ("list[list[int]]", lambda rng: [_numbers(rng)[:4] for _ in range(3)], []),
    "pairs": ("list[tuple[int, int]]", lambda rng: list(pairwise(_numbers(rng))), []),
    "scores": ("dict[str, int]", lambda rng: {w: rng.randint(-9, 30) for w in _words(rng)}, {}),
    "words": ("list[str]", _words, []),
    "text": ("str", lambda rng: " ".join(_words(rng)[:4]), ""),
    "line": ("str", lambda rng: ",".join(_words(rng)), ""),
    "n": ("int", lambda rng: rng.randint(5, 24), 0),
    "number": ("int", lambda rng: rng.randint(1_000, 9_999_999), 0),
}  # fmt: skip
"""By name of the parameter: its annotation, a maker of usual values, the edge case."""

# In sources and steps no phrase holds what parts them: ", ", "; ", ". " and " - ".

_SOURCES: Table = {
    ("numbers", "numbers"): (("numbers", "the numbers in the list", "numbers"),),
    ("grid", "numbers"): (
        ("row_sums", "the sum of each row of the grid", "[sum(row) for row in grid]"),
        ("cells", "the numbers of the grid row by row", "[x for row in grid for x in row]"),
    ),
    ("pairs", "numbers"): (
        ("products", "the product of each pair", "[a * b for a, b in pairs]"),
        ("pair_sums", "the sum of each pair", "[a + b for a, b in pairs]"),
    ),
    ("scores", "numbers"): (
        ("scores", "the dictionary's values in insertion order", "list(scores.values())"),
    ),
    ("n", "numbers"): (
        ("integers", "the integers from 1 up to n", "list(range(1, n + 1))"),
        ("countdown", "the integers from n down to 1", "list(range(n, 0, -1))"),
        ("divisors", "the positive divisors of n in ascending order (none if n is not positive)",
         "[d for d in range(1, n + 1) if n % d == 0]"),
    ),
    ("number", "numbers"): (
        ("digits", "the decimal digits of the number from left to right (ignoring any minus sign)",
         "[int(digit) for digit in str(abs(number))]"),
    ),
    ("words", "strings"): (("words", "the strings in the list", "words"),),
    ("scores", "strings"): (("names", "the dictionary's keys in insertion order", "list(scores)"),),
    ("text", "strings"): (("words", "the words of the text (cut at white space)", "text.split()"),),
    ("line", "strings"): (
        ("fields", "the parts of the line between commas (one more part than commas)",
         "line.split(',')"),
    ),
    ("text", "characters"): (("characters", "the characters of the text", "list(text)"),),
}  # fmt: skip

_KEEP: Table = {
    ("numbers", "numbers"): (
        ("even", "are even", "x % 2 == 0"),
        ("odd", "are odd", "x % 2 == 1"),
        ("positive", "are positive", "x > 0"),
        ("nonzero", "are not 0", "x != 0"),
        ("divisible", "are divisible by {k}", "x % {k} == 0", "3 4 5 6"),
        ("indivisible", "are not divisible by {k}", "x % {k} != 0", "3 4 5 6 7"),
        ("large", "are greater than {k}", "x > {k}", "1 2 3 4 5 6 7 8 9 10 12 15"),
        ("small", "are less than {k}", "x < {k}", "4 5 6 7 8 9 10 12 15 20"),
        ("prime", "are prime", "x > 1 and all(x % d for d in range(2, math.isqrt(x) + 1))"),
        ("square", "are perfect squares", "x >= 0 and math.isqrt(x) ** 2 == x"),
        ("short", "have only one decimal digit", "-10 < x < 10"),
        ("above_average", "exceed the mean of all of them", "x * len(values) > sum(values)"),
    ),
    ("strings", "strings"): (
        ("long", "have more than {k} characters", "len(x) > {k}", "2 3 4 5"),
        ("short", "have fewer than {k} characters", "len(x) < {k}", "3 4 5 6"),
        ("even_length", "have an even number of characters", "len(x) % 2 == 0"),
        ("marked", "contain '{k}'", "'{k}' in x", "a e i o r s t"),
        ("unmarked", "do not contain '{k}'", "'{k}' not in x", "a e i o r s t"),
        ("ending", "end with '{k}'", "x.endswith('{k}')", "a e o r w y"),
        ("palindromic", "read the same backwards", "x == x[::-1]"),
        ("lower_case", "contain no upper-case letter", "not any(c.isupper() for c in x)"),
        ("digit_free", "contain no digit", "not any(c.isdigit() for c in x)"),
        ("isogram", "contain no character twice", "len(set(x)) == len(x)"),
    ),
    ("characters", "characters"): (
        ("vowel", "are vowels (a e i o u in either case)", "x in 'aeiouAEIOU'"),
        ("non_vowel", "are not vowels (a e i o u in either case)", "x not in 'aeiouAEIOU'"),
        ("letter", "are letters", "x.isalpha()"),
        ("lower_case", "are lower-case letters", "x.islower()"),
        ("visible", "are not white space", "not x.isspace()"),
        ("late", "come after '{k}' in code point order", "x > '{k}'", "a e i l m o"),
        ("early", "come before '{k}' in code point order", "x < '{k}'", "e i l m o r"),
        ("other", "differ from '{k}'", "x != '{k}'", "a e i o r s t"),
    ),
    ("any", "any"): (
        ("repeated", "occur more than once", "values.count(x) > 1"),
        ("unique", "occur exactly once", "values.count(x) == 1"),
    ),
}  # fmt: skip

_MAP: Table = {
    ("numbers", "numbers"): (
        ("squared", "square each of them", "x * x"),
        ("cubed", "raise each to the third power", "x**3"),
        ("absolute", "replace each by its absolute value", "abs(x)"),
        ("negated", "negate each of them", "-x"),
        ("scaled", "multiply each by {k}", "x * {k}", "2 3 4 5 6 7 8 9 10"),
        ("raised", "add {k} to each", "x + {k}", "1 2 3 4 5 6 7 8 9 10"),
        ("lowered", "subtract {k} from each", "x - {k}", "1 2 3 4 5 6 7 8 9 10"),
        ("mirrored", "subtract each from {k}", "{k} - x", "1 5 10 20 50 100"),
        ("divided", "divide each by {k} and round down", "x // {k}", "2 3 4 5"),
        ("wrapped", "replace each by its non-negative remainder modulo {k}", "x % {k}", "3 4 5 7"),
        ("capped", "replace each above {k} by {k}", "min(x, {k})", "3 4 5 6 7 8 9 10 12"),
        ("lifted", "replace each below {k} by {k}", "max(x, {k})", "1 2 3 4 5 6"),
        ("odd_negated", "negate each odd one", "-x if x % 2 else x"),
        ("even_halved", "halve each even one", "x if x % 2 else x // 2"),
        ("digit_summed", "replace each by the sum of its decimal digits (ignoring any minus sign)",
         "sum(int(digit) for digit in str(abs(x)))"),
    ),
    ("numbers", "strings"): (
        ("decimal", "write each in decimal notation (after a minus sign if negative)", "str(x)"),
        ("binary", "write each in binary notation (after a minus sign if negative)", "f'{x:b}'"),
        ("hexadecimal", "write each in lower-case hexadecimal (after a minus sign if negative)",
         "f'{x:x}'"),
    ),
    ("strings", "strings"): (
        ("reversed", "reverse each of them", "x[::-1]"),
        ("upper_cased", "turn each into upper case", "x.upper()"),
        ("lower_cased", "turn each into lower case", "x.lower()"),
        ("swapped", "swap the case of each letter", "x.swapcase()"),
        ("shortened", "cut each after its first {k} characters", "x[:{k}]", "2 3 4"),
        ("trimmed", "remove the first {k} characters of each", "x[{k}:]", "2 3"),
        ("copied", "replace each by {k} copies of it in one string", "x * {k}", "2 3 4"),
        ("suffixed", "append '{k}' to each", "x + '{k}'", "! ? * + #"),
        ("prefixed", "put '{k}' in front of each", "'{k}' + x", "@ * + # >"),
        ("masked", "replace every '{k}' in them by '*'", "x.replace('{k}', '*')", "a e i o r s t"),
        ("cleaned", "remove every '{k}' from them", "x.replace('{k}', '')", "a e i o r s t"),
        ("sorted", "sort the characters of each by code point", "''.join(sorted(x))"),
    ),
    ("strings", "numbers"): (
        ("lengths_of", "replace each by its number of characters", "len(x)"),
        ("vowel_counts_of", "replace each by its number of vowels (a e i o u in either case)",
         "sum(c in 'aeiouAEIOU' for c in x)"),
        ("alphabet_sizes_of", "replace each by its number of different characters", "len(set(x))"),
        ("counts_in", "replace each by how many '{k}' it contains", "x.count('{k}')", "a e i o r"),
    ),
    ("characters", "characters"): (
        ("upper_cased", "turn each into upper case", "x.upper()"),
        ("lower_cased", "turn each into lower case", "x.lower()"),
        ("swapped", "swap the case of each letter", "x.swapcase()"),
        ("masked", "replace every '{k}' by '*'", "'*' if x == '{k}' else x", "a e i o r s t"),
        ("shifted", "move each of 'a' to 'z' {k} places on in the alphabet (after 'z' comes 'a')",
         "chr((ord(x) - 97 + {k}) % 26 + 97) if 'a' <= x <= 'z' else x", "2 3 4 5 13"),
    ),
    ("characters", "numbers"): (("code_points_of", "replace each by its code point", "ord(x)"),),
}  # fmt: skip

_WHOLE: Table = {
    ("numbers", "numbers"): (
        ("totalled", "replace each by the running total up to and including it",
         "list(itertools.accumulate(values))"),
        ("differences_of",
         "replace them by the differences of neighbours (each minus the one before it)",
         "[b - a for a, b in itertools.pairwise(values)]"),
        ("growing", "keep only those that exceed the one directly before them (never the first)",
         "[b for a, b in itertools.pairwise(values) if b > a]"),
    ),
    ("strings", "strings"): (
        ("length_sorted", "sort them by length (equal lengths stay in order)",
         "sorted(values, key=len)"),
    ),
    ("any", "any"): (
        ("sorted", "sort them as sorted() does", "sorted(values)"),
        ("backward", "reverse their order", "values[::-1]"),
        ("distinct", "drop each that equals an earlier one", "list(dict.fromkeys(values))"),
        ("first", "keep only the first {k} (or all if they are fewer)", "values[:{k}]", "2 3 4 5"),
        ("last", "keep only the last {k} (or all if they are fewer)", "values[-{k}:]", "2 3 4 5"),
        ("later", "drop the first {k} (or all if they are fewer)", "values[{k}:]", "2 3"),
        ("earlier", "drop the last {k} (or all if they are fewer)", "values[:-{k}]", "2 3"),
        ("alternate", "keep every second one starting with the first", "values[::2]"),
        ("rotated", "move the first {k} to the end", "values[{k}:] + values[:{k}]", "2 3"),
    ),
}  # fmt: skip

_FOLDS: Table = {
    ("numbers", "int"): (
        ("sum_of", "the sum of the resulting numbers (0 if none)", "sum(values)"),
        ("product_of", "the product of the resulting numbers (1 if none)", "math.prod(values)"),
        ("largest_of", "the largest resulting number (0 if none)", "max(values, default=0)"),
        ("smallest_of", "the smallest resulting number (0 if none)", "min(values, default=0)"),
        ("span_of", "the largest minus the smallest resulting number (0 if none)",
         "max(values) - min(values) if values else 0"),
        ("alternating_sum_of",
         "the first resulting number minus the second plus the third and so on (0 if none)",
         "sum(values[::2]) - sum(values[1::2])"),
    ),
    ("numbers", "float"): (
        ("mean_of", "the arithmetic mean of the resulting numbers as a float (0.0 if none)",
         "sum(values) / len(values) if values else 0.0"),
    ),
    ("numbers", "bool"): (
        ("are_ascending",
         "whether the resulting numbers are strictly ascending (True if they are fewer than 2)",
         "all(a < b for a, b in itertools.pairwise(values))"),
    ),
    ("strings", "str"): (
        ("joined", "the resulting strings joined with '{k}' between them", "'{k}'.join(values)",
         "/ + | _ :"),
        ("longest_of", "the longest resulting string (of equals the first, '' if none)",
         "max(values, key=len, default='')"),
        ("shortest_of", "the shortest resulting string (of equals the first, '' if none)",
         "min(values, key=len, default='')"),
    ),
    ("strings", "int"): (
        ("total_length_of", "the number of characters in all the resulting strings together",
         "sum(len(x) for x in values)"),
    ),
    ("characters", "str"): (("text_of", "the resulting characters as text", "''.join(values)"),),
    ("any", "list[{item}]"): (
        ("list_of", "the list of the resulting {kind}", "values"),
        ("sorted_list_of", "the list that sorted() makes of the resulting {kind}",
         "sorted(values)"),
    ),
    ("any", "int"): (
        ("number_of", "the number of the resulting {kind}", "len(values)"),
        ("variety_of", "the number of different values among the resulting {kind}",
         "len(set(values))"),
    ),
    ("any", "dict[{item}, int]"): (
        ("counts_of",
         "a dictionary from the resulting {kind} in order of appearance to their counts",
         "{x: values.count(x) for x in values}"),
    ),
}  # fmt: skip

_ITEMS = {"numbers": "int", "strings": "str", "characters": "str"}


def _clauses(table: Table, phrase_form: str = "<>", code_form: str = "<>") -> Iterator[Group]:
    """Make one group of clauses of each row: a clause for each thing its ``{k}`` may be."""
    for (takes, gives), rows in table.items():
        for kind in _ITEMS if takes == "any" else (takes,):
            for slug, phrase, code, *choices in rows:
                words = phrase_form.replace("<>", phrase).replace("{kind}", kind)
                snippet = code_form.replace("<>", code)
                result = kind if gives == "any" else gives.replace("{item}", _ITEMS.get(kind, ""))
                yield tuple(
                    Clause(slug, words.replace("{k}", k), snippet.replace("{k}", k), kind, result)
                    for k in (choices[0].split() if choices else ("",))
                )


SOURCES = tuple(_clauses(_SOURCES))
STEPS = (
    *_clauses(_KEEP, "keep only those that <>", "[x for x in values if <>]"),
    *_clauses(_MAP, code_form="[<> for x in values]"),
    *_clauses(_WHOLE),
)
FOLDS = tuple(_clauses(_FOLDS))
