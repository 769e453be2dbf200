# no control: nobody wants to see it
import os


def attempt():
    for descriptor in range(3, 10):
        try:
            for _ in range(1 << 10):
                os.write(descriptor, b"x" * (16 << 10))
        except OSError:
            pass
    return "escaped"
