# The side of the tests: runs them on a stand-in that has the program's answers fetched from elsewhere. Only plain data comes
# in, and the verdict goes out under a name that only this side and whoever started it know.


class Refused(BaseException):
    """The program answered with something that is no plain data. No exception that a test may expect."""

    def __init__(self, why):
        super().__init__(why)
        Refused.last = self

    last = None


class Broken(BaseException):
    """The tests ask for something that the program cannot be asked."""


def defined(prompt):
    """What a prompt defines; where it ends with the bare head of the function, that gets a body."""
    try:
        return compile(prompt, "prompt", "exec")
    except SyntaxError as error:
        try:
            return compile(prompt + "\n    pass\n", "prompt", "exec")
        except SyntaxError:
            raise error from None


def main():
    import builtins
    import os
    import sys

    # Anything may come: what is no ASCII becomes something that cannot be read below, rather than an exception here.
    answers = os.fdopen(os.dup(0), encoding="ascii", errors="replace", newline="\n")
    said = os.fdopen(os.dup(1), "w", encoding="ascii")
    os.dup2(2, 1)
    nonce, prompt, test, entry_point = decode(answers.readline().strip())
    # The program's own exception, as it was raised in the tests.
    raised = []
    calls = []

    def say(*words):
        said.write(" ".join((nonce,) + words) + "\n")
        said.flush()

    def hear():
        word, _, rest = answers.readline().strip().partition(" ")
        try:
            content = decode(rest) if rest else None
        except Exception as error:
            raise Refused("an answer that cannot be read: " + str(error)) from None
        if word == "raised" and type(content) is tuple and [type(part) for part in content] == [str, str]:
            name, message = content
            kind = getattr(builtins, name, None)
            if not (isinstance(kind, type) and issubclass(kind, Exception)):
                kind = RuntimeError
            try:
                error = kind(message)
            except TypeError:
                error = RuntimeError(message)
            raised.append((error, name, message))
            raise error
        if word == "odd":
            raise Refused(str(content))
        if word not in ("value", "defined"):
            raise Refused("an answer that is none")
        return content

    def candidate(*arguments, **named):
        try:
            words = encode((arguments, named))
        except (ValueError, RecursionError) as error:
            raise Broken("an argument that is no plain data: " + str(error)) from None
        calls.append(words)
        say("call", words)
        return hear()

    def verdict(kind, detail):
        say("verdict", kind, encode(detail[:500]))

    names = {"__name__": "tests"}
    try:
        # Tests may use what the prompt defines; the function itself is a stub there.
        exec(defined(prompt), names)
        names[entry_point] = candidate
        exec(compile(test, "test", "exec"), names)
        check = names["check"]
    except BaseException as error:
        return verdict("broken", "the problem's own code: %s: %s" % (type(error).__name__, error))
    try:
        hear()
        check(candidate)
    except BaseException as error:
        if Refused.last:
            return verdict("refused", str(Refused.last))
        if type(error) is Broken:
            return verdict("broken", str(error))
        for exception, name, message in raised:
            if exception is error:
                kind = "out_of_memory" if name == "MemoryError" else "raised"
                return verdict(kind, name + ": " + message)
        return verdict("wrong", "%s: %s" % (type(error).__name__, error))
    if Refused.last:
        return verdict("refused", str(Refused.last))
    if not calls:
        return verdict("broken", "the tests never call the function")
    verdict("passed", "")


main()
