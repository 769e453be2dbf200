# The side of the program: defines it and calls it when it is asked to. Nothing that runs here is believed; the worst that it
# can say is a wrong answer.


def main():
    import os
    import sys

    # What the program prints and reads is none of the conversation.
    requests = os.fdopen(os.dup(0), encoding="ascii")
    replies = os.fdopen(os.dup(1), "w", encoding="ascii")
    nothing, end = os.pipe()
    os.close(end)
    os.dup2(nothing, 0)
    os.dup2(2, 1)

    def reply(text):
        replies.write(text + "\n")
        replies.flush()

    def attempt(step):
        try:
            text = step()
        except BaseException as error:
            try:
                message = str(error)[:500]
            except BaseException:
                message = ""
            text = "raised " + encode((type(error).__name__, message))
        reply(text)

    source, entry_point = decode(requests.readline().strip())
    names = {"__name__": "program"}

    def define():
        exec(compile(source, "program", "exec"), names)
        names[entry_point]
        return "defined"

    def call():
        arguments, named = decode(request.strip())
        value = names[entry_point](*arguments, **named)
        try:
            return "value " + encode(value)
        except (ValueError, RecursionError) as error:
            return "odd " + encode(str(error))

    sys.argv = ["program"]
    attempt(define)
    for request in requests:
        attempt(call)


main()
