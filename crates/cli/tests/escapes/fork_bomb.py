# control: yes
import os
import time


def attempt():
    # A small one, whose processes end by themselves.
    children = []
    for _ in range(64):
        child = os.fork()
        if child == 0:
            time.sleep(1)
            os._exit(0)
        children.append(child)
    for child in children:
        os.waitpid(child, 0)
    return "escaped"
