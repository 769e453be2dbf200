# control: yes
import os


def attempt():
    return "escaped" if "MYNAH_SECRET" in os.environ else "no"
