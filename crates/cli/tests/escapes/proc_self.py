# control: yes
import os


def attempt():
    return os.listdir("/proc/self/fd") and "escaped"
