# no control: it would
import time


def attempt():
    time.clock_settime(time.CLOCK_REALTIME, time.time())
    return "escaped"
