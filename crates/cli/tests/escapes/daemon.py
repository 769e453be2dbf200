# control: yes
import os
import time


def attempt():
    # It outlives the program, though not for long.
    child = os.fork()
    if child == 0:
        os.setsid()
        if os.fork() == 0:
            time.sleep(5)
        os._exit(0)
    os.waitpid(child, 0)
    return "escaped"
