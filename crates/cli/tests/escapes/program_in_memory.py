# control: yes
import os


def attempt():
    return "escaped" if os.memfd_create("program") >= 0 else "no"
