# control: yes
import signal
import time


def attempt():
    for number in range(1, 32):
        try:
            signal.signal(number, signal.SIG_IGN)
        except OSError:
            pass
    time.sleep(3 * TIMEOUT)
    return "escaped"
