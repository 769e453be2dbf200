# control: yes
import os
import sys


def attempt():
    child = os.posix_spawn(sys.executable, [sys.executable, "-c", "pass"], {})
    os.waitpid(child, 0)
    return "escaped"
