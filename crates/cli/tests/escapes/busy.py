# control: yes
import time


def attempt():
    end = time.monotonic() + 3 * TIMEOUT
    while time.monotonic() < end:
        pass
    return "escaped"
