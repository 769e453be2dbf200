# control: yes
import os


def attempt():
    for descriptor in range(3, 64):
        try:
            if os.pread(descriptor, 6, 0) == b"secret":
                return "escaped"
        except OSError:
            pass
    return "no"
