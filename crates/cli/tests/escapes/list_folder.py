# control: yes
import os


def attempt():
    return "escaped" if "secret" in os.listdir(FOLDER) else "no"
