# control: yes
import time


def attempt():
    time.sleep(3 * TIMEOUT)
    return "escaped"
