# Plain data as one line of text: what may pass between a program that nobody trusts and its judge. A value is a word for its
# type followed by its parts; only these types exist, exactly, so that nothing arrives which has an `__eq__` of its own.

DEPTH = 64


def encode(value, depth=DEPTH):
    if depth == 0:
        raise ValueError("nested too deeply")
    if value is None:
        return "n"
    # What derives from plain data (a counter, a named tuple) goes as what it derives from: so it arrives with an `__eq__` that is known.
    kind = next((kind for kind in type(value).__mro__ if kind in PLAIN), None)
    if kind is bool:
        return "t" if value else "u"
    if kind is int:
        return "i%x" % int.__index__(value)
    if kind is float:
        return "f" + float.hex(value)
    if kind is complex:
        return "c %s %s" % (value.real.hex(), value.imag.hex())
    if kind is str:
        return "s" + str.encode(value, "utf-8", "surrogatepass").hex()
    if kind is bytes:
        return "b" + bytes.hex(value)
    if kind in COLLECTIONS:
        parts = [item for pair in dict.items(value) for item in pair] if kind is dict else list(kind.__iter__(value))
        return " ".join(["%s%d" % (COLLECTIONS[kind], len(parts))] + [encode(part, depth - 1) for part in parts])
    raise ValueError("a value of type " + type(value).__name__)


COLLECTIONS = {list: "l", tuple: "p", dict: "d", set: "e", frozenset: "z"}
PLAIN = {bool, int, float, complex, str, bytes, *COLLECTIONS}
MAKERS = {letter: kind for kind, letter in COLLECTIONS.items()}


def decode(line):
    words = iter(line.split(" "))
    value = decode_next(words, DEPTH)
    if next(words, None) is not None:
        raise ValueError("more than one value")
    return value


def decode_next(words, depth):
    if depth == 0:
        raise ValueError("nested too deeply")
    word = next(words, "")
    letter, rest = word[:1], word[1:]
    if letter == "i":
        return int(rest, 16)
    if letter == "s":
        return bytes.fromhex(rest).decode("utf-8", "surrogatepass")
    if letter == "f":
        return float.fromhex(rest)
    if letter == "n":
        return None
    if letter == "t":
        return True
    if letter == "u":
        return False
    if letter == "b":
        return bytes.fromhex(rest)
    if letter == "c":
        return complex(float.fromhex(next(words)), float.fromhex(next(words)))
    if letter not in MAKERS:
        raise ValueError("no value")
    parts = []
    for _ in range(int(rest)):
        parts.append(decode_next(words, depth - 1))
    if letter == "d":
        return dict(zip(parts[::2], parts[1::2]))
    return MAKERS[letter](parts)
